"""The peak of a job's processes, as its run records it."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from kmdist.engine.dask_pool import DaskPool
from kmdist.engine.passes import ThreadPool
from kmdist.job.memory import peak_bytes, process_memory


class Processes(ThreadPool):
    """Whose answers are known."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(1, memory_bytes=1)
        self.close()
        self.answers = answers

    def each_process(self, function: Callable[[], Any]) -> list[Any]:
        return list(self.answers)


def test_workers_of_one_process_and_libraries_count_once() -> None:
    pool = Processes(("a:1", 100, 10), ("a:1", 101, 10), ("b:2", 50, 20))
    assert peak_bytes(pool) == (101 - 10) + (50 - 20) + 20


@pytest.mark.parametrize(
    "answers", [(), (("a:1", 0, 0),), (("a:1", 9, 1), ("b:2", 0, 0)), ("of another version",)]
)
def test_no_peak_is_told_where_that_of_a_process_is_not_known(answers: tuple[Any, ...]) -> None:
    assert peak_bytes(Processes(*answers)) is None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells peaks, and has these names")
def test_a_process_may_have_any_name() -> None:
    own = Path("/proc/self/comm")
    name = own.read_bytes()
    own.write_bytes("Zähler\xff\nVmHWM: 1 kB".encode("latin-1"))
    try:
        assert process_memory()[1] > 1e6
    finally:
        own.write_bytes(name.rstrip(b"\n"))


def test_a_system_may_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"Name:\tpython\nVmHWM:\tmuch\n")
    assert process_memory()[1:] == (0, 0)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Of a client, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize("error", [OSError, TimeoutError, RuntimeError, asyncio.CancelledError])
def test_a_client_that_is_going_answers_for_no_process(
    loop: asyncio.AbstractEventLoop, error: type[BaseException]
) -> None:
    async def run(*_: Any, **__: Any) -> Any:
        raise error

    client = SimpleNamespace(run=run, loop=SimpleNamespace(asyncio_loop=loop))
    assert DaskPool(client).each_process(process_memory) == []
