"""What a job's options say of where it runs."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from kmdist.errors import UsageError
from kmdist.options import Option, Options, PositiveInt, texts_option

WorkerKind = Literal["auto", "thread", "process"]


def _connected(client: Any) -> Any:
    if not hasattr(client, "scheduler_info"):
        raise ValueError(f"must be a connected distributed.Client, got {client!r}")
    return client


class Compute(Options, frozen=True, kw_only=True):
    """Where a job runs.

    Raises
    ------
    UsageError : a value that is not allowed, or two that contradict each other.
    """

    workers: Annotated[PositiveInt | None, Option("Local workers; default: all cores.")] = None
    worker_kind: Annotated[
        WorkerKind, Option("auto: threads for small work, one process per core for large.")
    ] = "auto"
    cluster: Annotated[
        str | None, Option("Run where this cluster file says.", metavar="FILE[:PROFILE]")
    ] = None
    scheduler: Annotated[str | None, Option("Run on this Dask scheduler.", metavar="URL")] = None
    client: Annotated[
        Any, Option("A connected distributed.Client.", parse=_connected, python_only=True)
    ] = None
    trust: Annotated[
        Sequence[str],
        texts_option("Let the cluster file name its classes.", "MODULE"),
    ] = ()
    insecure: Annotated[bool, Option("Allow a scheduler in the open without TLS.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cluster and self.scheduler:
            raise UsageError("--cluster and --scheduler both say where to run: give one of them")

    @property
    def remote(self) -> bool:
        """Whether something other than this machine's default is asked for."""
        return bool(self.client or self.scheduler or self.cluster)
