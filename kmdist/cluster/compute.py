"""What a job's options say of where it runs."""

from dataclasses import dataclass
from typing import Any

from kmdist.errors import UsageError

WORKER_KINDS = ("auto", "thread", "process")


@dataclass(frozen=True)
class Compute:
    """Where a job runs; the command line's options of the same names.

    Parameters
    ----------
    workers : number of local workers; None: usable cores.
    worker_kind : ``auto``, ``thread`` or ``process``.
    cluster : ``FILE[:PROFILE]`` of a cluster file, or None.
    scheduler : address of a running Dask scheduler, or None.
    client : a connected `distributed.Client` to use as it is, or None.
    trust : further modules whose classes a cluster file may name.
    insecure : let a scheduler be used that others on the network can reach without TLS.

    Raises
    ------
    UsageError : a value that is not allowed, or two that contradict each other.
    """

    workers: int | None = None
    worker_kind: str = "auto"
    cluster: str | None = None
    scheduler: str | None = None
    client: Any = None
    trust: tuple[str, ...] = ()
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.worker_kind not in WORKER_KINDS:
            raise UsageError(
                f"--worker-kind {self.worker_kind!r}: must be {', '.join(WORKER_KINDS)}"
            )
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers}: must be 1 or more")
        if self.cluster and self.scheduler:
            raise UsageError("--cluster and --scheduler both say where to run: give one of them")

    @property
    def remote(self) -> bool:
        """Whether something other than this machine's default is asked for."""
        return bool(self.client or self.scheduler or self.cluster)
