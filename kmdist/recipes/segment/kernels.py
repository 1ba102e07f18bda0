"""What is asked of every pixel: whether it has data, and what it adds to its cluster."""

import numpy as np
from numba import njit

import kmdist.kernel_cache  # noqa: F401  before kernels are decorated


@njit(nogil=True, cache=True)
def any_channel(values, wanted):  # type: ignore[no-untyped-def]
    """(h, w) bool, whether any channel of a pixel has a value, which may be NaN, of (h, w, c).

    Most rows of an image have none, which is seen by vectors over the whole row.
    """
    height, width, channels = values.shape
    found = np.zeros((height, width), np.bool_)
    nan = wanted != wanted
    for y in range(height):
        some = False
        for value in values[y].flat:
            some |= (value == wanted) | ((value != value) & nan)
        if some:
            for x in range(width):
                for p in range(channels):
                    value = values[y, x, p]
                    found[y, x] |= (value == wanted) | ((value != value) & nan)
    return found


@njit(nogil=True, cache=True)
def add_totals(values, labels, counts, sums, squares):  # type: ignore[no-untyped-def]
    """Add pixels, their values and the squares of these to those of their clusters.

    Parameters
    ----------
    values : (n, c). labels : (n,).
    counts : (k,) int64. sums, squares : (k, c) int64, which holds the squares of 2³¹ values of 16
        bits, or float64.
    """
    for i in range(values.shape[0]):
        label = labels[i]
        counts[label] += 1
        for p in range(values.shape[1]):
            x = sums.dtype.type(values[i, p])
            sums[label, p] += x
            squares[label, p] += x * x
