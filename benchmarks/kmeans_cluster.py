"""k-means on a Dask cluster: scaling, overhead, what passes the scheduler, and dask-ml beside it.

    python -m benchmarks kmeans_cluster --part scaling

Worker processes have one thread each. Times are medians over iterations, wall clock.
"""

import argparse
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

from kmdist import KMeans
from kmdist.cluster.workers import CALM
from kmdist.engine.dask_pool import DaskPool
from kmdist.engine.dask_rows import rows_of_dask
from kmdist.engine.kernels.assign import assign
from kmdist.engine.kernels.frame import Frame
from kmdist.engine.kernels.sums import cluster_means, merge_sums
from kmdist.engine.lloyd import Options, iterate, run_step
from kmdist.engine.passes import FAN_IN, tree_shape
from kmdist.engine.rows import Rows
from tests.support.network import counted_bytes

_ITERATIONS = 7


def main(argv: list[str]) -> None:
    """Print what was measured, a line each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks kmeans_cluster", description=__doc__
    )
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--rows", type=int, default=4_000_000, help="of scaling and overhead")
    parser.add_argument("-k", type=int, default=256, help="of scaling and overhead")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    for name, part in PARTS.items():
        if options.part in (name, "all"):
            part(options)


@contextmanager
def cluster(workers: int) -> Iterator[Client]:
    """Worker processes of one thread, set up as `kmdist` starts its own.

    The scheduler remembers all transitions of a pass.
    """
    settings = {f"distributed.{key}": value for key, value in CALM.items()}
    with (
        dask.config.set({**settings, "distributed.admin.low-level-log-length": 100_000}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
        ) as made,
        Client(made) as client,
    ):
        yield client


def random_rows(client: Client, n: int, blocks: int, d: int = 48, dtype: Any = np.float32) -> Rows:
    """Rows in blocks, kept on the workers."""
    random = da.random.default_rng(0)
    X = random.random((n, d), chunks=(-(-n // blocks), d), dtype=dtype)
    return rows_of_dask(X, None, DaskPool(client))


def seconds_per_iteration(rows: Rows, centroids: np.ndarray) -> float:
    """Median over iterations after the first, of plain Lloyd."""
    options, times = Options(max_iter=_ITERATIONS, tol=0, bounds="never"), []
    started_s = time.perf_counter()
    for _ in iterate(rows, centroids, options):
        now_s = time.perf_counter()
        times.append(now_s - started_s)
        started_s = now_s
    return statistics.median(times[1:-1])  # the last one measures the inertia too


def compare_workers(options: argparse.Namespace) -> None:
    """One worker process against two."""
    centroids = np.random.default_rng(1).random((options.k, 48)).astype(np.float32)
    times = {}
    for workers in (1, 2):
        with cluster(workers) as client:
            rows = random_rows(client, options.rows, 12)
            times[workers] = seconds_per_iteration(rows, centroids)
    print(
        f"scaling: {options.rows:,} x 48, k = {options.k}: 1 worker {times[1]:.3f} s an iteration, "
        f"2 workers {times[2]:.3f} s = {times[1] / times[2]:.2f} x",
        flush=True,
    )


def measure_overhead(options: argparse.Namespace) -> None:
    """A distributed iteration on one worker against the bare kernel on the same blocks."""
    centroids = np.random.default_rng(1).random((options.k, 48)).astype(np.float32)
    with cluster(1) as client:
        for blocks in (1, 4, 10):
            rows = random_rows(client, options.rows // 10 * blocks, blocks)
            whole = seconds_per_iteration(rows, centroids)
            bare = client.submit(_bare, rows.sources, rows.frame_future, centroids).result()
            print(
                f"overhead: {blocks} blocks of {1e3 * bare / blocks:.0f} ms: iteration "
                f"{whole:.4f} s, bare kernel {bare:.4f} s: {100 * (whole / bare - 1):.1f} %, "
                f"{1e3 * (whole - bare):.1f} ms (allowed {1e3 * (0.1 * bare + 0.03):.1f})",
                flush=True,
            )


def _bare(blocks: list[Any], frame: Frame, centroids: np.ndarray) -> float:
    """Median time of the same iterations without Dask, on the worker."""
    labels = [np.empty(len(block.rows), np.int32) for block in blocks]
    parts: list[Any] = [None] * len(blocks)
    times = []
    for _ in range(_ITERATIONS):
        started_s = time.perf_counter()
        for i, block in enumerate(blocks):
            parts[i] = assign(block.rows, None, centroids, frame, labels[i], sums=parts[i])
        times.append(time.perf_counter() - started_s)
        centroids = cluster_means(merge_sums(parts), centroids).astype(centroids.dtype)
    return statistics.median(times[1:])


def count_traffic(options: argparse.Namespace) -> None:
    """Tasks of an iteration, and bytes that the scheduler passes on, against the formula."""
    k, d = 200, 50
    with cluster(2) as client, counted_bytes() as written:
        for blocks in (10, 100, 1000):
            rows = random_rows(client, blocks * 400, blocks, d, np.float64)
            rows.pool.gather([rows.frame_future])
            sent = {}
            for wanted in (1, k):
                centroids = np.random.default_rng(0).random((wanted, d))
                run_step(rows, centroids)
                client.run_on_scheduler(_forget)
                before = written[0]
                run_step(rows, centroids)
                sent[wanted] = written[0] - before
                tasks = client.run_on_scheduler(_tasks)
            merges = merge_tasks(blocks)
            # Centroids pass the client and the scheduler, the result the scheduler; the rest is
            # what every task costs, which does not depend on k.
            levels = len(rows.frame.grid.rows) + 1
            formula = (k - 1) * 8 * (d + d + levels * d + 1)
            print(
                f"traffic: {blocks} blocks: {sum(tasks.values())} tasks (formula "
                f"{blocks + merges + 1}); bytes of k = {k} less those of k = 1: "
                f"{sent[k] - sent[1]:,} (formula {formula:,}); k = 1: {sent[1]:,}",
                flush=True,
            )


def merge_tasks(blocks: int) -> int:
    """Tasks of the merge tree of `kmdist.engine.passes`: a node with one child needs none."""
    levels = tree_shape(blocks)[:-1]
    return sum(-(-n // FAN_IN) - (n % FAN_IN == 1) for n in levels)


def _forget(dask_scheduler: Any) -> None:
    dask_scheduler.transition_log.clear()


def _tasks(dask_scheduler: Any) -> Counter[str]:
    log = dask_scheduler.transition_log
    return Counter(str(entry[0]).split("-")[0] for entry in log if entry[2] == "processing")


def compare_dask_ml(options: argparse.Namespace) -> None:
    """dask-ml's KMeans on the same two workers: an iteration, and seeding plus fit."""
    from dask_ml.cluster import KMeans as Theirs

    from benchmarks.kmeans import responses
    from benchmarks.kmeans_peers import exact_inertia

    data = responses(1_000_000)
    k, init = 64, data[:: len(data) // 64][:64]
    with cluster(2) as client:
        X = client.persist(da.from_array(data, chunks=(125_000, 48)))
        for kind in (KMeans, Theirs):
            kind(k, init=init, max_iter=1).fit(X)  # compiles
        times = {}
        for name, kind, many in (("kmdist", KMeans, 22), ("dask-ml", Theirs, 4)):
            few = _fit_s(kind(k, init=init, max_iter=2, tol=0), X)
            times[name] = (_fit_s(kind(k, init=init, max_iter=many, tol=0), X) - few) / (many - 2)
        print(
            f"dask-ml: an iteration of 1,000,000 x 48, k = 64: kmdist {times['kmdist']:.4f} s, "
            f"dask-ml {times['dask-ml']:.4f} s = {times['dask-ml'] / times['kmdist']:.1f} x",
            flush=True,
        )
        ours, theirs = KMeans(k, random_state=0), Theirs(k, random_state=0)
        ours_s, theirs_s = _fit_s(ours, X), _fit_s(theirs, X)
        inertia = [exact_inertia(data, model.cluster_centers_) for model in (ours, theirs)]
        print(
            f"dask-ml: seeding and fit: kmdist {ours_s:.2f} s ({ours.n_iter_} iterations), dask-ml "
            f"{theirs_s:.2f} s ({theirs.n_iter_}) = {theirs_s / ours_s:.1f} x; inertia "
            f"{inertia[0]:.6g} and {inertia[1]:.6g}",
            flush=True,
        )


def _fit_s(model: Any, X: Any) -> float:
    started_s = time.perf_counter()
    model.fit(X)
    return time.perf_counter() - started_s


PARTS = {
    "scaling": compare_workers,
    "overhead": measure_overhead,
    "traffic": count_traffic,
    "dask-ml": compare_dask_ml,
}
