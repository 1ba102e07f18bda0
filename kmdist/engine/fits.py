"""Fit k clusters to rows in memory, in the order and with the record that runs have."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kmdist.engine.lloyd import Options, State, iterate
from kmdist.engine.passes import ThreadPool
from kmdist.engine.rows import rows_of_array
from kmdist.engine.seeding import seed_centroids
from kmdist.errors import quantity


@dataclass(frozen=True)
class FitOptions:
    """How clusters are fitted.

    Parameters
    ----------
    init : ``k-means++``, ``k-means||``, ``random`` or an array (k, d).
    n_init : starts with different random numbers, of which the one of least inertia is kept.
    max_iter : updates of the centroids, at most.
    tol : stop when Σ‖c − c before‖² is at most this share of the mean variance of a feature, as in
        scikit-learn; 0: stop when no label changes.
    seed : of the random numbers, 0 … 2⁶⁴ − 1.
    """

    init: str | np.ndarray = "k-means++"
    n_init: int = 1
    max_iter: int = 300
    tol: float = 1e-4
    seed: int = 0


@dataclass(frozen=True)
class Clusters:
    """Fitted clusters, by count, descending, then by centroid.

    Parameters
    ----------
    centroids : (k, d) float32.
    counts : (k,) int64, rows of each.
    inertia : of the fitted rows.
    history : (iterations, 3) float64: inertia, shift, empty clusters repaired.
    n_iter, stop_reason : of the start that was kept.
    warning : None, or what the user should be told.
    """

    centroids: np.ndarray
    counts: np.ndarray
    inertia: float
    history: np.ndarray
    n_iter: int
    stop_reason: str
    warning: str | None = None

    @property
    def k(self) -> int:
        """Clusters found: fewer than asked for where the rows have fewer distinct ones."""
        return len(self.centroids)


def fit_clusters(
    rows: np.ndarray,
    k: int,
    options: FitOptions,
    *,
    threads: int = 1,
    on_state: Callable[[State], None] | None = None,
) -> Clusters:
    """Fit k clusters to rows; the same bits for any number of threads.

    Parameters
    ----------
    rows : (n, d) float32 or uint8, at least one.
    k : clusters wanted. Where the rows have fewer distinct ones, each of them is a cluster.
    on_state : called with every state.
    """
    pool = ThreadPool(threads)
    best: tuple[State, list[tuple[float, float, int]]] | None = None
    try:
        prepared, _ = rows_of_array(rows, None, pool)
        lloyd = Options(max_iter=options.max_iter, tol=options.tol)
        for attempt in range(options.n_init):
            centroids = seed_centroids(prepared, k, options.init, options.seed, attempt)
            distinct = np.unique(centroids, axis=0)
            history = []
            for state in iterate(prepared, centroids if len(distinct) == k else distinct, lloyd):
                history.append((state.inertia, state.shift, state.n_repaired))
                if on_state is not None:
                    on_state(state)
            if best is None or state.inertia < best[0].inertia:
                best = state, history
    finally:
        pool.close()
    assert best is not None
    return _described(*best, k)


def _described(state: State, history: list[tuple[float, float, int]], k: int) -> Clusters:
    centroids = state.centroids.astype(np.float32)
    order = cluster_order(state.counts, centroids)
    filled = order[state.counts[order] > 0]
    warning = None
    if len(filled) < k:
        asked = quantity(k, "cluster")
        warning = f"{asked} asked for, and there are only {len(filled)} different textures"
    return Clusters(
        centroids[filled],
        state.counts[filled].astype(np.int64),
        state.inertia,
        np.array(history, np.float64),
        state.iteration,
        state.stop_reason or "max_iter",
        warning,
    )


def cluster_order(counts: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Indices of clusters by count, descending, then by centroid."""
    keys = [*np.asarray(centroids).T[::-1], -np.asarray(counts)]
    return np.lexsort(keys)


def find_elbow(ks: np.ndarray, inertias: np.ndarray) -> int | None:
    """The knee of a falling convex curve (Satopaa et al., *Finding a Kneedle*, 2011).

    Parameters
    ----------
    ks : (n,) ascending. inertias : (n,).

    Returns
    -------
    int or None : the k farthest below the chord from the first to the last point, both axes
        scaled to 0 … 1; None for fewer than three points or where none lies a tenth below.
    """
    if len(ks) < 3 or inertias[0] <= inertias[-1]:
        return None
    x = (ks - ks[0]) / (ks[-1] - ks[0])
    y = (inertias - inertias[-1]) / (inertias[0] - inertias[-1])
    below = 1.0 - x - y
    best = int(np.argmax(below))
    return int(ks[best]) if below[best] > 0.1 else None
