"""Tasks on the workers of a Dask cluster."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from kmdist.engine.passes import Completion, memory_limit_bytes
from kmdist.errors import KmdistError

LOOK_EVERY_S = 5.0
"""Seconds without a result after which a pool looks whether there are workers at all."""


def active_client() -> Any:
    """The `distributed.Client` in use, or None; does not import distributed."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


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


def _erred_walk() -> Callable[..., list[Any]]:
    """A function for the scheduler, which need not have this package: what it has to run again.

    The scheduler follows errors only from one task that failed to the next, and waits for ever
    where one lies behind a task that was merely released: an input that failed while its result
    was in memory, which was then lost with its worker.
    """

    def erred(key: Any, dask_scheduler: Any) -> list[Any]:
        found, seen, stack = [], set(), [key]
        while stack:
            task = dask_scheduler.tasks.get(stack.pop())
            if task is None or task.key in seen or task.state == "memory":
                continue
            seen.add(task.key)
            if task.state == "erred":
                found.append(task.key)
            stack.extend(one.key for one in task.dependencies)
        return found

    return erred


MOST_CALLED = 256
"""Blocks of a pass that workers are called for: keys travel with each call, to each worker."""


class DaskHolders:
    """Workers that hold results, to be called without the scheduler's planning.

    A call of two workers takes 2 ms, a pass of 8 tasks on them 19 ms. What goes wrong with it is
    not looked into: tasks find out, and make what is lost again.

    Parameters
    ----------
    client : connected client.
    keys : of the results, by the address of a worker that has them.
    """

    def __init__(self, client: Any, keys: dict[str, list[Any]]) -> None:
        self._client, self._keys = client, keys

    def apply(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        merge: Callable[[list[Any]], Any],
    ) -> Any:
        """Merged results of ``function(item, *arguments)`` for all that is held; None: it failed.

        `merge` must not depend on how results are grouped.
        """
        call = self._client.run(
            _apply_here,
            self._keys,
            function,
            arguments,
            merge,
            workers=list(self._keys),
            on_error="return",
            asynchronous=True,
        )
        answers = asyncio.run_coroutine_threadsafe(call, self._client.loop.asyncio_loop)
        while True:
            try:
                parts = [answers.result(timeout=LOOK_EVERY_S).get(one) for one in self._keys]
                break
            except TimeoutError:
                if answers.done() or not self._all_there():
                    answers.cancel()
                    return None
            except OSError:
                return None
            except BaseException:
                answers.cancel()
                raise
        if any(part is None or isinstance(part, BaseException) for part in parts):
            return None
        return merge(parts)

    def _all_there(self) -> bool:
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        return self._client.status == "running" and set(self._keys) <= set(known)


async def _apply_here(
    keys: dict[str, list[Any]],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    merge: Callable[[list[Any]], Any],
    dask_worker: Any,
) -> Any:
    """A worker's part of `DaskHolders.apply`, in the threads in which it runs tasks."""
    items = [dask_worker.data.get(key) for key in keys[dask_worker.address]]
    if any(item is None for item in items):
        return None
    run = asyncio.get_running_loop().run_in_executor
    threads = dask_worker.executors["default"]
    parts = await asyncio.gather(*(run(threads, function, item, *arguments) for item in items))
    return await run(threads, merge, list(parts))


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

    def holders(self, futures: Sequence[Any]) -> DaskHolders | None:
        """Workers that can be called for results; None where some are not there, or too many."""
        if len(futures) > MOST_CALLED:
            return None
        keys: dict[str, list[Any]] = {}
        homes = self.client.who_has(list(futures))
        for future in futures:
            if not homes.get(future.key):
                return None
            keys.setdefault(min(homes[future.key]), []).append(future.key)
        return DaskHolders(self.client, keys)

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

    def retry(self, future: Any) -> Any:
        client = self.client
        erred = client.run_on_scheduler(_erred_walk(), key=future.key)
        # Client.retry knows only tasks whose futures it still holds, and an error that is on its
        # way to it would fail the same future again: hence a new one.
        client.sync(client.scheduler.retry, keys=[future.key, *erred], client=client.id)
        return self.submit(_identity, future)

    def cancel(self, futures: Sequence[Any]) -> None:
        if self.client.status == "running":
            self.client.cancel(list(futures), force=True)

    def release(self, futures: Sequence[Any]) -> None:
        for future in futures:
            future.release()
