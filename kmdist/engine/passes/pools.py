"""Pools: threads of this process, or the workers of a Dask cluster, behind one interface."""

import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
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


class _QueueCompletion:
    """Finished thread futures, by their callbacks."""

    def __init__(self) -> None:
        self._finished: queue.SimpleQueue[ThreadFuture[Any]] = queue.SimpleQueue()

    def add(self, future: "ThreadFuture[Any]") -> None:
        future.add_done_callback(self._finished.put)

    def next(self) -> "ThreadFuture[Any]":
        while True:  # a time-out lets Ctrl-C through on every platform
            try:
                return self._finished.get(timeout=0.5)
            except queue.Empty:
                continue


class ThreadPool:
    """Tasks on threads of this process: no start-up, nothing listens.

    Kernels release the GIL, so threads scale as processes do for work that is mostly kernels.

    Parameters
    ----------
    threads : tasks that run at the same time.
    memory_bytes : what they may use together; by default 80 % of what is available.
    """

    def __init__(self, threads: int, memory_bytes: int | None = None) -> None:
        self.threads = threads
        self.processes = 1
        self.memory_bytes = memory_bytes or int(0.8 * memory_limit_bytes())
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="kmdist")

    def submit(self, function: Callable[..., Any], *args: Any) -> "ThreadFuture[Any]":
        result: ThreadFuture[Any] = ThreadFuture()
        waiting = _futures_in(args)
        remaining = len(waiting) + 1
        # Awaited futures keep their callbacks: these must not keep results, theirs or ours.
        task: list[tuple[Any, ...]] = [(result, function, args)]
        del args
        lock = threading.Lock()

        def one_ready(awaited: Any = None) -> None:
            nonlocal remaining
            with lock:
                remaining -= 1
                start = remaining == 0
            if not start:
                return
            future, called, given = task.pop()
            try:
                self._executor.submit(_run_into, future, called, given)
            except RuntimeError as error:  # the pool was closed while its last task still ran
                if awaited is None:
                    raise
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)

        for future in waiting:
            future.add_done_callback(one_ready)
        one_ready()
        return result

    def submit_all(
        self, function: Callable[..., Any], each: Sequence[Sequence[Any]]
    ) -> list["ThreadFuture[Any]"]:
        return [self.submit(function, *args) for args in each]

    def spread(self, futures: Sequence[Any]) -> list[Any]:
        return list(futures)

    def holders(self, futures: Sequence[Any]) -> None:
        """None: threads hold all there is."""

    def broadcast(self, value: Any) -> "ThreadFuture[Any]":
        future: ThreadFuture[Any] = ThreadFuture()
        future.set_result(value)
        return future

    def gather(self, futures: Sequence["ThreadFuture[Any]"]) -> list[Any]:
        return [future.result() for future in futures]

    def completion(self) -> Completion:
        return _QueueCompletion()

    def retry(self, future: "ThreadFuture[Any]") -> "ThreadFuture[Any]":
        return future  # threads do not die

    def cancel(self, futures: Sequence["ThreadFuture[Any]"]) -> None:
        for future in futures:
            future.cancel()

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _futures_in(args: Sequence[Any]) -> list["ThreadFuture[Any]"]:
    found = []
    for value in args:
        if isinstance(value, ThreadFuture):
            found.append(value)
        elif isinstance(value, list):
            found.extend(_futures_in(value))
    return found


def _resolve(value: Any) -> Any:
    if isinstance(value, ThreadFuture):
        return value.result()
    if isinstance(value, list):
        return [_resolve(item) for item in value]
    return value


def _run_into(
    result: "ThreadFuture[Any]", function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    if not result.set_running_or_notify_cancel():
        return
    try:
        value = function(*[_resolve(arg) for arg in args])
    except BaseException as error:
        result.set_exception(error)
    else:
        result.set_result(value)


def usable_cores() -> int:
    """Cores this process may use, by affinity and cgroup."""
    from dask.system import cpu_count

    return max(1, int(cpu_count() or os.cpu_count() or 1))
