"""Passes give the same bytes whatever finishes first, and bound what is in flight."""

import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.cluster import Compute, open_pool
from kmdist.engine.dask_pool import DaskPool
from kmdist.engine.passes import LostBlockError, ThreadPool, fetched, run_pass, tree_shape
from kmdist.errors import KmdistError


def noisy_sum(index: int, scale: float) -> float:
    time.sleep(0.001 * (index * 7 % 5))
    return scale * float(np.sin(index) * 10.0 ** (index % 12))


def add(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def reference_tree(values: list[float], fan_in: int) -> float:
    while len(values) > 1:
        values = [
            values[i] if len(values[i : i + fan_in]) == 1 else add(values[i : i + fan_in])
            for i in range(0, len(values), fan_in)
        ]
    return values[0]


@given(
    n=st.integers(1, 70),
    fan_in=st.integers(2, 9),
    threads=st.integers(1, 4),
    stand_in=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_merge_tree_is_fixed(n: int, fan_in: int, threads: int, stand_in: bool) -> None:
    pool = ThreadPool(threads, memory_bytes=1 << 30)
    try:
        merged = run_pass(
            pool,
            noisy_sum,
            range(n),
            1.5,
            merge=add,
            fan_in=fan_in,
            rescue=(lambda suspects, alone: [pool.broadcast(0.0)]) if stand_in else None,
        )
    finally:
        pool.close()
    assert merged == reference_tree([noisy_sum(i, 1.5) for i in range(n)], fan_in)


def test_tree_shape_counts_tasks() -> None:
    assert tree_shape(1) == [1]
    assert tree_shape(8) == [8, 1]
    assert tree_shape(1000) == [1000, 125, 16, 2, 1]


def test_every_result_reaches_the_caller_once() -> None:
    pool = ThreadPool(3, memory_bytes=1 << 30)
    seen: dict[int, float] = {}
    run_pass(pool, noisy_sum, range(40), 2.0, on_done=seen.__setitem__)
    pool.close()
    assert seen == {i: noisy_sum(i, 2.0) for i in range(40)}


def test_futures_are_items_and_arguments() -> None:
    pool = ThreadPool(2, memory_bytes=1 << 30)
    items = [pool.submit(noisy_sum, i, 1.0) for i in range(20)]
    total = run_pass(pool, lambda x, y: x + y, items, pool.broadcast(1.0), merge=add, fan_in=4)
    pool.close()
    assert total == reference_tree([noisy_sum(i, 1.0) + 1.0 for i in range(20)], 4)


def test_in_flight_is_bounded() -> None:
    pool = ThreadPool(2, memory_bytes=1 << 30)
    started = []
    release = threading.Event()

    def leaf(index: int) -> int:
        started.append(index)
        release.wait(5)
        return index

    submitted: list[int] = []
    original = pool.submit

    def counting(function, *args):  # type: ignore[no-untyped-def]
        submitted.append(1)
        if len(submitted) == 16:
            release.set()
        assert len(submitted) - len(done) <= 17
        return original(function, *args)

    done: list[int] = []
    pool.submit = counting  # type: ignore[method-assign]
    run_pass(pool, leaf, range(50), on_done=lambda index, _: done.append(index))
    pool.close()
    assert sorted(done) == list(range(50))


def failing(index: int) -> float:
    if index == 5:
        raise ValueError("block 5 is bad")
    return 1.0


def test_a_failure_is_raised() -> None:
    pool = ThreadPool(2, memory_bytes=1 << 30)
    rescued: list[int] = []
    with pytest.raises(ValueError, match="block 5"):
        run_pass(
            pool, failing, range(20), merge=add, rescue=lambda them, _: map(rescued.append, them)
        )
    assert not rescued
    assert run_pass(pool, failing, [], merge=add) is None
    pool.close()


def test_dask_gives_the_same_bytes_as_threads() -> None:
    from distributed import Client

    pool = ThreadPool(2, memory_bytes=1 << 30)
    expected = run_pass(pool, noisy_sum, range(50), 1.1, merge=add, fan_in=4)
    pool.close()
    with Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as client:
        dask_pool = DaskPool(client)
        assert dask_pool.threads == 2
        assert dask_pool.memory_bytes > 0
        scale = dask_pool.broadcast(1.1)
        got = run_pass(dask_pool, noisy_sum, range(50), scale, merge=add, fan_in=4)
        seen: dict[int, float] = {}
        run_pass(dask_pool, noisy_sum, range(10), 1.0, on_done=seen.__setitem__)
    assert got == expected
    assert seen == {i: noisy_sum(i, 1.0) for i in range(10)}


def test_closing_with_tasks_that_wait_for_others_is_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ctrl-C closes the pool while a task runs on whose result another waits."""
    pool = ThreadPool(1, memory_bytes=1 << 30)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        go_on.wait()
        return 1

    waiting = pool.submit(add, [pool.submit(slow)])
    begun.wait()
    closing = threading.Thread(target=pool.close)
    closing.start()
    while not pool._executor._shutdown:
        time.sleep(0.001)
    go_on.set()
    closing.join()
    assert not caplog.records
    assert isinstance(waiting.exception(timeout=60), RuntimeError)
    with pytest.raises(RuntimeError):
        pool.submit(add, [])


def test_a_cluster_without_workers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.setattr("kmdist.engine.dask_pool.LOOK_EVERY_S", 0.1)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        pool = DaskPool(client, patience_s=0.5)
        with pytest.raises(KmdistError, match="no worker for 0 s; nothing finished is lost"):
            run_pass(pool, abs, [-1, -2])
        with pytest.raises(KmdistError, match="no worker"):
            pool.gather([pool.submit(abs, -3)])
        # Workers that are brought back take the work on.
        pool = DaskPool(client, patience_s=60, top_up=lambda: cluster.scale(1))
        assert run_pass(pool, abs, [-1, -2], merge=sum) == 3


@pytest.mark.parametrize("error", [LostBlockError("died"), MemoryError()])
@pytest.mark.parametrize("merge", [sum, None])
def test_those_that_failed_together_are_tried_alone(error: Exception, merge: object) -> None:
    """Block 2 fails beside others, block 4 alone as well."""
    pool = ThreadPool(2)
    running: list[int] = []
    lost: list[int] = []
    results: dict[int, int] = {}

    def die(item: tuple[int, bool]) -> int:
        index, is_alone = item
        running.append(index)
        beside = len(running) > 1
        running.remove(index)
        if index == 4 or (index == 2 and not is_alone):
            raise error
        assert not (is_alone and beside)
        return index

    def rescue(suspects: list[int], alone: Callable[[object], object]) -> Iterator[object]:
        for index in suspects:
            try:
                yield alone((index, True))
            except (LostBlockError, MemoryError):
                lost.append(index)
                yield pool.broadcast(-100)

    items = [(i, False) for i in range(7)]
    options = {"merge": merge, "on_done": results.__setitem__}
    total = run_pass(pool, die, items, rescue=rescue, **options)
    assert lost == [4]
    assert list(results)[-2:] == [2, 4]
    if merge:
        assert total == 21 - 4 - 100
    else:
        assert results == {i: -100 if i == 4 else i for i in range(7)}
    with pytest.raises(type(error)):
        run_pass(pool, die, items, **options)
    pool.close()


def test_what_is_prepared_is_bounded_like_what_is_in_flight() -> None:
    pool = ThreadPool(1)
    prepared: list[int] = []
    done: list[int] = []

    def prepare(index: int) -> object:
        prepared.append(index)
        assert len(prepared) - len(done) <= 16
        return pool.submit(abs, -index)

    total = run_pass(
        pool,
        noisy_sum,
        range(50),
        1.0,
        merge=add,
        prepare=prepare,
        on_done=lambda index, _: done.append(index),
    )
    pool.close()
    assert prepared == list(range(50))
    assert total == reference_tree([noisy_sum(i, 1.0) for i in range(50)], 8)


def blamed_at_first(path: str) -> int:
    """As a broadcast value that was made anew beside a task that kills workers."""
    if not os.path.exists(path):
        open(path, "w").close()
        raise type("KilledWorker", (Exception,), {})
    return 10


def test_a_broadcast_value_that_was_blamed_is_made_again(tmp_path: Path) -> None:
    from distributed import Client

    items = list(range(20))
    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        pool = DaskPool(client)
        for merge in (sum, None):
            found: dict[int, Any] = {}
            made = str(tmp_path / f"made for {merge}")
            total = run_pass(
                pool, operator.add, items, pool.submit(blamed_at_first, made), merge=merge,
                on_done=found.__setitem__,
                rescue=lambda suspects, alone: (alone(items[i]) for i in suspects),
            )  # fmt: skip
            assert total == (sum(items) + 200 if merge else None)
            assert found == {i: None if merge else i + 10 for i in items}


def fails_in_turn(value: int, *failing: int, calls: str) -> int:
    """The value, but for calls of these numbers, which are blamed for a death."""
    with open(calls, "a+") as file:
        file.write("x")
        number = file.tell() - 1
    if number in failing:
        raise type("KilledWorker", (Exception,), {})
    return value


def lose(key: Any, dask_scheduler: Any) -> None:
    dask_scheduler.transitions({key: "released"}, stimulus_id="the test loses a result")


def test_an_input_that_failed_behind_a_lost_result_is_made_again(tmp_path: Path) -> None:
    from distributed import Client, wait

    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as client:
        pool = DaskPool(client)
        kept = client.submit(fails_in_turn, 5, 1, calls=str(tmp_path / "kept"), pure=False)
        result = pool.submit(operator.neg, kept)
        merged = client.submit(fails_in_turn, result, 0, calls=str(tmp_path / "merged"), pure=False)
        wait([merged])
        del result
        client.run_on_scheduler(lose, key=kept.key)
        while kept.status != "error":  # the client hears of it later
            time.sleep(0.01)
        assert merged.status == "error"
        assert fetched(pool, merged) == -5


def slow_or_deadly(item: str) -> list[str]:
    if item == "deadly":
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.6)
    return [item]


def joined(lists: list[list[str]]) -> list[str]:
    return [one for each in lists for one in each]


@pytest.mark.slow
@pytest.mark.parametrize("merge", [joined, None])
def test_a_result_that_is_lost_beside_deaths_is_made_again(merge: Any) -> None:
    """Made beside each of two that kill, it is blamed as often as a task may be."""
    import dask
    from distributed import Client, LocalCluster

    found: dict[int, Any] = {}

    def rescue(suspects: list[int], alone: Callable[[Any], Any]) -> Iterator[Any]:
        for index in suspects:
            try:
                yield alone(items[index])
            except LostBlockError:
                yield pool.broadcast(["gone"])

    items = ["slow", "deadly", "deadly"]
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        open_pool(Compute(client=client), work_mpx=1) as pool,
    ):
        merged = run_pass(
            pool, slow_or_deadly, items, merge=merge, on_done=found.__setitem__, rescue=rescue
        )
    expected = [["slow"], ["gone"], ["gone"]]
    assert merged == (joined(expected) if merge else None)
    assert [found[i] for i in range(3)] == ([None] * 3 if merge else expected)
