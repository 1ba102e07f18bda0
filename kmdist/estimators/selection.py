"""How many clusters: fit a range of k with shared passes, score each, recommend one.

P passes over the data fit all k together, P being the most iterations any of them takes, plus
three: statistics and a sample at the start, the scores at the end. Each pass loads a block once.
Rows that are kept in this process are fitted one k after another instead, so that bounds and the
labels of the last iteration save work; the bits are the same.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from kmdist.arguments import checked_arguments
from kmdist.engine.block_steps import Centers
from kmdist.engine.fits import find_elbow
from kmdist.engine.kernels.assign import assign
from kmdist.engine.kernels.distances import inertia_bins, two_nearest
from kmdist.engine.kernels.frame import Frame
from kmdist.engine.kernels.sums import PartialSums, merge_sums
from kmdist.engine.lloyd import (
    Options,
    State,
    advance,
    predict_rows,
    run_step,
    tidy_counts,
    total_inertia,
    typical_distance,
)
from kmdist.engine.passes import one_blas_thread
from kmdist.engine.rows import Rows, sample_rows
from kmdist.engine.seeding import complete, sample_size, seed_centroids, seed_each
from kmdist.estimators.model import (
    CentroidModel,
    as_rows,
    checked,
    checked_weights,
    pool_for,
    require_tol,
    seed_of,
)


class Spread(NamedTuple):
    """Per cluster: Σ w·distance², Σ w·distance, Σ w·simplified silhouette, Σ w.

    All (k,) float64, but the first: `kmdist.engine.kernels.distances.inertia_bins`.
    """

    inertias: np.ndarray
    distances: np.ndarray
    silhouettes: np.ndarray
    counts: np.ndarray


def spread_block(source: Any, centroids: list[np.ndarray], frame: Frame) -> list[Spread]:
    """Leaf of the pass that scores several sets of centroids."""
    block = source.open()
    weights = np.ones(len(block.rows)) if block.weights is None else block.weights
    spreads = []
    for each in centroids:
        labels = np.empty(len(block.rows), np.int32)
        assign(block.rows, None, each, frame, labels, summed=False)
        own, other = two_nearest(block.rows, each, labels)
        largest = np.maximum(own, other)
        k = len(each)
        silhouette = np.zeros(len(own))
        if k > 1:  # the next nearest centroid of one is infinitely far
            np.divide(other - own, largest, out=silhouette, where=largest > 0)
        spreads.append(
            Spread(
                inertia_bins(block.rows, block.weights, each, labels),
                np.bincount(labels, weights=weights * own, minlength=k),
                np.bincount(labels, weights=weights * silhouette, minlength=k),
                np.bincount(labels, weights=weights, minlength=k),
            )
        )
    return spreads


def merge_spreads(parts: list[list[Spread]]) -> list[Spread]:
    """Add what blocks contribute, in order."""
    return [
        Spread(*(sum(arrays[1:], arrays[0]) for arrays in zip(*same, strict=True)))
        for same in zip(*parts, strict=True)
    ]


def sampled_silhouettes(sample: np.ndarray, centroids: list[np.ndarray]) -> list[float]:
    """Rousseeuw's silhouette of a sample for several sets of centroids.

    The distances between the rows, which are most of the work, are computed once.

    Parameters
    ----------
    sample : (m, d) rows. centroids : (k, d) each.

    Returns
    -------
    list of float : the mean over the rows; 0 where fewer than two clusters have rows, or all
        rows are alone in theirs.
    """
    from scipy.spatial.distance import cdist

    with one_blas_thread():
        gaps = cdist(sample, sample)
        return [_silhouette(gaps, predict_rows(sample, each), len(each)) for each in centroids]


def _silhouette(gaps: np.ndarray, labels: np.ndarray, k: int) -> float:
    counts = np.bincount(labels, minlength=k)
    if not 1 < np.count_nonzero(counts) < len(labels):
        return 0.0
    filled = np.flatnonzero(counts)
    member = (labels[:, None] == filled).astype(np.float64)
    sums, sizes = gaps @ member, counts[filled]
    own = member > 0
    within = sums[own] / np.maximum(counts[labels] - 1, 1)
    between = np.where(own, np.inf, sums / sizes).min(axis=1)
    largest = np.maximum(within, between)
    value = np.divide(between - within, largest, out=np.zeros(len(labels)), where=largest > 0)
    return float(np.where(counts[labels] > 1, value, 0.0).mean())


def davies_bouldin(centroids: np.ndarray, spread: Spread) -> float:
    """Mean similarity of each cluster to its most similar one (1979)."""
    filled = spread.counts > 0
    if filled.sum() < 2:
        return 0.0
    own = spread.distances[filled] / spread.counts[filled]
    points = centroids[filled].astype(np.float64)
    gaps = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    np.fill_diagonal(gaps, np.inf)
    together = own[:, None] + own  # infinitely alike where centroids coincide
    alike = np.divide(together, gaps, out=np.full(gaps.shape, np.inf), where=gaps > 0)
    return float(alike.max(axis=1).mean())


OnState = Callable[[State], None]

SILHOUETTE_ROWS = 4000
"""Rows of the sampled silhouette, which costs their number squared."""


@dataclass(frozen=True)
class Candidate:
    """One k and how good it is.

    Parameters
    ----------
    k : clusters.
    state : the fit; exact inertia and counts.
    inertia : Σ w‖x − c‖².
    gvf : goodness of variance fit, 1 − inertia / Σ w‖x − mean‖².
    simplified_silhouette : mean of (b − a)/max(a, b), a and b the distances to the own and the
        next nearest centroid (Hruschka, de Castro, Campello, 2004); all rows.
    silhouette : Rousseeuw's (1987), of a sample of rows.
    calinski_harabasz : ratio of the dispersion between to that within clusters (1974).
    davies_bouldin : mean similarity of each cluster to its most similar one (1979); low is good.
    """

    k: int
    state: State
    inertia: float
    gvf: float
    simplified_silhouette: float
    silhouette: float
    calinski_harabasz: float
    davies_bouldin: float


@dataclass(frozen=True)
class Selection:
    """A range of k, scored.

    Parameters
    ----------
    table : one `Candidate` a k, ascending.
    k : the recommended one.
    reason : why, in a sentence.
    elbow : the knee of the inertia curve, or None where it has none.
    """

    table: tuple[Candidate, ...]
    k: int
    reason: str
    elbow: int | None

    @property
    def best(self) -> Candidate:
        """The recommended candidate."""
        return next(row for row in self.table if row.k == self.k)


@checked_arguments
def select_k(
    X: Any,
    ks: Iterable[int],
    *,
    sample_weight: Any = None,
    init: str = "k-means++",
    max_iter: int = 300,
    tol: float = 1e-4,
    random_state: int = 0,
    on_state: OnState | None = None,
) -> Selection:
    """Fit every k, score it, and recommend one.

    Parameters
    ----------
    X, sample_weight : as in `kmdist.KMeans.fit`.
    ks : the numbers of clusters to try, each at least 1.
    init, max_iter, tol, random_state : as in `kmdist.KMeans`.
    on_state : called with each state of each fit; its k is the number of its centroids.

    Returns
    -------
    Selection

    Raises
    ------
    ValueError : a k that there cannot be, or another value that is not allowed.
    """
    require_tol(tol)
    X, random_state = checked(CentroidModel(), X, reset=True), seed_of(random_state)
    with pool_for(X) as pool:
        rows, _ = as_rows(X, checked_weights(sample_weight, X), pool)
        wanted = sorted({int(k) for k in ks})
        if not wanted or wanted[0] < 1 or wanted[-1] > rows.n_rows:
            raise ValueError(
                f"k must lie in 1 … {rows.n_rows} (the rows there are), received {wanted}"
            )
        sample, initial = _seed_all(rows, wanted, init, random_state)
        options = Options(max_iter=max_iter, tol=tol)
        states = _iterate_many(rows, initial, options, on_state or (lambda _: None))
        found = [state.centroids for state in states]
        spreads: list[Spread] = rows.run(
            spread_block, rows.pool.broadcast(found), rows.frame_future, merge=merge_spreads
        )
        silhouettes = sampled_silhouettes(sample[:: -(-len(sample) // SILHOUETTE_ROWS)], found)
        return recommend(
            tuple(_candidate(rows, *one) for one in zip(states, spreads, silhouettes, strict=True))
        )


def _seed_all(
    rows: Rows, ks: list[int], init: str, seed: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A sample of the rows, and initial centroids for each k."""
    if init == "k-means++":
        sample, found = seed_each(rows, ks, seed)
        return sample.rows, [complete(rows, *pair) for pair in zip(found, ks, strict=True)]
    size = sample_size(ks[-1], rows.n_features, rows.centroid_dtype.itemsize)
    sample = sample_rows(rows, size, seed)
    return sample.rows, [seed_centroids(rows, k, init, seed) for k in ks]


def _iterate_many(
    rows: Rows, initial: list[np.ndarray], options: Options, say: OnState
) -> list[State]:
    """States whose counts and inertia have yet to be measured."""
    states = [
        State(np.asarray(c, rows.centroid_dtype), np.zeros(len(c)), np.inf, 0) for c in initial
    ]
    if rows.kept and rows.pool.processes == 1:
        return [_iterate_one(rows, state, options, say) for state in states]
    running = list(range(len(states)))
    while running:
        centers = [Centers(states[i].centroids) for i in running]
        sums = rows.run(
            _step_many, rows.pool.broadcast(centers), rows.frame_future, merge=_merge_many
        )
        for i, part in zip(running, sums, strict=True):
            states[i] = advance(rows, states[i], part, options)
            say(states[i])
        running = [i for i in running if states[i].stop_reason is None]
    return states


def _iterate_one(rows: Rows, state: State, options: Options, say: OnState) -> State:
    while state.stop_reason is None:
        distance = typical_distance(rows, state)
        sums = run_step(rows, state.centroids, options.bounds, distance)
        state = advance(rows, state, sums, options)
        say(state)
    return state


def _step_many(source: Any, centers: list[Centers], frame: Frame) -> list[PartialSums]:
    block = source.open()
    return [assign(block.rows, block.weights, each.centroids, frame) for each in centers]


def _merge_many(parts: list[list[PartialSums]]) -> list[PartialSums]:
    return [merge_sums(list(same)) for same in zip(*parts, strict=True)]


def _candidate(rows: Rows, state: State, spread: Spread, silhouette: float) -> Candidate:
    k, weight = len(state.centroids), rows.moments.weight
    total, within = float(rows.moments.m2.sum()), total_inertia(spread.inertias)
    state = replace(state, counts=tidy_counts(rows, spread.counts), inertia=within)
    between = max(total - within, 0.0)
    possible = 1 < k < rows.n_counted and within > 0
    return Candidate(
        k=k,
        state=state,
        inertia=within,
        gvf=1.0 - within / total if total > 0 else 1.0,
        simplified_silhouette=float(spread.silhouettes.sum() / weight) if k > 1 else 0.0,
        silhouette=silhouette,
        calinski_harabasz=(between / (k - 1)) / (within / (weight - k)) if possible else 0.0,
        davies_bouldin=davies_bouldin(state.centroids, spread),
    )


def recommend(table: tuple[Candidate, ...]) -> Selection:
    """The k with the most votes of four criteria and the elbow; ties go to the smaller k."""
    elbow = find_elbow(np.array([row.k for row in table]), np.array([row.inertia for row in table]))
    scored = [row for row in table if row.k > 1]
    if not scored:
        return Selection(table, table[0].k, "the only k that was tried", elbow)
    votes = {
        "simplified silhouette": max(scored, key=lambda row: row.simplified_silhouette).k,
        "silhouette": max(scored, key=lambda row: row.silhouette).k,
        "Calinski-Harabasz": max(scored, key=lambda row: row.calinski_harabasz).k,
        "Davies-Bouldin": min(scored, key=lambda row: row.davies_bouldin).k,
    }
    if elbow is not None:
        votes["elbow of the inertia"] = elbow
    choices = list(votes.values())
    k = min(set(choices), key=lambda choice: (-choices.count(choice), choice))
    names = " and ".join(name for name, choice in votes.items() if choice == k)
    others = ", ".join(f"{name}: {choice}" for name, choice in votes.items() if choice != k)
    reason = f"k = {k} is best by {names}" + (f" ({others})" if others else "")
    return Selection(table, k, reason, elbow)
