"""k-medians on one block: nearest by Σ|x − c|, and counts from which medians follow exactly."""

import numpy as np
from numba import njit

from kmdist.engine.kernels import NO_WEIGHTS, as_kernel_rows, kernel_chunks


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _length(row, centroid):  # type: ignore[no-untyped-def]
    total = 0.0
    for p in range(row.size):
        total += abs(np.float64(row[p]) - centroid[p])
    return total


@njit(nogil=True, cache=True)
def _nearest(rows, centroids, labels, distances):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        least, labels[i] = np.inf, 0
        for j in range(centroids.shape[0]):
            t = _length(rows[i], centroids[j])
            if t < least:
                least = t
                labels[i] = j
        distances[i] = least


@njit(nogil=True, cache=True)
def _count(rows, weights, labels, counts):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        weight = weights[i] if weights.size else 1.0
        table = counts[labels[i]]
        for p in range(rows.shape[1]):
            table[p, rows[i, p]] += weight


@njit(nogil=True, cache=True)
def _all(rows, centroids, out):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        for j in range(centroids.shape[0]):
            out[i, j] = _length(rows[i], centroids[j])


def assign_manhattan(
    rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid by Manhattan distance.

    Parameters
    ----------
    rows : (n, d) real numbers.
    centroids : (k, d) floating point.
    labels : (n,) int32 to write to, or None.

    Returns
    -------
    labels : (n,) int32, ties to the lowest index.
    distances : (n,) float64, Σ|x − c|.
    """
    labels = np.empty(len(rows), np.int32) if labels is None else labels
    distances = np.empty(len(rows))
    exact = np.ascontiguousarray(centroids, dtype=np.float64)
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        here = slice(first, first + len(part))
        _nearest(part, exact, labels[here], distances[here])
    return labels, distances


def manhattan_distances(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Σ|x − c| of each row to every centroid.

    Returns
    -------
    (n, k) float64
    """
    out = np.empty((len(rows), len(centroids)))
    exact = np.ascontiguousarray(centroids, dtype=np.float64)
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        _all(part, exact, out[first : first + len(part)])
    return out


def count_values(
    rows: np.ndarray, weights: np.ndarray | None, labels: np.ndarray, k: int
) -> np.ndarray:
    """How often each value occurs in each feature of each cluster.

    Parameters
    ----------
    rows : (n, d) uint8.
    weights : (n,) float64 or None (all one).
    labels : (n,) int32.
    k : clusters.

    Returns
    -------
    (k, d, 256) float64

    Raises
    ------
    ValueError : rows are not uint8.
    """
    if rows.dtype != np.uint8:
        raise ValueError(f"values are counted of uint8 rows only, received {rows.dtype}")
    counts = np.zeros((k, rows.shape[1], 256))
    _count(np.ascontiguousarray(rows), NO_WEIGHTS if weights is None else weights, labels, counts)
    return counts


def medians_of_counts(counts: np.ndarray) -> np.ndarray:
    """Lower weighted medians: the least value with at least half of the weight at or below it.

    Parameters
    ----------
    counts : (k, d, 256) float64.

    Returns
    -------
    (k, d) float64; 0 for a cluster without rows.
    """
    cumulated = counts.cumsum(axis=2)
    return np.asarray((cumulated * 2 >= cumulated[:, :, -1:]).argmax(axis=2), dtype=np.float64)


def weighted_medians(
    rows: np.ndarray, weights: np.ndarray, labels: np.ndarray, centroids: np.ndarray
) -> np.ndarray:
    """Lower weighted median of each feature of each cluster.

    Parameters
    ----------
    rows : (n, d) floating point. weights : (n,) float64. labels : (n,) int32.
    centroids : (k, d), kept where a cluster has no weight.

    Returns
    -------
    (k, d) float64
    """
    medians = centroids.astype(np.float64)
    for j in range(len(centroids)):
        inside = (labels == j) & (weights > 0)
        if not inside.any():
            continue
        own, own_weights = rows[inside], weights[inside]
        order = np.argsort(own, axis=0, kind="stable")
        cumulated = np.cumsum(own_weights[order], axis=0)
        index = (cumulated * 2 >= cumulated[-1]).argmax(axis=0)
        columns = np.arange(rows.shape[1])
        medians[j] = own[order[index, columns], columns]
    return medians
