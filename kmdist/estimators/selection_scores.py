"""How far rows lie from their centroids and the next: sums for scores without labels to compare."""

from typing import Any, NamedTuple

import numpy as np

from kmdist.engine.blas import one_blas_thread
from kmdist.engine.kernels.assign import assign
from kmdist.engine.kernels.distances import cluster_inertia, two_nearest
from kmdist.engine.kernels.frame import Frame
from kmdist.estimators.model import predict_rows


class Spread(NamedTuple):
    """Per cluster: Σ w·distance², Σ w·distance, Σ w·simplified silhouette, Σ w; (k,) float64."""

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
                cluster_inertia(block.rows, block.weights, each, labels),
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
