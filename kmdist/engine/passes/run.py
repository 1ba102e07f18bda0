"""Passes over data in blocks: one function on every item, results merged in a fixed tree.

A pass over n items with fan-in f costs n leaf tasks and ⌈n/f⌉ + ⌈n/f²⌉ + … + 1 merge tasks
(none where nothing is merged, or where n = 1). Leaf results stay on the workers; only the root
of the tree, or each result where nothing is merged, reaches the caller. The shape of the tree
follows from n and f alone, so floating point sums come out the same to the bit whatever the
number of workers and the order in which they finish.

The same code drives threads of this process (`ThreadPool`) and a Dask cluster (`DaskPool`).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kmdist.engine.passes.pools import LostBlockError, Pool
from kmdist.errors import KmdistError

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
    alone: Callable[[int], Any] | None = None,
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
    on_done : called in this thread with the index of each finished item, in the order in which
        they finish, and its result where nothing is merged (else None).
    on_failure : called with the index and the error of an item whose task failed; returns the
        result to use instead, or raises. None: the error is raised.
    alone : returns the item of an index once more. Where the workers of several items died, each
        is tried again when no other is in flight, before `on_failure` is told: Dask blames a
        worker's death on all that waited there.

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
    suspects: list[tuple[int, Any]] = []

    def settle(finished: Any, index: int) -> None:
        outcome = _outcome(pool, finished, index, on_failure, fetch=merge is None)
        if tree and on_failure is not None:
            tree.add(0, {index: outcome})
        if on_done:
            on_done(index, None if merge else outcome)

    try:
        while submitted < len(items) or index_of:
            if finished_count % 64 == 0:  # workers come and go: look now and then
                window = in_flight(pool.threads, ahead)
            if submitted < len(items) and len(index_of) <= window // 2:
                end = min(submitted + window - len(index_of), len(items))
                each = [(items[i], *arguments) for i in range(submitted, end)]
                futures = pool.submit_all(function, each)
                started = dict(enumerate(futures, start=submitted))
                for index, future in started.items():
                    index_of[future] = index
                    completion.add(future)
                if tree and on_failure is None:
                    tree.add(0, started)
                submitted += len(started)
            finished = completion.next()
            finished_count += 1
            index = index_of.pop(finished)
            if alone is not None and isinstance(_error_of(finished), LostBlockError):
                suspects.append((index, finished))
            else:
                settle(finished, index)
        for index, finished in sorted(suspects, key=lambda suspect: suspect[0]):
            if alone is None or len(suspects) == 1:  # all others went on: it is the one
                settle(finished, index)
                continue
            future = pool.submit(function, alone(index), *arguments)
            index_of[future] = index
            completion.add(future)
            settle(completion.next(), index)
            del index_of[future]
        return _root_of(pool, tree) if tree else None
    except BaseException:
        pool.cancel([*index_of, *(tree.futures() if tree else ())])
        raise


def _root_of(pool: Pool, tree: _Tree) -> Any:
    try:
        return pool.gather([tree.root])[0]
    except Exception as error:
        raise _plain(error) from error


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
    return None if error is None else _plain(error)


def _plain(error: BaseException) -> BaseException:
    """The error, or what it means that each worker died that had the task."""
    if type(error).__name__ == "KilledWorker":
        return LostBlockError(
            "the task was tried on several workers and each of them died (out of memory?); "
            "give the workers more memory or use a smaller --block-mpx"
        )
    return error
