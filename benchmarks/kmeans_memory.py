"""Rows generated on the fly through workers of little memory: does the peak stay flat?"""

import argparse
import threading
import time

from benchmarks.process import tree_memory_bytes


def main(argv: list[str]) -> None:
    """Fit and label rows of several sizes on two workers; print time and peak memory of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks kmeans_memory", description=__doc__)
    parser.add_argument("--gb", default="4,40", help="sizes of the rows in GB")
    parser.add_argument("--limit", default="1GiB", help="memory of a worker")
    parser.add_argument("--algorithm", default="auto")
    parser.add_argument("--features", type=int, default=48)
    parser.add_argument("-k", type=int, default=16)
    options = parser.parse_args(argv)
    for size in options.gb.split(","):
        run(float(size), options)


def run(size_gb: float, options: argparse.Namespace) -> None:
    """One size, on a cluster of its own."""
    import dask.array as da
    import numpy as np
    from distributed import Client, LocalCluster

    from kmdist import KMeans

    rows = int(size_gb * 1e9 / 4 / options.features)
    chunk = 32_000_000 // 4 // options.features
    random = da.random.default_rng(0)
    X = random.standard_normal((rows, options.features), chunks=(chunk, -1), dtype=np.float32)
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=options.limit,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        pids = {worker.pid for worker in cluster.workers.values()}
        peaks, stop = [0], threading.Event()

        def watch() -> None:
            while not stop.wait(0.2):
                peaks[0] = max(peaks[0], *(tree_memory_bytes(pid) for pid in pids))

        thread = threading.Thread(target=watch)
        thread.start()
        started_s = time.perf_counter()
        model = KMeans(options.k, algorithm=options.algorithm, random_state=0, max_iter=20).fit(X)
        labelled = int((model.labels_ >= 0).sum().compute())
        elapsed_s = time.perf_counter() - started_s
        stop.set()
        thread.join()
        same = pids == {worker.pid for worker in cluster.workers.values()}
        client.close()
    print(
        f"{size_gb:g} GB, {rows:,} rows: {model.algorithm_} ({model.algorithm_reason_}); "
        f"{elapsed_s:.0f} s, peak of a worker {peaks[0] / 2**20:.0f} MiB, labelled {labelled:,}, "
        f"workers {'not ' if same else ''}restarted, inertia {model.inertia_:.9g}",
        flush=True,
    )
