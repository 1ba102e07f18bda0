"""Assignment of rows of up to four features, such as colours: vectors run over rows.

With so few features the minimum over the centroids costs more than the scores, and registers
that hold the centroids of one row (`kmdist.engine.kernels.tile`) are emptied too often. Here a
vector holds one score of as many rows, so that the minimum is taken without any shuffle: 3 × as
fast at 3 features and 16 centroids, on Zen 4, as plain loops that the compiler vectorises.
"""

import numpy as np
from numba import njit

from kmdist.engine.kernels.nearest import error_bound, norm2, resolve
from kmdist.engine.kernels.sums import move_row

MAX_FEATURES = 4

_ROWS = 256
"""Rows of a tile: small enough for the first-level cache."""

_FAR = np.float32(3e38)


@njit(nogil=True, cache=True)
def _load_columns(rows, first, size, shift, scale, columns):  # type: ignore[no-untyped-def]
    for p in range(rows.shape[1]):
        for r in range(size):
            columns[p, r] = np.float32((rows[first + r, p] - shift[p]) * scale)


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz"})
def _nearest(columns, size, panel, best, second, nearest):  # type: ignore[no-untyped-def]
    """Two least scores and the index of the least; two centroids a round, to save stores."""
    for r in range(size):
        best[r], second[r], nearest[r] = _FAR, _FAR, np.int32(0)
    for j in range(0, panel.shape[1], 2):
        a, a0, a1, a2, a3 = panel[0, j], panel[1, j], panel[2, j], panel[3, j], panel[4, j]
        b, b0, b1, b2 = panel[0, j + 1], panel[1, j + 1], panel[2, j + 1], panel[3, j + 1]
        b3 = panel[4, j + 1]
        one, two = np.int32(j), np.int32(j + 1)
        for r in range(size):
            x, y, z, w = columns[0, r], columns[1, r], columns[2, r], columns[3, r]
            s = a + a0 * x + a1 * y + a2 * z + a3 * w
            t = b + b0 * x + b1 * y + b2 * z + b3 * w
            low, high = (t, s) if t < s else (s, t)
            index = two if t < s else one
            old, other = best[r], second[r]
            # The second least: the loser of the two winners, or the loser beside the winner.
            loser = old if low < old else low
            rest = high if low < old else other
            nearest[r] = index if low < old else nearest[r]
            best[r] = low if low < old else old
            second[r] = loser if loser < rest else rest


@njit(nogil=True, cache=True)
def _unsettled(best, second, nearest, labels, first, size, slack, every, todo):  # type: ignore[no-untyped-def]
    """Rows of a tile that changed their label, or whose two least scores cannot be told apart."""
    found = 0
    for r in range(size):
        todo[found] = r
        differs = nearest[r] != labels[first + r]
        found += every or differs or not second[r] > best[r] + slack
    return found


@njit(nogil=True, cache=True)
def assign_few(  # type: ignore[no-untyped-def]
    rows, rows32, weights, panel, centroids, frame, errors, labels, mode, out
):
    """As `kmdist.engine.kernels.assign._assign`; the panel is not folded."""
    shift, scale, grid = frame
    gamma, longest, near, slack = errors
    summed, fresh = mode
    n, d = rows.shape
    k = centroids.shape[0]
    lanes = panel.shape[2]
    wide = np.zeros((5, panel.shape[0] * lanes), np.float32)
    for v in range(panel.shape[0]):
        wide[: d + 1, v * lanes : (v + 1) * lanes] = panel[v]
    columns, row = np.zeros((4, _ROWS), np.float32), np.zeros((1, d), np.float32)
    best, second = np.empty(_ROWS, np.float32), np.empty(_ROWS, np.float32)
    nearest, todo = np.empty(_ROWS, np.int32), np.empty(_ROWS + 1, np.int32)
    scores, left = np.empty(wide.shape[1], np.float32), np.empty(d)
    shift32, scale32 = shift.astype(np.float32), np.float32(scale)
    for first in range(0, n, _ROWS):
        size = min(_ROWS, n - first)
        if rows32.shape[1] == d:
            _load_columns(rows32, first, size, shift32, scale32, columns)
        else:
            _load_columns(rows, first, size, shift, scale, columns)
        _nearest(columns, size, wide, best, second, nearest)
        found = _unsettled(best, second, nearest, labels, first, size, slack, fresh, todo)
        for t in range(found):
            r = todo[t]
            i = first + r
            label = nearest[r]
            if not second[r] > best[r] + slack or label >= k:
                for p in range(d):
                    row[0, p] = columns[p, r]
                error = error_bound(norm2(row[0]), gamma, longest, near)
                if not np.float64(second[r]) > np.float64(best[r]) + 2.0 * error or label >= k:
                    label = resolve(rows, i, row, 0, panel, best[r], centroids, error, scores)
            before = np.int32(-1) if fresh else labels[i]
            if summed and label != before:
                # Called once, and with one type of integers: it would be compiled again.
                weight = weights[i] if weights.size else 1.0
                move_row(rows, i, weight, grid, out, before, label, left)
            labels[i] = label
