"""The nearest centroid of a row whose projection in `subspace` leaves it open."""

from typing import NamedTuple

import numpy as np
from numba import njit

from kmdist.engine.kernels.frame import BLUR, Frame
from kmdist.engine.kernels.frame_row import frame_row
from kmdist.engine.kernels.nearest import nearest_of, score_row

UP = np.float32(1.0 + 2.0**-20)
DOWN = np.float32(1.0 - 2.0**-20)
"""Make up for rounding where bounds are computed in float32."""

_NONE = np.float32(3e38)


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


@njit(nogil=True, cache=True)
def settle(  # type: ignore[no-untyped-def]
    rows, rows32, i, frame, guess, lower, limits, tile, r, panel, centroids, exact, scratch
):
    """The nearest centroid of one row, and a bound on its distance.

    Distances are computed in float32 for the centroids that the scores of the projection leave
    open, and in float64 for those that these cannot tell apart, ties going to the lowest index.

    Parameters
    ----------
    rows, i : the row as given; rows32 the same where rows are float32.
    guess : centroid that it is probably nearest to.
    lower : no other is nearer than this.
    limits : squared length of the point, error of its squared distances, and of its distances.
    tile, r : the point. panel : scores of points.
    centroids : (k, d) float64. exact : `Exact`.
    scratch : (1, d), (lanes,) and (k,) float32.

    Returns
    -------
    int32 and float32
    """
    row, scores, squares = scratch
    local, stretch, blunt = exact
    shift, scale, shift32, scale32 = frame
    d = rows.shape[1]
    if rows32.shape[1] == d:
        _, distance = frame_row(  # type: ignore[call-arg,var-annotated]
            rows32.ctypes.data + 4 * d * i, d, shift32.ctypes.data, scale32,
            local.ctypes.data + 4 * d * guess, row.ctypes.data,
        )  # fmt: skip
    else:
        for p in range(d):
            row[0, p] = np.float32((rows[i, p] - shift[p]) * scale)
        distance = _square(row, local, guess)
    up = np.sqrt(distance) * stretch + blunt
    if lower > up:
        return guess, up
    score_row(tile, r, panel, scores)
    square, error, blur = limits
    reach = (up + blur) * UP
    limit = reach * reach * UP + error * UP - square
    for j in range(local.shape[0]):
        squares[j] = _NONE
        if j == guess:
            squares[j] = distance
        elif not scores[j] > limit:
            squares[j] = _square(row, local, j)
            up = min(up, np.sqrt(squares[j]) * stretch + blunt)
    farthest = (up + blunt) * stretch * UP
    farthest = farthest * farthest * UP
    equals, nearest = 0, guess
    for j in range(local.shape[0]):
        if squares[j] <= farthest:
            equals, nearest = equals + 1, np.int32(j)
    if equals == 1:
        return nearest, up
    nearest = nearest_of(rows, i, centroids, squares, farthest)
    return nearest, np.sqrt(squares[nearest]) * stretch + blunt
