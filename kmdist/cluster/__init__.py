"""Where jobs run: from `cluster.yaml`, a scheduler's address or nothing to a pool of workers.

==================  ============================================================================
`Compute`           what a job's options say of where it runs
`open_pool`         workers for a job, released at the end
`profiles`          the cluster file
`connection`        from a profile to a connected client: starting, joining, waiting, refusing
`check`             what `kmdist cluster check` finds
==================  ============================================================================
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmdist.cluster.check import Finding, check_cluster
    from kmdist.cluster.compute import Compute
    from kmdist.cluster.connection import connect
    from kmdist.cluster.profiles import Profile, profile_of, read_profile
    from kmdist.cluster.workers import local_workers, open_pool

_HOMES = {
    "Compute": "kmdist.cluster.compute",
    "Finding": "kmdist.cluster.check",
    "Profile": "kmdist.cluster.profiles",
    "check_cluster": "kmdist.cluster.check",
    "connect": "kmdist.cluster.connection",
    "local_workers": "kmdist.cluster.workers",
    "open_pool": "kmdist.cluster.workers",
    "profile_of": "kmdist.cluster.profiles",
    "read_profile": "kmdist.cluster.profiles",
}

__all__ = [
    "Compute",
    "Finding",
    "Profile",
    "check_cluster",
    "connect",
    "local_workers",
    "open_pool",
    "profile_of",
    "read_profile",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kmdist.cluster' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
