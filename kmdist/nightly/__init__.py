"""Every night over folders that grow: only what is new or changed is labelled.

==================  ============================================================================
`Settings`          what a nightly job is asked for
`run_night`         one night, from taking the lock to writing its JSON
`status`, `find`    what is done, waiting, quarantined; which run holds a file's labels
`verify`            read all results again and hold them against the ledger
`ledger`            SQLite: what is known of every file, run and model
`lock`              one night at a time
`scan`              what is there, compared with what is known
`models`            versions of the model: when a new one is due, and fitting it
`outcome`           what a night did; `settling`: what became of each file
==================  ============================================================================

::

    RESULTS/ledger.sqlite            what is known
    RESULTS/lock                     held (flock) by the night that runs, freed by its death
    RESULTS/models/0001.zarr …       versions of the model, never changed
    RESULTS/runs/STAMP.zarr          one ordinary run a night (UTC, seconds)
    RESULTS/nights/STAMP.json        what the night did
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmdist.nightly.checking import verify
    from kmdist.nightly.night import run_night
    from kmdist.nightly.outcome import Night
    from kmdist.nightly.report import find, status
    from kmdist.nightly.settings import Settings

_HOMES = {
    "Night": "kmdist.nightly.outcome",
    "Settings": "kmdist.nightly.settings",
    "find": "kmdist.nightly.report",
    "run_night": "kmdist.nightly.night",
    "status": "kmdist.nightly.report",
    "verify": "kmdist.nightly.checking",
}

__all__ = ["Night", "Settings", "find", "run_night", "status", "verify"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kmdist.nightly' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
