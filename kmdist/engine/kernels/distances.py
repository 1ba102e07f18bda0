"""Distances to centroids in float64, from the differences: inertia, farthest rows, transform."""

from typing import NamedTuple

import numpy as np
from numba import njit

from kmdist.engine.kernels.chunks import NO_WEIGHTS, as_kernel_rows, kernel_chunks
from kmdist.engine.kernels.totals import add_exactly, carry, no_totals, totals_of


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _difference2(row, centroid):  # type: ignore[no-untyped-def]
    total = 0.0
    for p in range(row.size):
        t = np.float64(row[p]) - centroid[p]
        total += t * t
    return total


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _scaled2(row, centroid, factor):  # type: ignore[no-untyped-def]
    total = 0.0
    for p in range(row.size):
        t = (np.float64(row[p]) - centroid[p]) * factor
        total += t * t
    return total


@njit(nogil=True, cache=True)
def _distance(row, centroid):  # type: ignore[no-untyped-def]
    """‖x − c‖ whose square may overflow or underflow."""
    square = _difference2(row, centroid)
    if square < 1e-280:
        return np.sqrt(_scaled2(row, centroid, 2.0**600)) * 2.0**-600
    if square == np.inf:
        return np.sqrt(_scaled2(row, centroid, 2.0**-600)) * 2.0**600
    return np.sqrt(square)


@njit(nogil=True, cache=True)
def _inertia(rows, weights, centroids, labels, bins):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        label = labels[i]
        t = _difference2(rows[i], centroids[label])
        add_exactly(bins, label, t * weights[i] if weights.size else t)


@njit(nogil=True, cache=True)
def _distances(rows, centroids, labels, out):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        out[i] = _difference2(rows[i], centroids[labels[i]])


@njit(nogil=True, cache=True)
def _all_distances(rows, centroids, out):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        for j in range(centroids.shape[0]):
            out[i, j] = _distance(rows[i], centroids[j])


@njit(nogil=True, cache=True)
def _two_nearest(rows, centroids, labels, own, other):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        least = np.inf
        for j in range(centroids.shape[0]):
            t = _distance(rows[i], centroids[j])
            if j == labels[i]:
                own[i] = t
            elif t < least:
                least = t
        other[i] = least


def two_nearest(
    rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each row to its own centroid and to the nearest other one.

    Returns
    -------
    own, other : (n,) float64; `other` is infinite for k = 1.
    """
    own, other = np.empty(len(rows)), np.empty(len(rows))
    exact = np.ascontiguousarray(centroids, dtype=np.float64)
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        here = slice(first, first + len(part))
        _two_nearest(part, exact, labels[here], own[here], other[here])
    return own, other


def inertia_bins(
    rows: np.ndarray, weights: np.ndarray | None, centroids: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Inertia of each cluster, to be added to that of other rows.

    Parameters
    ----------
    rows : (n, d) real numbers.
    weights : (n,) float64 or None (all one).
    centroids : (k, d) floating point.
    labels : (n,) int32.

    Returns
    -------
    (k, BINS) int64, of `kmdist.engine.kernels.totals` : Σ w‖x − c‖² over the rows of each cluster,
        each term from the differences, not from ‖x‖² − 2x·c + ‖c‖².
    """
    bins = no_totals(len(centroids))
    exact = np.ascontiguousarray(centroids, dtype=np.float64)
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        here = slice(first, first + len(part))
        _inertia(part, NO_WEIGHTS if weights is None else weights[here], exact, labels[here], bins)
    return carry(bins)


def cluster_inertia(
    rows: np.ndarray, weights: np.ndarray | None, centroids: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """(k,) float64, inertia of each cluster: `inertia_bins`, rounded."""
    return totals_of(inertia_bins(rows, weights, centroids, labels))


def squared_distances(rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """‖x − c‖² of each row to the centroid it is assigned to.

    Returns
    -------
    (n,) float64
    """
    out = np.empty(len(rows))
    exact = np.ascontiguousarray(centroids, dtype=np.float64)
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        _distances(part, exact, labels[first : first + len(part)], out[first : first + len(part)])
    return out


def all_distances(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """‖x − c‖ of each row to every centroid.

    Returns
    -------
    (n, k) float64
    """
    out = np.empty((len(rows), len(centroids)))
    exact = np.ascontiguousarray(centroids, dtype=np.float64)
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        _all_distances(part, exact, out[first : first + len(part)])
    return out


class Farthest(NamedTuple):
    """Rows far from their centroids, farthest first.

    Parameters
    ----------
    distances : (m,) float64, squared.
    positions : (m,) int64, index in the block (`merge_farthest` makes them global).
    rows : (m, d) float64.
    weights : (m,) float64.
    labels : (m,) int32, the cluster each row is in.
    """

    distances: np.ndarray
    positions: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    labels: np.ndarray


def farthest_rows(
    rows: np.ndarray,
    weights: np.ndarray | None,
    centroids: np.ndarray,
    labels: np.ndarray,
    wanted: int,
    first: int = 0,
) -> Farthest:
    """The rows farthest from their centroids, no two of them equal, none of weight zero.

    Parameters
    ----------
    rows, weights, centroids, labels : as in `cluster_inertia`.
    wanted : how many rows at most; a row that lies on its centroid is never one of them.
    first : global index of the first row.

    Returns
    -------
    Farthest : by distance, descending, then by global index.
    """
    distances = squared_distances(rows, centroids, labels)
    if weights is not None:
        distances[weights == 0] = 0.0
    order = np.argsort(-distances, kind="stable")
    order = order[distances[order] > 0]
    chosen: list[int] = []
    seen: set[bytes] = set()
    for i in order:
        key = rows[i].tobytes()
        if key not in seen:
            seen.add(key)
            chosen.append(int(i))
            if len(chosen) == wanted:
                break
    index = np.array(chosen, dtype=np.int64)
    return Farthest(
        distances[index],
        index + first,
        rows[index].astype(np.float64),
        np.ones(len(index)) if weights is None else weights[index],
        labels[index],
    )


def merge_farthest(wanted: int, parts: list[Farthest]) -> Farthest:
    """Join `farthest_rows` of several blocks and keep the `wanted` farthest, none twice."""
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    order = np.lexsort((joined[1], -joined[0]))
    _, first = np.unique(joined[2][order], axis=0, return_index=True)
    order = order[np.sort(first)][:wanted]
    return Farthest(*(array[order] for array in joined))
