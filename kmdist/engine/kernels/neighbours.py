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


class Neighbours(NamedTuple):
    """Centroids by their distance from each other, in the frame's scale.

    Parameters
    ----------
    half_gaps : (k,) float64, half the distance to the nearest other centroid, never more than
        the true value; infinite for k = 1.
    reach : (k, 3) float64, distance to the first centroid that is not in the panel of each
        width, never more than the true value; zeros where there are no panels.
    order : (k, 32) int32, the nearest centroids of each, itself first; (k, 0) without panels.
    panels : for each width (k, vectors, d + 1, lanes) float32, `Panel.scores` in that order.
    """

    half_gaps: np.ndarray
    reach: np.ndarray
    order: np.ndarray
    panels: tuple[np.ndarray, ...]


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _gaps(local, step, out):  # type: ignore[no-untyped-def]
    """Distances from every step-th centroid to all, from the differences."""
    for i in range(out.shape[0]):
        for j in range(i + 1 if step == 1 else 0, local.shape[0]):
            total = 0.0
            for p in range(local.shape[1]):
                t = local[i * step, p] - local[j, p]
                total += t * t
            out[i, j] = np.sqrt(total)
            if step == 1:
                out[j, i] = out[i, j]


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
    """Distances in the frame's scale from every step-th centroid, never more than the true ones."""
    local = (np.asarray(centroids, np.float64) - frame.shift) * frame.scale
    gaps = np.zeros((-(-len(local) // step), len(local)))
    _gaps(local, step, gaps)
    longest = float(np.sqrt((local * local).sum(axis=1).max()))
    return np.asarray(np.maximum(gaps * (1.0 - 1e-9) - 1e-14 * longest, 0.0))


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
    near = (_gaps_between(centroids, frame, max(1, k // 32)) <= 2.0 * distance).sum(axis=1)
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
    gaps = _gaps_between(centroids, frame)
    others = gaps + np.diag(np.full(k, np.inf))
    half = 0.5 * others.min(axis=1)
    if scores is None or k <= WIDTHS[-1]:
        none = tuple(np.empty((k, 0, 1, 16), np.float32) for _ in WIDTHS)
        return Neighbours(half, np.zeros((k, len(WIDTHS))), np.empty((k, 0), np.int32), none)
    order = np.argsort(gaps - np.eye(k), axis=1, kind="stable")  # itself first
    reach = np.ascontiguousarray(np.take_along_axis(gaps, order[:, WIDTHS], axis=1))
    order = np.ascontiguousarray(order[:, : WIDTHS[-1]], dtype=np.int32)
    lines = scores.shape[1]
    made = tuple(
        np.empty((k, -(-width // 16), lines, min(width, 16)), np.float32) for width in WIDTHS
    )
    for each in made:
        _gather(scores, order, each)
    return Neighbours(half, reach, order, made)
