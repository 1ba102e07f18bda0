"""Pools: threads of this process, or the workers of a Dask cluster, behind one interface."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from kmdist.errors import KmdistError


class Pool(Protocol):
    """Where tasks run. Futures are opaque to the caller and may be arguments of later tasks."""

    @property
    def threads(self) -> int:
        """Tasks that run at the same time."""

    @property
    def memory_bytes(self) -> int:
        """Memory that all running tasks and kept results together may use."""

    @property
    def processes(self) -> int:
        """Processes that the job is spread over, the caller's included."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Start ``function(*args)``; futures among `args`, or in lists there, become results."""

    def submit_all(
        self, function: Callable[..., Any], each: Sequence[Sequence[Any]]
    ) -> Sequence[Any]:
        """`submit` of the same function for several lists of arguments, in one message."""

    def spread(self, futures: Sequence[Any]) -> list[Any]:
        """The same finished results, an even share of them on each worker."""

    def holders(self, futures: Sequence[Any]) -> "Holders | None":
        """Workers to call for finished results; None where there is nothing to gain by that."""

    def broadcast(self, value: Any) -> Any:
        """A future of `value`, which travels to each worker once."""

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for the futures and fetch their results."""

    def completion(self) -> "Completion":
        """A set of futures to be taken out as they finish."""

    def retry(self, future: Any) -> Any:
        """A future of the same result; tasks that were blamed for deaths are run again for it."""

    def cancel(self, futures: Sequence[Any]) -> None:
        """Forget tasks that have not run, and free what the others hold."""


class Holders(Protocol):
    """Workers that hold results between passes."""

    def apply(
        self, function: Callable[..., Any], *arguments: Any, merge: Callable[[list[Any]], Any]
    ) -> Any:
        """Merged results of ``function(item, *arguments)`` for each; None where a call failed."""


class Completion(Protocol):
    """Futures in flight, taken out in the order in which they finish."""

    def add(self, future: Any) -> None:
        """Watch a future."""

    def next(self) -> Any:
        """Wait for the next finished future, failed ones included."""


class LostBlockError(KmdistError):
    """A block that killed the workers it ran on, or whose worker ran out of memory."""


def memory_limit_bytes() -> int:
    """Memory this process may use: what is available now, within the cgroup's limit.

    Returns
    -------
    int : bytes; the smaller of the system's available memory and the cgroup v1 or v2 limit less
        its current use (Linux kernel documentation, cgroup-v2, ``memory.max``).
    """
    import psutil

    limit = int(psutil.virtual_memory().available)
    for maximum, current in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            ceiling, used = Path(maximum).read_text().strip(), Path(current).read_text().strip()
        except OSError:
            continue
        if ceiling.isdigit():
            limit = min(limit, max(int(ceiling) - int(used), 0))
    return limit
