"""The nearest centroid of a row whose projection in `subspace` leaves it open."""

from typing import NamedTuple

import numpy as np
from numba import njit

from kmdist.engine.kernels.frame import BLUR, Frame
from kmdist.engine.kernels.frame_row import frame_row
from kmdist.engine.kernels.nearest import nearest_of

UP = np.float32(1.0 + 2.0**-20)
DOWN = np.float32(1.0 - 2.0**-20)
"""Make up for rounding where bounds are computed in float32."""

_NONE = np.float32(3e38)
_LANES = 16


class Exact(NamedTuple):
    """What distances from whole rows are computed with, in float32.

    Parameters
    ----------
    local : (k, d) float32, centroids in the frame.
    stretch : a distance is at most this times the one computed, plus `blunt`.
    blunt : float32, in the frame's scale.
    """

    local: np.ndarray
    stretch: np.float32
    blunt: np.float32


def make_exact(centroids: np.ndarray, frame: Frame) -> Exact:
    """Centroids (k, d) as distances from rows in the frame need them."""
    local = (np.asarray(centroids, np.float64) - frame.shift) * frame.scale
    longest = float(np.sqrt((local * local).sum(axis=1).max()))
    stretch = np.float32(1.0 + (local.shape[1] + 16) * 2.0**-24) * UP
    # Rounding of rows and centroids, and of the sum of their differences; and underflow.
    blunt = 2.0**-22 * (frame.max_norm + longest) + BLUR
    return Exact(local.astype(np.float32), stretch, np.float32(blunt))


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _square(row, local, j):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for p in range(row.shape[1]):
        t = row[0, p] - local[j, p]
        total += t * t
    return total


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _least(scores, r, first, last):  # type: ignore[no-untyped-def]
    least = _NONE
    for j in range(first, last):
        least = scores[r, j] if scores[r, j] < least else least
    return least


@njit(nogil=True, cache=True)
def _read_row(rows, rows32, i, frame, local, guess, row):  # type: ignore[no-untyped-def]
    """Bring a row into the frame as float32; its squared distance from a centroid."""
    shift, scale, shift32, scale32 = frame
    d = rows.shape[1]
    if rows32.shape[1] == d:
        return frame_row(  # type: ignore[call-arg,var-annotated]
            rows32.ctypes.data + 4 * d * i, d, shift32.ctypes.data, scale32,
            local.ctypes.data + 4 * d * guess, row.ctypes.data,
        )[1]  # fmt: skip
    for p in range(d):
        row[0, p] = np.float32((rows[i, p] - shift[p]) * scale)
    return _square(row, local, guess)


@njit(nogil=True, cache=True)
def _limit(up, square, error, blur):  # type: ignore[no-untyped-def]
    """Score above which a centroid is farther than `up`."""
    reach = (up + blur) * UP
    return reach * reach * UP + error * UP - square


@njit(nogil=True, cache=True)
def settle(  # type: ignore[no-untyped-def]
    rows, rows32, i, frame, guess, lower, limits, scores, r, named, centroids, exact, scratch
):
    """The nearest centroid of one row, and bounds on its distance and on that of any other.

    Distances are computed in float32 for the centroids that the scores of the projection leave
    open, and in float64 for those that these cannot tell apart, ties going to the lowest index.

    Parameters
    ----------
    rows, i : the row as given; rows32 the same where rows are float32.
    guess : place among the scores of the centroid that it is probably nearest to.
    lower : no other, whether scored or not, is nearer than this.
    limits : squared length of the point, error of its squared distances and of its distances, and
        how far centroids are that are not scored.
    scores, r : row r of (rows, a multiple of 16) float32, scores of the point; those of centroids
        that are compared are overwritten.
    named : names (m, many) int32, row of them, and how many lanes count: which centroids these are.
    centroids : (k, d) float64. exact : `Exact`.
    scratch : (1, d) float32, (k,) int32, (k,) float32.

    Returns
    -------
    int32, float32 and float32
    """
    row, open_names, squares = scratch
    local, stretch, blunt = exact
    names, own, lanes = named
    nearest = names[own, guess]
    least = _read_row(rows, rows32, i, frame, local, nearest, row)
    up = np.sqrt(least) * stretch + blunt
    if lower > up:
        return nearest, up, lower
    square, error, blur, outside = limits
    scores[r, guess] = _NONE
    open_names[0], squares[0], found = nearest, least, 1
    limit = _limit(up, square, error, blur)
    for first in range(0, lanes, _LANES):
        hits = 0
        for j in range(_LANES):
            hits += scores[r, first + j] <= limit
        if hits == 0:
            continue
        for j in range(first, min(first + _LANES, lanes)):
            if not scores[r, j] > limit:
                scores[r, j] = _NONE
                t = _square(row, local, names[own, j])
                open_names[found], squares[found] = names[own, j], t
                found += 1
                if t < least:
                    least, nearest = t, names[own, j]
                    up = np.sqrt(t) * stretch + blunt
                    limit = _limit(up, square, error, blur)
    farthest = (up + blunt) * stretch * UP
    farthest = farthest * farthest * UP
    equals, other = 0, _NONE
    for j in range(found):
        equals += squares[j] <= farthest
        if open_names[j] != nearest:
            other = min(other, squares[j])
    if equals > 1:
        nearest = _nearest_open(rows, i, centroids, open_names, squares, found, farthest)
        up, other = np.sqrt(farthest) * stretch * UP + blunt, np.float32(0)
    left = max(square + _least(scores, r, 0, lanes) - error, np.float32(0.0))
    low = min(np.sqrt(left) * DOWN - blur, outside)
    return nearest, up, min(low, np.sqrt(other) / stretch * DOWN - blunt)


@njit(nogil=True, cache=True)
def _nearest_open(rows, i, centroids, names, squares, found, farthest):  # type: ignore[no-untyped-def]
    """The nearest in float64 of some centroids whose squared distances are not above a limit."""
    values = np.full(centroids.shape[0], _NONE)
    for j in range(found):
        values[names[j]] = squares[j]
    return nearest_of(rows, i, centroids, values, farthest)
