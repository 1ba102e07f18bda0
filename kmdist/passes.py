"""Passes over data in blocks: one function on every item, results merged in a fixed tree.

A pass over n items with fan-in f costs n leaf tasks and ⌈n/f⌉ + ⌈n/f²⌉ + … + 1 merge tasks
(none where nothing is merged, or where n = 1). Leaf results stay on the workers; only the root
of the tree, or each result where nothing is merged, reaches the caller. The shape of the tree
follows from n and f alone, so floating point sums come out the same to the bit whatever the
number of workers and the order in which they finish.

The same code drives threads of this process (`ThreadPool`) and a Dask cluster (`DaskPool`).
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from kmdist.errors import KmdistError

FAN_IN = 8
"""Results merged by one task: 8 keeps the depth at 6 for 250,000 blocks."""


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
        lock = threading.Lock()

        def one_ready(_: Any = None) -> None:
            nonlocal remaining
            with lock:
                remaining -= 1
                start = remaining == 0
            if start:
                self._executor.submit(_run_into, result, function, args)

        for future in waiting:
            future.add_done_callback(one_ready)
        one_ready()
        return result

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


class _DaskCompletion:
    def __init__(self) -> None:
        from distributed import as_completed

        self._futures = as_completed(raise_errors=False)

    def add(self, future: Any) -> None:
        self._futures.add(future)

    def next(self) -> Any:
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

    Notes
    -----
    `broadcast` is a task, not a scatter: the scheduler can run it again when every worker that
    held the value is gone, and each worker fetches the value once from another.
    """

    def __init__(self, client: Any, memory_share: float = 0.6) -> None:
        self.client = client
        self._memory_share = memory_share

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

    def broadcast(self, value: Any) -> Any:
        import dask

        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
            return self.client.submit(_identity, value, pure=False)

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        results: list[Any] = self.client.gather(list(futures))
        return results

    def completion(self) -> Completion:
        return _DaskCompletion()

    def cancel(self, futures: Sequence[Any]) -> None:
        if self.client.status == "running":
            self.client.cancel(list(futures), force=True)


def tree_shape(n_items: int, fan_in: int = FAN_IN) -> list[int]:
    """How many results each level of the merge tree holds, from the leaves to the root.

    Returns
    -------
    list of int : ``[n, ⌈n/f⌉, …, 1]``; the sum without the first is the number of merge tasks.
    """
    levels = [n_items]
    while levels[-1] > 1:
        levels.append(-(-levels[-1] // fan_in))
    return levels


def in_flight(threads: int, ahead: int = 4) -> int:
    """Leaves of a pass that are submitted and not finished, at most."""
    return max(4 * ahead, ahead * threads)


class _Tree:
    """Submits a merge as soon as the tasks it needs are submitted, and forgets those."""

    def __init__(self, pool: Pool, merge: Callable[[list[Any]], Any], n: int, fan_in: int) -> None:
        self._pool, self._merge, self._fan_in = pool, merge, fan_in
        self._sizes = tree_shape(n, fan_in)
        self._levels: list[dict[int, Any]] = [{} for _ in self._sizes]

    def add(self, level: int, position: int, future: Any) -> None:
        self._levels[level][position] = future
        if level + 1 == len(self._sizes):
            return
        parent = position // self._fan_in
        first = parent * self._fan_in
        last = min(first + self._fan_in, self._sizes[level])
        if all(child in self._levels[level] for child in range(first, last)):
            children = [self._levels[level].pop(child) for child in range(first, last)]
            merged = children[0] if len(children) == 1 else self._submit(children)
            self.add(level + 1, parent, merged)

    def _submit(self, children: list[Any]) -> Any:
        return self._pool.submit(self._merge, children)

    @property
    def root(self) -> Any:
        return self._levels[-1][0]

    def futures(self) -> Iterator[Any]:
        for level in self._levels:
            yield from level.values()


def run_pass(
    pool: Pool,
    function: Callable[..., Any],
    items: Sequence[Any],
    *arguments: Any,
    merge: Callable[[list[Any]], Any] | None = None,
    fan_in: int = FAN_IN,
    ahead: int = 4,
    on_done: Callable[[int, Any], None] | None = None,
    on_failure: Callable[[int, BaseException], Any] | None = None,
) -> Any:
    """Run ``function(item, *arguments)`` for every item and merge the results.

    At most `in_flight` leaves are submitted and not finished, so that a long list of items
    does not fill the scheduler, and early results are merged and freed while later ones run.

    Parameters
    ----------
    pool : where the tasks run.
    function : called once an item; must be importable by the workers.
    items : what to run over; futures of the same pool stand for their results.
    arguments : the same for every item; large ones as futures from `Pool.broadcast`.
    merge : joins a list of results, in item order, into one. None: nothing is merged.
    fan_in : results merged by one task.
    ahead : leaves in flight per thread; fewer hold less memory, more hide latency.
    on_done : called in this thread with the index of each finished item, in the order in which
        they finish, and its result where nothing is merged (else None).
    on_failure : called with the index and the error of an item whose task failed; returns the
        result to use instead, or raises. None: the error is raised.

    Returns
    -------
    The merged result, or None where nothing is merged or there are no items.
    """
    if not items:
        return None
    tree = _Tree(pool, merge, len(items), fan_in) if merge else None
    completion = pool.completion()
    index_of: dict[Any, int] = {}
    submitted = finished_count = window = 0
    try:
        while submitted < len(items) or index_of:
            if finished_count % 64 == 0:  # workers come and go: look now and then
                window = in_flight(pool.threads, ahead)
            while submitted < len(items) and len(index_of) < window:
                future = pool.submit(function, items[submitted], *arguments)
                index_of[future] = submitted
                completion.add(future)
                if tree and on_failure is None:
                    tree.add(0, submitted, future)
                submitted += 1
            finished = completion.next()
            finished_count += 1
            index = index_of.pop(finished)
            outcome = _outcome(pool, finished, index, on_failure, fetch=merge is None)
            if tree and on_failure is not None:
                tree.add(0, index, outcome)
            if on_done:
                on_done(index, None if merge else outcome)
        return pool.gather([tree.root])[0] if tree else None
    except BaseException:
        pool.cancel([*index_of, *(tree.futures() if tree else ())])
        raise


def _outcome(
    pool: Pool,
    future: Any,
    index: int,
    on_failure: Callable[[int, BaseException], Any] | None,
    *,
    fetch: bool,
) -> Any:
    """The finished future itself, its fetched result, or what stands in for its failure."""
    error = _error_of(future)
    if error is None:
        return pool.gather([future])[0] if fetch else future
    if on_failure is None:
        raise error
    substitute = on_failure(index, error)
    return substitute if fetch else pool.broadcast(substitute)


def _error_of(future: Any) -> BaseException | None:
    """The error of a finished future; a cancelled one means that the scheduler is gone."""
    if future.cancelled():
        return KmdistError(
            "the scheduler was lost or the task was cancelled; nothing finished is lost: "
            "run the same command with --resume once the cluster is back"
        )
    error: BaseException | None = future.exception()
    if error is not None and type(error).__name__ == "KilledWorker":
        return LostBlockError(
            "the task was tried on several workers and each of them died (out of memory?); "
            "give the workers more memory or use a smaller --block-mpx"
        )
    return error


__all__ = [
    "FAN_IN",
    "DaskPool",
    "LostBlockError",
    "Pool",
    "ThreadPool",
    "in_flight",
    "memory_limit_bytes",
    "run_pass",
    "tree_shape",
]
