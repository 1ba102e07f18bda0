"""What each peer of ``python -m benchmarks kmeans`` does, in a process of its own."""

from collections.abc import Callable
from typing import Any

import numpy as np

Outcome = Callable[[], dict[str, Any]]
Run = Callable[[], Outcome]


def exact_inertia(rows: np.ndarray, centroids: np.ndarray) -> float:
    """Inertia in float64 for the nearest centroids, on data centred on their mean."""
    mean = centroids.mean(axis=0, dtype=np.float64)
    local = centroids.astype(np.float64) - mean
    squares, total = (local * local).sum(axis=1), 0.0
    step = max(1000, 4_000_000 // len(centroids))
    for first in range(0, len(rows), step):
        x = rows[first : first + step].astype(np.float64) - mean
        scores = squares - 2.0 * (x @ local.T)
        total += float(np.maximum(scores.min(axis=1) + (x * x).sum(axis=1), 0.0).sum())
    return total


def prepare(
    peer: str,
    rows: str,
    init: str,
    iterations: int,
    tol: float = 0.0,
    limit: int | None = None,
) -> Run:
    """Load the input, or the first `limit` rows, warm up on a few, and return the fit."""
    X, centroids = np.load(rows)[:limit], np.load(init)
    fit = PEERS[peer]
    few = np.concatenate([centroids, X[:2000]]).astype(X.dtype)
    fit(few, centroids, 2, tol)

    def run() -> Outcome:
        found, n_iter = fit(X, centroids, iterations, tol)

        def outcome() -> dict[str, Any]:
            return {"inertia": exact_inertia(X, found), "iterations": n_iter}

        return outcome

    return run


Fitted = tuple[np.ndarray, int]


def kmdist_auto(X: np.ndarray, init: np.ndarray, iterations: int, tol: float) -> Fitted:
    return _ours("auto", X, init, iterations, tol)


def kmdist_lloyd(X: np.ndarray, init: np.ndarray, iterations: int, tol: float) -> Fitted:
    return _ours("lloyd", X, init, iterations, tol)


def _ours(algorithm: str, X: np.ndarray, init: np.ndarray, iterations: int, tol: float) -> Fitted:
    from kmdist import KMeans

    model = KMeans(len(init), init=init, max_iter=iterations, tol=tol, algorithm=algorithm).fit(X)
    return model.cluster_centers_, model.n_iter_


def sklearn(X: np.ndarray, init: np.ndarray, iterations: int, tol: float) -> Fitted:
    from sklearn.cluster import KMeans

    model = KMeans(len(init), init=init, n_init=1, max_iter=iterations, tol=tol).fit(X)
    return model.cluster_centers_, model.n_iter_


def sklearn_elkan(X: np.ndarray, init: np.ndarray, iterations: int, tol: float) -> Fitted:
    from sklearn.cluster import KMeans

    model = KMeans(
        len(init), init=init, n_init=1, max_iter=iterations, tol=tol, algorithm="elkan"
    ).fit(X)
    return model.cluster_centers_, model.n_iter_


def sklearnex(X: np.ndarray, init: np.ndarray, iterations: int, tol: float) -> Fitted:
    from sklearnex.cluster import KMeans

    model = KMeans(len(init), init=init, n_init=1, max_iter=iterations, tol=tol).fit(X)
    return model.cluster_centers_, int(model.n_iter_)


def faiss(X: np.ndarray, init: np.ndarray, iterations: int, tol: float) -> Fitted:
    import faiss as library

    library.omp_set_num_threads(1)
    model = library.Kmeans(
        X.shape[1], len(init), niter=iterations, max_points_per_centroid=len(X), seed=0
    )
    model.train(X, init_centroids=np.ascontiguousarray(init))
    return model.centroids, iterations


def superkmeans(X: np.ndarray, init: np.ndarray, iterations: int, tol: float) -> Fitted:
    """From centres of its own, since it takes none; it prunes without proof."""
    from superkmeans import SuperKMeans

    model = SuperKMeans(
        len(init),
        X.shape[1],
        hierarchical=False,
        iters=iterations,
        sampling_fraction=1.0,
        n_threads=1,
        early_termination=False,
    )
    return np.asarray(model.train(X)), iterations


def opencv(X: np.ndarray, init: np.ndarray, iterations: int, tol: float) -> Fitted:
    import cv2

    cv2.setNumThreads(1)
    labels = np.empty((len(X), 1), np.int32)
    squares = (init * init).sum(axis=1)
    for first in range(0, len(X), 100_000):
        here = slice(first, first + 100_000)
        labels[here, 0] = (squares - 2.0 * (X[here] @ init.T)).argmin(axis=1)
    rule = (cv2.TERM_CRITERIA_MAX_ITER, iterations, 0.0)
    _, _, found = cv2.kmeans(X, len(init), labels, rule, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return found, iterations


def dask_ml(X: np.ndarray, init: np.ndarray, iterations: int, tol: float) -> Fitted:
    import dask
    import dask.array as da
    from dask_ml.cluster import KMeans

    with dask.config.set(scheduler="synchronous"):
        model = KMeans(len(init), init=init, max_iter=iterations, tol=tol)
        model.fit(da.from_array(X, chunks=(-(-len(X) // 4), X.shape[1])))
    return model.cluster_centers_, model.n_iter_


PEERS: dict[str, Callable[[np.ndarray, np.ndarray, int, float], Fitted]] = {
    "kmdist": kmdist_auto,
    "kmdist lloyd": kmdist_lloyd,
    "sklearn": sklearn,
    "sklearn elkan": sklearn_elkan,
    "sklearnex": sklearnex,
    "faiss": faiss,
    "superkmeans": superkmeans,
    "opencv": opencv,
    "dask-ml": dask_ml,
}


def prepare_seeding(peer: str, rows: str, k: int, seed: int) -> Run:
    """Seed with one peer; the outcome is the inertia after 300 Lloyd iterations from there."""
    X = np.load(rows)
    seed_with = {"kmdist": _our_seeds, "sklearn": _their_seeds}[peer]
    seed_with(X[:30_000], k, seed)  # compiles all that is used; more rows than the sample has

    def run() -> Outcome:
        centroids = seed_with(X, k, seed)

        def outcome() -> dict[str, Any]:
            from kmdist import KMeans

            model = KMeans(k, init=np.asarray(centroids, X.dtype), tol=1e-4).fit(X)
            return {"inertia": model.inertia_, "seeded": exact_inertia(X, centroids)}

        return outcome

    return run


def prepare_beyond(peer: str, rows: str, k: int, seed: int) -> Run:
    """Fit with one peer that goes on from the local optimum."""
    X = np.load(rows)

    def fit() -> Any:
        if peer == "kmdist":
            from kmdist import KMeans

            return KMeans(k, refine="breathing", random_state=seed).fit(X)
        from bkmeans import BKMeans

        return BKMeans(n_clusters=k, m=5, random_state=seed).fit(X)

    fit()  # compiles and loads all that is used, of both

    def run() -> Outcome:
        model = fit()
        return lambda: {"inertia": exact_inertia(X, model.cluster_centers_)}

    return run


def _our_seeds(X: np.ndarray, k: int, seed: int) -> np.ndarray:
    from kmdist.engine.passes import ThreadPool
    from kmdist.engine.rows import rows_of_array
    from kmdist.engine.seeding import seed_centroids

    pool = ThreadPool(1)
    rows, _ = rows_of_array(X, None, pool)
    return seed_centroids(rows, k, "k-means++", seed)


def _their_seeds(X: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import kmeans_plusplus

    return kmeans_plusplus(X, k, random_state=seed)[0]


def prepare_roofline(rows: str, k: int) -> Run:
    """What a pass must do: one sgemm of rows and centroids, or one reading of the rows."""
    X = np.load(rows)
    C = np.ascontiguousarray(X[:k].T)
    tile = max(1, 131_072 // max(k, X.shape[1]))
    out = np.empty((tile, k), X.dtype)
    gemm: list[float] = []
    read: list[float] = []

    def run() -> Outcome:
        import time

        for _ in range(3):
            start = time.process_time()
            for first in range(0, len(X) - tile, tile):
                np.matmul(X[first : first + tile], C, out=out)
            done = time.process_time()
            gemm.append(done - start)
            X.max()
            read.append(time.process_time() - done)
        return lambda: {"sgemm_s": min(gemm), "read_s": min(read), "bytes": X.nbytes}

    return run
