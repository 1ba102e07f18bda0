"""Which centroids lie near which: what bounds need to know of the centroids of an iteration.

A row no farther than u from centroid a can only be nearer to centroids within 2u of a (Newling
and Fleuret, *Fast k-means with accurate bounds*, ICML 2016). Its scores are then computed for the
8, 16 or 32 centroids nearest to a alone, which lie side by side in a panel of a's own.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from kmdist.engine.kernels.frame import Frame

WIDTHS = (8, 16, 32)
"""Centroids in the panels of each centroid."""

_MOST_VALUES = 80_000
"""k · d above which there are no panels: with the rows gathered for each of them they take up to
800 bytes a value, here 64 MB for each task that runs."""

_DOWN = 1.0 - 1e-9


class Neighbours(NamedTuple):
    """Centroids by their distance from each other, in the frame's scale.

    Parameters
    ----------
    half_gaps : (k,) float64, half the distance to the nearest other centroid, never more than
        the true value; infinite for k = 1, zeros where it is not worth its time.
    reach : (k, 3) float64, distance to the first centroid that is not in the panel of each
        width, never more than the true value; zeros where there are no panels.
    order : (k, 32) int32, the nearest centroids of each, itself first; (k, 0) without panels.
    panels : for each width (k, vectors, d + 1, lanes) float32, `Panel.scores` in that order.
    """

    half_gaps: np.ndarray
    reach: np.ndarray
    order: np.ndarray
    panels: tuple[np.ndarray, ...]


@njit(nogil=True, cache=True)
def _gather(scores, order, out):  # type: ignore[no-untyped-def]
    """Columns of the common panel in the order of each centroid."""
    _, vectors, lines, lanes = out.shape
    for a in range(out.shape[0]):
        for v in range(vectors):
            for p in range(lines):
                for j in range(lanes):
                    c = order[a, v * lanes + j]
                    out[a, v, p, j] = scores[c // 16, p, c % 16]


def _gaps_between(centroids: np.ndarray, frame: Frame, step: int = 1) -> np.ndarray:
    """Squares of distances from every step-th centroid; infinite to itself.

    In the frame's scale, and never more than the true ones.
    """
    local = (np.asarray(centroids, np.float64) - frame.shift) * frame.scale
    some, squares = local[::step], (local * local).sum(axis=1)
    gaps2 = -2.0 * some @ local.T
    gaps2 += squares
    # Each of three sums of d products has an error of (d + 2) · 2^−53, and so have their sums.
    error = (local.shape[1] + 8) * 2.0**-51
    gaps2 += (squares[::step] - error * (squares[::step] + squares.max()))[:, None]
    np.maximum(gaps2, 0.0, out=gaps2)
    gaps2[np.arange(len(some)), np.arange(0, len(local), step)] = np.inf
    return np.asarray(gaps2)


def panels_pay(centroids: np.ndarray, frame: Frame, distance: float) -> bool:
    """Whether panels of neighbours save work for rows at a distance from their centroids.

    Parameters
    ----------
    centroids : (k, d) floating point.
    frame : Frame
    distance : root of the mean squared distance of rows to their centroids, in the frame's
        scale; infinite where it is not known.

    Notes
    -----
    They do where fewer than half of the scores are left, to judge by some 32 of the centroids.
    Measured for 48 features and 64 centroids, rows in the cache: all scores 62 ns a row, 16 of
    them 19 ns, keeping bounds and gathering rows 30 ns.
    """
    k = len(centroids)
    if k <= WIDTHS[-1] or centroids.size > _MOST_VALUES or not np.isfinite(distance):
        return False
    gaps2 = _gaps_between(centroids, frame, max(1, k // 32))
    near = 1 + (gaps2 <= 4.0 * distance * distance).sum(axis=1)
    return bool(np.array([*WIDTHS, k])[np.searchsorted(WIDTHS, near)].mean() <= 0.5 * k)


def find_neighbours(
    centroids: np.ndarray, frame: Frame, *, scores: np.ndarray | None = None
) -> Neighbours:
    """What `kmdist.engine.kernels.bounds.assign_bounded` takes.

    Parameters
    ----------
    centroids : (k, d) floating point.
    frame : Frame
    scores : (vectors, p + 1, 16) float32, of the panel that panels of neighbours are taken from;
        none are made without, nor for k ≤ 32.
    """
    k = len(centroids)
    if centroids.size > _MOST_VALUES:  # gaps take k² · d, and do not tell where d is large
        return _no_neighbours(np.zeros(k))
    gaps2 = _gaps_between(centroids, frame)
    half = 0.5 * np.sqrt(gaps2.min(axis=1)) * _DOWN
    if scores is None or k <= WIDTHS[-1]:
        return _no_neighbours(half)
    np.fill_diagonal(gaps2, -1.0)  # itself first
    order = np.argsort(gaps2, axis=1, kind="stable")
    reach = np.sqrt(np.take_along_axis(gaps2, order[:, WIDTHS], axis=1)) * _DOWN
    reach = np.ascontiguousarray(reach)
    order = np.ascontiguousarray(order[:, : WIDTHS[-1]], dtype=np.int32)
    lines = scores.shape[1]
    made = tuple(
        np.empty((k, -(-width // 16), lines, min(width, 16)), np.float32) for width in WIDTHS
    )
    for each in made:
        _gather(scores, order, each)
    return Neighbours(half, reach, order, made)


def _no_neighbours(half_gaps: np.ndarray) -> Neighbours:
    k = len(half_gaps)
    none = tuple(np.empty((k, 0, 1, 16), np.float32) for _ in WIDTHS)
    return Neighbours(half_gaps, np.zeros((k, len(WIDTHS))), np.empty((k, 0), np.int32), none)
