"""Passes over data in blocks: one function on every item, results merged in a fixed tree.

A pass over n items with fan-in f costs n leaf tasks and ⌈n/f⌉ + ⌈n/f²⌉ + … + 1 merge tasks
(none where nothing is merged, or where n = 1). Leaf results stay on the workers; only the root
of the tree, or each result where nothing is merged, reaches the caller. The shape of the tree
follows from n and f alone, so floating point sums come out the same to the bit whatever the
number of workers and the order in which they finish.

The same code drives threads of this process (`ThreadPool`) and a Dask cluster
(`kmdist.engine.dask_pool.DaskPool`), behind one interface (`Pool`).
"""

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from kmdist.errors import KmdistError


class Slots(Protocol):
    """What there is to run tasks."""

    @property
    def threads(self) -> int:
        """Tasks that run at the same time."""

    @property
    def memory_bytes(self) -> int:
        """Memory that all running tasks and kept results together may use."""

    @property
    def processes(self) -> int:
        """Processes that the job is spread over, the caller's included."""


class Pool(Slots, Protocol):
    """Where tasks run. Futures are opaque to the caller and may be arguments of later tasks."""

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

    def release(self, futures: Sequence[Any]) -> None:
        """Let go of results that the caller uses no more: what is lost is not made again."""


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

    def release(self, futures: Sequence["ThreadFuture[Any]"]) -> None:
        """Nothing to do: threads lose no result."""

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


SUSPICIOUS = (LostBlockError, MemoryError)
"""Errors of a task that another one may be to blame for."""

FAN_IN = 8
"""Results merged by one task: 8 keeps the depth at 6 for 250,000 blocks."""


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

    def add(self, level: int, futures: dict[int, Any]) -> None:
        """Add results of a level by their positions; merge those that are complete."""
        self._levels[level].update(futures)
        if level + 1 == len(self._sizes) or not futures:
            return
        lone, ready = {}, {}
        for parent in sorted({position // self._fan_in for position in futures}):
            first = parent * self._fan_in
            last = min(first + self._fan_in, self._sizes[level])
            if all(child in self._levels[level] for child in range(first, last)):
                children = [self._levels[level].pop(child) for child in range(first, last)]
                if len(children) == 1:
                    lone[parent] = children[0]
                else:
                    ready[parent] = [children]
        merged = self._pool.submit_all(self._merge, list(ready.values())) if ready else []
        self.add(level + 1, lone | dict(zip(ready, merged, strict=True)))

    @property
    def root(self) -> Any:
        return self._levels[-1][0]

    def futures(self) -> Iterator[Any]:
        for level in self._levels:
            yield from level.values()


class _Flight:
    """Leaves of a pass: those that are to be submitted, and those that are not finished.

    Parameters
    ----------
    prepare : called with the index of an item as it is submitted; what the task receives of it.
    """

    def __init__(
        self,
        pool: Pool,
        function: Callable[..., Any],
        items: Sequence[Any],
        arguments: Sequence[Any],
        ahead: int,
        prepare: Callable[[int], Any] | None,
    ) -> None:
        self._pool, self._function, self._items = pool, function, items
        self._arguments, self._ahead = arguments, ahead
        self._prepare = prepare or items.__getitem__
        self._completion = pool.completion()
        self._index_of: dict[Any, int] = {}
        self._submitted = self._taken = self._window = 0

    def __bool__(self) -> bool:
        """Whether leaves are left."""
        return self._submitted < len(self._items) or bool(self._index_of)

    def submit(self) -> dict[int, Any]:
        """Fill the window once half of it is free; the new futures by their index."""
        if self._taken % 64 == 0:  # workers come and go: look now and then
            self._window = in_flight(self._pool.threads, self._ahead)
        if len(self._index_of) > self._window // 2:
            return {}
        end = min(self._submitted + self._window - len(self._index_of), len(self._items))
        indices = range(self._submitted, end)
        if not indices:
            return {}
        each = [(self._prepare(index), *self._arguments) for index in indices]
        started = dict(zip(indices, self._pool.submit_all(self._function, each), strict=True))
        for index, future in started.items():
            self._index_of[future] = index
            self._completion.add(future)
        self._submitted = end
        return started

    def take(self) -> tuple[int, Any]:
        """The next finished leaf, failed ones included."""
        future = self._completion.next()
        self._taken += 1
        return self._index_of.pop(future), future

    def renew_arguments(self) -> None:
        """Run again what every task takes, where deaths of others were blamed on it."""
        self._arguments = [
            self._pool.retry(one) if getattr(one, "status", "") == "error" else one
            for one in self._arguments
        ]

    def alone(self, item: Any) -> Any:
        """The finished future of an item that is tried while no other leaf is in flight.

        Raises
        ------
        BaseException : that of the task.
        """
        future = self._pool.submit(self._function, item, *self._arguments)
        self._completion.add(future)
        _result_of(self._pool, self._completion.next(), fetch=False)
        return future

    def futures(self) -> list[Any]:
        """Of leaves in flight."""
        return list(self._index_of)


def run_pass(
    pool: Pool,
    function: Callable[..., Any],
    items: Sequence[Any],
    *arguments: Any,
    merge: Callable[[list[Any]], Any] | None = None,
    fan_in: int = FAN_IN,
    ahead: int = 4,
    prepare: Callable[[int], Any] | None = None,
    on_done: Callable[[int, Any], None] | None = None,
    rescue: Callable[[list[int], Callable[[Any], Any]], Iterable[Any]] | None = None,
) -> Any:
    """Run ``function(item, *arguments)`` for every item and merge the results.

    At most `in_flight` leaves are submitted and not finished, so that a long list of items
    does not fill the scheduler, and early results are merged and freed while later ones run. They
    are submitted many at a time: on a Dask cluster a message costs as much as several tasks.

    Parameters
    ----------
    pool : where the tasks run.
    function : called once an item; must be importable by the workers.
    items : what to run over; futures of the same pool stand for their results.
    arguments : the same for every item; large ones as futures from `Pool.broadcast`.
    merge : joins a list of results, in item order, into one. None: nothing is merged.
    fan_in : results merged by one task.
    ahead : leaves in flight per thread; fewer hold less memory, more hide latency.
    prepare : called with the index of an item when it is submitted; returns what the task
        receives in its place. None: the item.
    on_done : called in this thread with the index of each finished item, in the order in which
        they finish, and its result where nothing is merged (else None).
    rescue : called with the indices of `SUSPICIOUS` items once no other is in flight, and a
        function that tries an item alone: that returns a future, or raises the task's error.
        Yields a future of what is to count as each item's result, or raises. Dask blames a
        worker's death on all tasks that waited there, and memory is short for all threads when
        one takes it: only what fails alone is at fault. None: the error is raised, as any other.

    Returns
    -------
    The merged result, or None where nothing is merged or there are no items.
    """
    if not items:
        return None
    flight = _Flight(pool, function, items, arguments, ahead, prepare)
    tree = _Tree(pool, merge, len(items), fan_in) if merge else None
    suspects: list[int] = []

    def settle(index: int, future: Any, result: Any) -> None:
        if tree and rescue is not None:  # else it is in the tree since it was submitted
            tree.add(0, {index: future})
        if on_done:
            on_done(index, result)

    try:
        while flight:
            started = flight.submit()
            if tree and rescue is None:
                tree.add(0, started)
            index, future = flight.take()
            try:
                result = _result_of(pool, future, fetch=tree is None)
            except SUSPICIOUS:
                if rescue is None:
                    raise
                suspects.append(index)
            else:
                settle(index, future, result)
        if suspects and rescue is not None:
            flight.renew_arguments()
            suspects.sort()
            rescued = rescue(suspects, flight.alone)
            for index, future in zip(suspects, rescued, strict=True):
                settle(index, future, None if tree else fetched(pool, future))
        return fetched(pool, tree.root) if tree else None
    except BaseException:
        pool.cancel([*flight.futures(), *(tree.futures() if tree else ())])
        raise


def _result_of(pool: Pool, future: Any, *, fetch: bool) -> Any:
    """The result of a finished future, None where it is to stay where it is; or its error."""
    error = _error_of(future)
    if error is not None:
        raise error
    return fetched(pool, future) if fetch else None


def fetched(pool: Pool, future: Any) -> Any:
    """The result of a future none of whose tasks is at fault.

    A worker that dies takes results with it. They are made again beside the very task that kills
    workers, and may be blamed for deaths of others: then they are run once more.
    """
    try:
        return pool.gather([future])[0]
    except Exception as error:
        if not isinstance(_plain(error), LostBlockError):
            raise _plain(error) from error
    try:
        return pool.gather([pool.retry(future)])[0]
    except Exception as error:
        raise _plain(error) from error


def _error_of(future: Any) -> BaseException | None:
    """The error of a finished future; a cancelled one means that the scheduler is gone."""
    if future.cancelled():
        return KmdistError(
            "the scheduler was lost or the task was cancelled; nothing finished is lost: "
            "run the same command with --resume once the cluster is back"
        )
    error: BaseException | None = future.exception()
    return None if error is None else _plain(error)


def _plain(error: BaseException) -> BaseException:
    """The error, or what it means that each worker died that had the task."""
    if type(error).__name__ == "KilledWorker":
        return LostBlockError(
            "the task was tried on several workers and each of them died (out of memory?); "
            "give the workers more memory or use a smaller --block-mpx"
        )
    return error


class _Keeper:
    """A thread that holds the limit for as long as anyone needs it.

    threadpoolctl lets one thread at a time set the limits of OpenBLAS and silently ignores the
    others (3.8), so that tasks on several threads cannot each set and restore them.
    """

    def __init__(self) -> None:
        self._holds, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, name="kmdist-blas", daemon=True)
        self._thread.start()
        self._holds.wait()

    def _hold(self) -> None:
        from threadpoolctl import threadpool_limits

        try:
            with threadpool_limits(limits=1, user_api="blas"):
                self._holds.set()
                self._leave.wait()
        finally:
            self._holds.set()

    def release(self) -> None:
        """Restore what was set before."""
        self._leave.set()
        self._thread.join()


_lock = threading.Lock()
_users = 0
_keeper: _Keeper | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within, BLAS uses one thread; what was set before holds again when the last user leaves.

    The order in which a product is summed depends on the number of threads, and a task has one
    core. Tasks on threads of one process overlap, hence the count of users.
    """
    global _users, _keeper
    import scipy.linalg.blas  # noqa: F401 (limits apply to libraries that are loaded)

    with _lock:
        _users += 1
        if _users == 1:
            _keeper = _Keeper()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _keeper is not None:
                _keeper.release()
                _keeper = None
