"""Distances to centroids in float64, from the differences: inertia, farthest rows, transform.

Also what follows from such distances of rows in memory: greedy k-means++ with a local search that
moves centres it placed badly.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from kmdist.engine.kernels import NO_WEIGHTS, as_kernel_rows, kernel, kernel_chunks
from kmdist.engine.kernels.sums import add_exactly, carry, no_totals, totals_of


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


@kernel(fastmath={"contract", "reassoc"})
def _inertia(rows, weights, centroids, labels, bins):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        label, total = labels[i], 0.0
        for p in range(rows.shape[1]):
            t = np.float64(rows[i, p]) - centroids[label, p]
            total += t * t
        add_exactly(bins, label, total * weights[i] if weights.size else total)


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
    (k, BINS) int64, of `kmdist.engine.kernels.sums` : Σ w‖x − c‖² over the rows of each cluster,
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


_TOGETHER = 3
"""Candidates that are tried in one reading of the rows."""


@kernel(fastmath={"contract", "nnan", "nsz", "reassoc"})
def _closer(rows, candidates, nearest, weights, out):  # type: ignore[no-untyped-def]
    """Squared distances after adding each of three centres, and their weighted sums."""
    first, second, third = 0.0, 0.0, 0.0
    zero = rows.dtype.type(0)
    for i in range(rows.shape[0]):
        a, b, c = zero, zero, zero
        for p in range(rows.shape[1]):
            x = rows[i, p]
            t, u, v = x - candidates[0, p], x - candidates[1, p], x - candidates[2, p]
            a += t * t
            b += u * u
            c += v * v
        known, weight = nearest[i], weights[i]
        out[0, i] = a if a < known else known
        out[1, i] = b if b < known else known
        out[2, i] = c if c < known else known
        first += weight * out[0, i]
        second += weight * out[1, i]
        third += weight * out[2, i]
    return first, second, third


def _try(
    rows: np.ndarray, chosen: np.ndarray, nearest: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sum and squared distances after adding each of some rows as a centre."""
    m = len(chosen)
    padded = np.resize(chosen, -(-m // _TOGETHER) * _TOGETHER)
    sums, distances = np.empty(len(padded)), np.empty((len(padded), len(rows)))
    for first in range(0, len(padded), _TOGETHER):
        here = slice(first, first + _TOGETHER)
        sums[here] = _closer(rows, rows[padded[here]], nearest, weights, distances[here])
    return sums[:m], distances


def plus_plus(
    rows: np.ndarray,
    weights: np.ndarray,
    k: int,
    random: np.random.Generator,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Choose k rows as centres by greedy k-means++.

    Of ``2 + ⌊ln k⌋`` candidates, drawn in proportion to their weighted squared distances, the
    one that lowers the potential most is taken (Arthur and Vassilvitskii, SODA 2007; the greedy
    variant is theirs too).

    Parameters
    ----------
    rows : (n, d) float32 or float64, centred.
    weights : (n,) float64; rows of weight zero are never chosen.
    k : centres wanted.
    random : where numbers come from.
    known : (n,) float64, squared distances to centres that there are beside the k, or None.

    Returns
    -------
    (m,) int64 : indices of the chosen rows, in the order of choice, no two rows equal; m < k
        only where there are fewer distinct rows of positive weight.
    """
    trials = 2 + int(np.log(k))
    chosen: list[int] = []
    nearest = known
    if nearest is None:
        total = float(weights.sum())
        first = _draw(np.cumsum(weights), random.random(1) * total)[0]
        chosen = [int(first)]
        nearest = _try(rows, np.array([first]), np.full(len(rows), np.inf), weights)[1][0]
    while len(chosen) < k:
        cumulated = np.cumsum(weights * nearest)
        if not cumulated[-1] > 0:
            break
        drawn = np.unique(_draw(cumulated, random.random(trials) * cumulated[-1]))
        sums, distances = _try(rows, drawn, nearest, weights)
        best = int(sums.argmin())
        chosen.append(int(drawn[best]))
        nearest = distances[best]
    return np.array(chosen, dtype=np.int64)


def _draw(cumulated: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices whose share of the total holds the values; never one of share zero."""
    index = np.searchsorted(cumulated, values, side="right")
    last = int(np.searchsorted(cumulated, cumulated[-1], side="left"))
    return np.asarray(np.minimum(index, last))


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _square(rows, i, centres, j):  # type: ignore[no-untyped-def]
    total = rows.dtype.type(0)
    for p in range(rows.shape[1]):
        t = rows[i, p] - centres[j, p]
        total += t * t
    return np.float64(total)


@njit(nogil=True, cache=True)
def _find_two(rows, centres, i, owners, squares):  # type: ignore[no-untyped-def]
    """The two nearest centres of a row."""
    owners[0, i], owners[1, i] = 0, 0
    squares[0, i], squares[1, i] = np.inf, np.inf
    for j in range(centres.shape[0]):
        _insert(i, j, _square(rows, i, centres, j), owners, squares)


@njit(nogil=True, cache=True)
def _insert(i, j, square, owners, squares):  # type: ignore[no-untyped-def]
    if square < squares[0, i]:
        owners[1, i], squares[1, i] = owners[0, i], squares[0, i]
        owners[0, i], squares[0, i] = j, square
    elif square < squares[1, i]:
        owners[1, i], squares[1, i] = j, square


@kernel()
def _find_all(rows, centres, owners, squares):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        _find_two(rows, centres, i, owners, squares)


@kernel()
def _exchange(rows, weights, chosen, centres, owners, squares, losses, distances):  # type: ignore[no-untyped-def]
    """Put row `chosen` in the place of the centre that is missed least, if that is a gain."""
    losses[:] = 0.0
    gain = 0.0
    for i in range(rows.shape[0]):
        t = _square(rows, i, rows, chosen)
        distances[i] = t
        least = min(t, squares[0, i])
        gain += weights[i] * (squares[0, i] - least)
        losses[owners[0, i]] += weights[i] * (min(t, squares[1, i]) - least)
    place = 0
    for j in range(losses.size):
        place = j if losses[j] < losses[place] else place
    if not losses[place] < gain:
        return False
    for p in range(rows.shape[1]):  # a row as a whole brings six seconds of compiling with it
        centres[place, p] = rows[chosen, p]
    for i in range(rows.shape[0]):
        if owners[0, i] == place or owners[1, i] == place:
            _find_two(rows, centres, i, owners, squares)
        else:
            _insert(i, place, distances[i], owners, squares)
    return True


def exchange_centres(
    rows: np.ndarray,
    weights: np.ndarray,
    centres: np.ndarray,
    steps: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Centres after some steps of local search (Lattanzi and Sohler, ICML 2019).

    Each step draws a row in proportion to its weighted squared distance, and puts it in the place
    of the centre whose rows lose least by that, where the potential falls. Draws are stratified: a
    group that keeps a share of the potential of at least two in `steps` is tried, whatever the
    seed.

    Parameters
    ----------
    rows, weights, random : as in `plus_plus`.
    centres : (k, d) of the type of the rows.
    """
    centres = centres.copy()
    owners = np.zeros((2, len(rows)), np.int64)
    squares, distances = np.full((2, len(rows)), np.inf), np.empty(len(rows))
    losses = np.empty(len(centres))
    _find_all(rows, centres, owners, squares)
    for value in (random.permutation(steps) + random.random(steps)) / steps:
        cumulated = np.cumsum(weights * squares[0])
        if not cumulated[-1] > 0:
            break
        chosen = int(_draw(cumulated, np.array([value * cumulated[-1]]))[0])
        _exchange(rows, weights, chosen, centres, owners, squares, losses, distances)
    return centres
