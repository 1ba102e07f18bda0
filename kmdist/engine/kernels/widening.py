"""What moves of the centroids do to the bounds of the rows, and which rows are then in doubt."""

import numpy as np
from numba import njit

from kmdist.engine.kernels.guide import DOWN, UP
from kmdist.engine.kernels.neighbours import WIDTHS

_CLASSES = len(WIDTHS)
_WIDTHS = np.array(WIDTHS)


@njit(nogil=True, cache=True)
def two_largest(moves):  # type: ignore[no-untyped-def]
    """The largest of some moves, whose it is, and the largest of the others."""
    most, first, runner_up = 0.0, 0, 0.0
    for j in range(moves.size):
        if moves[j] > most:
            runner_up = most
            most, first = moves[j], j
        elif moves[j] > runner_up:
            runner_up = moves[j]
    return np.float32(most * UP), first, np.float32(runner_up * UP)


@njit(nogil=True, cache=True)
def local_moves(moves, order):  # type: ignore[no-untyped-def]
    """(k, 3) float32, largest move of the others in each panel; infinite where there are none."""
    out = np.full((moves.size, _CLASSES), np.float32(np.inf))
    for a in range(order.shape[0]):
        most, j = 0.0, 1
        for c in range(_CLASSES):
            while j < min(_WIDTHS[c], order.shape[1]):
                most = max(most, moves[order[a, j]])
                j += 1
            if order.shape[1]:
                out[a, c] = most * UP
    return out


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz"})
def widen(labels, bounds, moves, near, first, last):  # type: ignore[no-untyped-def]
    """Widen the bounds of some rows by what the centroids moved.

    A lower bound falls by the largest move of any other centroid; or by that of the nearest few
    of the own one alone, the others being no nearer than their distance from it less the row's.
    """
    upper, lower = bounds
    grown, farthest, most, runner_up, local = moves
    outside = near[1]
    for i in range(first, last):
        label = labels[i]
        up = (upper[i] + grown[label]) * UP
        low = lower[i]
        wide = low - (runner_up if label == farthest else most)
        for c in range(_CLASSES):
            inner, outer = low - local[label, c], outside[label, c] - up
            least = inner if inner < outer else outer
            wide = least if least > wide else wide
        upper[i], lower[i] = up, wide * DOWN


@njit(nogil=True, cache=True)
def suspects(labels, bounds, half_gaps, first, last, todo):  # type: ignore[no-untyped-def]
    """List the rows whose label may change."""
    upper, lower = bounds
    size = 0
    for i in range(first, last):
        todo[size] = i
        size += upper[i] >= max(lower[i], half_gaps[labels[i]])
    return size
