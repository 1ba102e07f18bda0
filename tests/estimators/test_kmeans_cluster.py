"""KMeans on a Dask cluster: the same bits, also when workers die; tasks and bytes as stated."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from sklearn.datasets import make_blobs

from kmdist import KMeans
from kmdist.cluster.workers import _Reviver
from kmdist.engine.dask_pool import DaskHolders, DaskPool
from kmdist.engine.dask_rows import rows_of_dask
from kmdist.engine.lloyd import run_step
from kmdist.engine.passes import tree_shape
from tests.support.deaths import forked_workers
from tests.support.network import counted_bytes

distributed = pytest.importorskip("distributed")

DEATHS = int(os.environ.get("KMDIST_DEATHS", "3"))
"""Of each kind; each costs the start of a worker."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return make_blobs(24_000, 16, centers=30, cluster_std=4.0, random_state=2)[0].astype("f4")


def fit(X: Any, **parameters: Any) -> tuple[bytes, bytes, float]:
    model = KMeans(30, init=np.asarray(X[:30]), tol=0, max_iter=25, **parameters).fit(X)
    return model.cluster_centers_.tobytes(), np.asarray(model.labels_).tobytes(), model.inertia_


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    settings = {
        "distributed.scheduler.allowed-failures": 50,
        # The scheduler remembers all transitions of a pass, and of what is released meanwhile.
        "distributed.admin.low-level-log-length": 100_000,
    }
    with dask.config.set(settings), forked_workers("kmdist.engine.dask_rows"):
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        )
        with cluster, distributed.Client(cluster) as client:
            yield client


def test_processes_give_the_bits_of_one_thread(data: np.ndarray, client: Any) -> None:
    lazy = da.from_array(data, chunks=(1001, 16))
    with dask.config.set(num_workers=1):
        alone = fit(data)
    assert fit(lazy)[:2] == alone[:2]
    assert fit(lazy)[2] == pytest.approx(alone[2], rel=1e-13)
    assert fit(lazy) == fit(lazy)


def test_kept_blocks_are_spread_over_the_workers(data: np.ndarray, client: Any) -> None:
    crowded, _ = client.scheduler_info()["workers"]
    X = client.persist(da.from_array(data, chunks=(3000, 16)), workers=[crowded])
    distributed.wait(X)
    rows = rows_of_dask(X, None, DaskPool(client))
    distributed.wait(rows.sources)
    homes = Counter(home for homes in client.who_has(rows.sources).values() for home in homes)
    assert len(homes) == 2
    assert min(homes.values()) >= 3  # four of eight, but that the scheduler may steal one
    assert fit(X)[:2] == fit(data)[:2]


def test_other_numbers_of_workers_and_arrival_orders(data: np.ndarray) -> None:
    lazy = da.from_array(data, chunks=(1001, 16))
    results = set()
    for workers, threads in ((1, 1), (1, 2), (1, 4), (4, 1)):
        with (
            distributed.LocalCluster(
                workers, threads_per_worker=threads, processes=False, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster),
        ):
            results.add(fit(lazy))
    assert len(results) == 1


def slowly(block: np.ndarray) -> np.ndarray:
    time.sleep(0.002 * random.random())
    return block


def _both_running(client: Any) -> list[Any]:
    """Nannies that have seen their workers run: else they do not start them again."""
    revive = _Reviver(client.cluster, 2)
    while True:
        nannies = list(client.cluster.workers.values())
        running = [one for one in nannies if one.process and one.process.status.name == "running"]
        if len(running) == 2 == len(client.scheduler_info()["workers"]):
            return running
        revive()
        time.sleep(0.2)


@pytest.mark.parametrize("kept", [True, False])
def test_deaths_in_the_middle_of_a_fit(
    data: np.ndarray, client: Any, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kmdist.engine import dask_rows

    lazy = da.from_array(data, chunks=(1001, 16)).map_blocks(slowly, meta=data[:0])
    parameters = {"algorithm": "lloyd"}
    expected = fit(lazy, **parameters)
    if not kept:
        monkeypatch.setattr(dask_rows, "MEMORY_SHARE", 1e-9)
    started = time.monotonic()
    assert fit(lazy, **parameters) == expected
    lasts_s = time.monotonic() - started
    for turn in range(DEATHS):
        victim = _both_running(client)[turn % 2].pid
        while not _killed_during(
            lambda: fit(lazy, **parameters), expected, victim, lasts_s * (turn + 1) / (DEATHS + 1)
        ):
            lasts_s /= 2


def _killed_during(fitted: Callable[[], Any], expected: Any, victim: int, after_s: float) -> bool:
    """Whether a fit was still going on when a worker was killed; its result is as expected."""
    done, killed = threading.Event(), threading.Event()

    def kill() -> None:
        if not done.wait(after_s):
            os.kill(victim, signal.SIGKILL)
            killed.set()

    thread = threading.Thread(target=kill)
    thread.start()
    got = fitted()
    done.set()
    thread.join()
    assert got == expected
    return killed.is_set()


def count_tasks(dask_scheduler: Any) -> Counter[str]:
    """Tasks that went to a worker, by their name; once each, whether stolen or lost and redone."""
    log = dask_scheduler.transition_log
    keys = {str(key) for key, _, state, *_ in log if state == "processing"}
    return Counter(key.split("-")[0] for key in keys)


def clear_log(dask_scheduler: Any) -> None:
    dask_scheduler.transition_log.clear()


@pytest.mark.parametrize("blocks", [10, 100])
def test_tasks_of_an_iteration_are_those_of_the_formula(client: Any, blocks: int) -> None:
    X = da.random.default_rng(0).random((blocks * 50, 4), chunks=(50, 4))
    rows = rows_of_dask(X, None, DaskPool(client))
    centroids = np.random.default_rng(0).random((5, 4))
    rows.pool.gather([rows.frame_future])
    distributed.wait(rows.sources)  # some may be on their way to the other worker
    client.run_on_scheduler(clear_log)
    run_step(rows, centroids)
    counted = client.run_on_scheduler(count_tasks)
    # One broadcast, a leaf a block, and the merges; a node with one child needs no task.
    levels = tree_shape(blocks)
    merges = sum(
        sum(1 for first in range(0, below, 8) if min(8, below - first) > 1) for below in levels[:-1]
    )
    assert counted["step"] == blocks
    assert counted["merge_sums"] == merges
    assert counted["_identity"] == 1
    assert sum(counted.values()) == blocks + merges + 1


@pytest.mark.parametrize("blocks", [10, 100])
def test_bytes_of_an_iteration_are_those_of_the_formula(client: Any, blocks: int) -> None:
    d, few, many = 100, 1, 400
    X = da.random.default_rng(0).random((blocks * 400, d), chunks=(400, d))
    rows = rows_of_dask(X, None, DaskPool(client))
    rows.pool.gather([rows.frame_future])
    sent = {}
    with counted_bytes() as written:
        for k in (few, many):
            centroids = np.random.default_rng(0).random((k, d))
            run_step(rows, centroids)
            before = written[0]
            run_step(rows, centroids)
            sent[k] = written[0] - before
    # The centroids leave the client and the scheduler, the sums and counts the scheduler.
    levels = len(rows.frame.grid.rows) + 1
    formula = (many - few) * 8 * (d + d + levels * d + 1)
    assert sent[many] - sent[few] == pytest.approx(formula, rel=0.03)


@pytest.mark.parametrize("deadly", [0, 5])
def test_workers_that_hold_the_rows_are_called_and_may_die_of_it(
    data: np.ndarray, client: Any, deadly: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = da.from_array(data, chunks=(3000, 16))
    client.wait_for_workers(2)
    answers = []

    def apply(holders: DaskHolders, *arguments: Any, **merge: Any) -> Any:
        if len(answers) + 1 == deadly:
            os.kill(next(iter(client.cluster.workers.values())).pid, signal.SIGKILL)
        answers.append(called(holders, *arguments, **merge))
        return answers[-1]

    called = DaskHolders.apply
    monkeypatch.setattr(DaskHolders, "apply", apply)
    client.run_on_scheduler(clear_log)
    assert fit(lazy)[:2] == fit(data)[:2]
    assert [i for i, answer in enumerate(answers, 1) if answer is None] == [deadly][:deadly]
    assert len(answers) > 15
    if not deadly:  # those of the first iteration, and of no more
        assert client.run_on_scheduler(count_tasks)["step"] <= 8
