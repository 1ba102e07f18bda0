"""Pools: threads of this process, or the workers of a Dask cluster, behind one interface."""

import asyncio
import queue
import threading
import time
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

    def broadcast(self, value: Any) -> Any:
        """A future of `value`, which travels to each worker once."""

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for the futures and fetch their results."""

    def completion(self) -> "Completion":
        """A set of futures to be taken out as they finish."""

    def cancel(self, futures: Sequence[Any]) -> None:
        """Forget tasks that have not run, and free what the others hold."""


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

    def broadcast(self, value: Any) -> "ThreadFuture[Any]":
        future: ThreadFuture[Any] = ThreadFuture()
        future.set_result(value)
        return future

    def gather(self, futures: Sequence["ThreadFuture[Any]"]) -> list[Any]:
        return [future.result() for future in futures]

    def completion(self) -> Completion:
        return _QueueCompletion()

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


LOOK_EVERY_S = 5.0
"""Seconds without a result after which a pool looks whether there are workers at all."""


class _DaskCompletion:
    def __init__(self, client: Any, look_after: Callable[[], None]) -> None:
        from distributed import as_completed

        self._futures = as_completed(loop=client.loop, raise_errors=False)
        self._look_after = look_after

    def add(self, future: Any) -> None:
        self._futures.add(future)

    def next(self) -> Any:
        looked = time.monotonic()
        while not self._futures.has_ready() and not self._futures.is_empty():
            with self._futures.thread_condition:
                self._futures.thread_condition.wait(timeout=0.1)
            if time.monotonic() - looked > LOOK_EVERY_S:
                self._look_after()
                looked = time.monotonic()
        return self._futures.next()


def _identity(value: Any) -> Any:
    return value


class DaskPool:
    """Tasks on the workers of a `distributed.Client`.

    Parameters
    ----------
    client : connected client; it stays the caller's to close.
    memory_share : of the workers' limits that tasks may use. By default 60 %, where Dask begins
        to spill.
    patience_s : how long there may be no worker at all before the job gives up.
    top_up : called while there are no results; starts workers anew that are gone for good.

    Notes
    -----
    `broadcast` is a task, not a scatter: the scheduler can run it again when every worker that
    held the value is gone, and each worker fetches the value once from another.
    """

    def __init__(
        self,
        client: Any,
        memory_share: float = 0.6,
        patience_s: float = 300.0,
        top_up: Callable[[], None] | None = None,
    ) -> None:
        self.client = client
        self._memory_share = memory_share
        self._patience_s = patience_s
        self._top_up = top_up
        self._deserted: float | None = None

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return workers

    @property
    def threads(self) -> int:
        return max(1, sum(worker["nthreads"] for worker in self._workers().values()))

    @property
    def memory_bytes(self) -> int:
        limits = [worker["memory_limit"] for worker in self._workers().values()]
        if not limits or not all(limits):
            return int(0.8 * memory_limit_bytes())
        return int(self._memory_share * sum(limits))

    @property
    def processes(self) -> int:
        return len(self._workers()) + 1

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.client.submit(function, *args, pure=False)

    def submit_all(self, function: Callable[..., Any], each: Sequence[Sequence[Any]]) -> list[Any]:
        if len(each) == 1:
            return [self.submit(function, *each[0])]
        futures: list[Any] = self.client.map(function, *zip(*each, strict=True), pure=False)
        return futures

    def spread(self, futures: Sequence[Any]) -> list[Any]:
        """Results of about the same size, an even share of them for each thread of the workers.

        The scheduler places tasks by what it expects of them, and one worker may end up with
        twice as much as another; kept blocks stay where they are, so that every pass would wait.
        """
        threads = {address: worker["nthreads"] for address, worker in self._workers().items()}
        holders = self.client.who_has(list(futures))
        homes = [next(iter(holders.get(future.key, ())), "") for future in futures]
        if len(threads) < 2 or not set(homes) <= set(threads):
            return list(futures)
        share = len(futures) / sum(threads.values())
        excess = {one: homes.count(one) - share * n for one, n in threads.items()}
        spread = list(futures)
        for i in reversed(range(len(futures))):
            least = min(excess, key=lambda one: excess[one])
            if excess[homes[i]] - excess[least] > 1:
                spread[i] = self.client.submit(
                    _identity, futures[i], workers=[least], allow_other_workers=True, pure=False
                )
                excess[homes[i]] -= 1
                excess[least] += 1
        return spread

    def broadcast(self, value: Any) -> Any:
        import dask

        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
            return self.client.submit(_identity, value, pure=False)

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        # A finished result may be lost with its worker before it is fetched: this may wait, too.
        fetching = asyncio.run_coroutine_threadsafe(
            self.client.gather(list(futures), asynchronous=True), self.client.loop.asyncio_loop
        )
        while True:
            try:
                results: list[Any] = fetching.result(timeout=LOOK_EVERY_S)
                return results
            except TimeoutError:
                if fetching.done():
                    raise
            try:
                self._look_after()
            except BaseException:
                fetching.cancel()
                raise

    def completion(self) -> Completion:
        return _DaskCompletion(self.client, self._look_after)

    def _look_after(self) -> None:
        """Bring workers back where that can be done, and give up where there are none.

        Raises
        ------
        KmdistError : there has been no worker for too long.
        """
        if self.client.status != "running":
            return  # futures are cancelled, which says the same
        if self._top_up is not None:
            self._top_up()
        try:
            n_workers = len(self._workers())
        except (OSError, TimeoutError, RuntimeError):
            return  # the scheduler is going
        now = time.monotonic()
        if n_workers:
            self._deserted = None
        elif self._deserted is None:
            self._deserted = now
        elif now - self._deserted > self._patience_s:
            raise KmdistError(
                f"the scheduler has had no worker for {self._patience_s:.0f} s; nothing finished "
                "is lost: start workers and run the same command with --resume"
            )

    def cancel(self, futures: Sequence[Any]) -> None:
        if self.client.status == "running":
            self.client.cancel(list(futures), force=True)
