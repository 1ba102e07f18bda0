"""The nearest centroid of each row of a tile, right as in float64.

`nearest` fills best scores from the register kernel of `kmdist.engine.kernels.tile`, or, where
``KMDIST_PLAIN_KERNELS`` is set in the environment, from the plain loops here; `resolve` decides
in float64 wherever the float32 scores cannot.
"""

import os

import numpy as np
from numba import njit

from kmdist.engine.kernels.tile import TILE_ROWS, nearest_of_tile

PLAIN = bool(os.environ.get("KMDIST_PLAIN_KERNELS"))
"""Use no hand-written vector code."""


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def least_two(scores):  # type: ignore[no-untyped-def]
    """The least score, its first index, and the least of the others."""
    best = np.float32(3e38)
    for j in range(scores.size):
        s = scores[j]
        best = s if s < best else best
    index = np.int32(2147483647)
    for j in range(scores.size):
        here = np.int32(j) if scores[j] <= best else np.int32(2147483647)
        index = here if here < index else index
    second = np.float32(3e38)
    for j in range(scores.size):
        s = scores[j] if np.int32(j) != index else np.float32(3e38)
        second = s if s < second else second
    return best, index, second


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz"})
def score_row(tile, r, panel, out):  # type: ignore[no-untyped-def]
    """Scores ‖c‖² − 2x·c of one row; four features a round, to save stores."""
    d, lanes = tile.shape[1], panel.shape[2]
    whole = d // 4 * 4
    for v in range(panel.shape[0]):
        sums = out[v * lanes : (v + 1) * lanes]
        for j in range(lanes):
            sums[j] = panel[v, 0, j]
        for p in range(0, whole, 4):
            x, y, z, w = tile[r, p], tile[r, p + 1], tile[r, p + 2], tile[r, p + 3]
            for j in range(lanes):
                sums[j] = (
                    sums[j]
                    + x * panel[v, p + 1, j]
                    + y * panel[v, p + 2, j]
                    + z * panel[v, p + 3, j]
                    + w * panel[v, p + 4, j]
                )
        for p in range(whole, d):
            x = tile[r, p]
            for j in range(lanes):
                sums[j] += x * panel[v, p + 1, j]


@njit(nogil=True, cache=True)
def _nearest_plain(tile, n, panel, best, second, nearest):  # type: ignore[no-untyped-def]
    scores = np.empty(panel.shape[0] * panel.shape[2], np.float32)
    for i in range(n):
        score_row(tile, i, panel, scores)
        best[i], nearest[i], second[i] = least_two(scores)


@njit(nogil=True, cache=True)
def nearest_rows(tile, n, panel, plain, best, second, nearest):  # type: ignore[no-untyped-def]
    """`kmdist.engine.kernels.tile.nearest_of_tile`, or the same by plain loops."""
    if plain:
        _nearest_plain(tile, n, panel, best, second, nearest)
    else:
        nearest_of_tile(tile, n, panel, best, second, nearest)


_TINY = 1e-280
"""Squared distances below it have lost digits, or all of them, to underflow."""

_MAGNIFIED = 2.0**600


@njit(nogil=True, cache=True)
def distance2(rows, i, centroids, j, factor):  # type: ignore[no-untyped-def]
    """‖(x − c) · factor‖² in float64 from the differences, in the order of the features."""
    total = 0.0
    for p in range(rows.shape[1]):
        t = (np.float64(rows[i, p]) - centroids[j, p]) * factor
        total += t * t
    return total


@njit(nogil=True, cache=True)
def nearest_of(rows, i, centroids, values, limit):  # type: ignore[no-untyped-def]
    """The nearest centroid in float64 among those whose values are not above a limit.

    Ties go to the lowest index. Where squares underflow, differences are magnified first.

    Parameters
    ----------
    rows, i : the row as given. centroids : (k, d) float64.
    values : (k or more,) float32.
    """
    nearest, least = np.int32(0), np.inf
    for j in range(centroids.shape[0]):
        if not values[j] > limit:
            t = distance2(rows, i, centroids, j, 1.0)
            if t < least:
                least, nearest = t, np.int32(j)
    if least < _TINY:
        least = np.inf
        for j in range(centroids.shape[0]):
            if not values[j] > limit and distance2(rows, i, centroids, j, 1.0) < _TINY:
                t = distance2(rows, i, centroids, j, _MAGNIFIED)
                if t < least:
                    least, nearest = t, np.int32(j)
    return nearest


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def norm2(row):  # type: ignore[no-untyped-def]
    """‖x‖² of a float32 row, for error bounds only."""
    total = np.float32(0)
    for p in range(row.size):
        total += row[p] * row[p]
    return np.float64(total)


@njit(nogil=True, cache=True)
def error_bound(square, gamma, longest, near):  # type: ignore[no-untyped-def]
    """Bound on the error of the scores of a row of squared length `square` that can be least.

    A centroid of length R ≥ 4‖x‖ + 2·`near` is farther from the row than the shortest by at least
    0.3 R², which is more than the errors of both scores as long as `gamma` is no more than 0.1.
    """
    length = np.sqrt(square) * (1.0 + gamma)
    reach = length + min(longest, 4.0 * length + 2.0 * near)
    return gamma * reach * reach


@njit(nogil=True, cache=True)
def resolve(rows, i, tile, r, panel, best, centroids, error, scores):  # type: ignore[no-untyped-def]
    """The nearest centroid in float64 among those whose scores cannot be told apart.

    Rows come as array and index: a view costs an atomic count of its users.

    Parameters
    ----------
    rows, i : the row as given. tile, r : the row in float32, in the frame.
    panel, centroids : of `kmdist.engine.kernels.frame.Panel`.
    best : least score of the row.
    error : from `error_bound`.
    scores : (centroids of the panel,) float32, scratch.
    """
    score_row(tile, r, panel, scores)
    limit = np.float64(best) + 4.0 * error  # two scores here, two in `best` and its rival
    return nearest_of(rows, i, centroids, scores, limit)


@njit(nogil=True, cache=True)
def load_row(row, shift, scale, out):  # type: ignore[no-untyped-def]
    """A row in the frame as float32."""
    for p in range(row.size):
        out[p] = np.float32((np.float64(row[p]) - shift[p]) * scale)


@njit(nogil=True, cache=True)
def load_float32(rows, first, n, shift, tile):  # type: ignore[no-untyped-def]
    """`load_tile` of float32 rows in float32: the shift is exact there, so one rounding."""
    for i in range(n):
        for p in range(rows.shape[1]):
            tile[i, p] = rows[first + i, p] - shift[p]


@njit(nogil=True, cache=True)
def load_tile(rows, first, n, shift, scale, tile):  # type: ignore[no-untyped-def]
    """Rows in the frame as float32."""
    for i in range(n):
        load_row(rows[first + i], shift, scale, tile[i])


__all__ = [
    "PLAIN",
    "TILE_ROWS",
    "error_bound",
    "load_float32",
    "load_row",
    "load_tile",
    "nearest_of",
    "nearest_rows",
    "norm2",
    "resolve",
    "score_row",
]
