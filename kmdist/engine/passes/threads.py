"""Tasks on threads of this process."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kmdist.engine.passes.pools import Completion, memory_limit_bytes


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
