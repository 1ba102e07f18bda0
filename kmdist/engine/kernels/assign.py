"""Assign rows to their nearest centroids and sum per cluster: one Lloyd pass over one block.

Rows of up to four features, such as colours, have a kernel whose vectors run over rows. With so few
features the minimum over the centroids costs more than the scores, and registers that hold the
centroids of one row (`kmdist.engine.kernels.nearest`) are emptied too often. There a vector holds
one score of as many rows, so that the minimum is taken without any shuffle: 3 × as fast at 3
features and 16 centroids, on Zen 4, as plain loops that the compiler vectorises.
"""

from typing import Any

import numpy as np
from numba import njit

from kmdist.engine.kernels import NO_TILE, NO_WEIGHTS, as_kernel_rows, kernel_chunks
from kmdist.engine.kernels.frame import Frame, Panel, make_panel, reaching
from kmdist.engine.kernels.nearest import (
    TILE_ROWS,
    error_bound,
    load_tile,
    nearest_rows,
    norm2,
    resolve,
)
from kmdist.engine.kernels.sums import PartialSums, move_rows, no_sums


@njit(nogil=True, cache=True)
def _assign(  # type: ignore[no-untyped-def]
    rows32, rows, weights, panel, centroids, frame, errors, labels, mode, out, scratch
):
    shift, scale, grid = frame
    gamma, longest, near, slack = errors
    summed, fresh = mode
    loaded, best, second, nearest, scores, left, moved = scratch
    places, before = moved
    n = rows.shape[0]
    k = centroids.shape[0]
    for start in range(0, n, TILE_ROWS):
        tile = loaded
        size = TILE_ROWS if start + TILE_ROWS < n else n - start
        if start + TILE_ROWS <= rows32.shape[0]:
            tile = rows32[start : start + TILE_ROWS]
        else:
            load_tile(rows, start, size, shift, scale, tile)
        nearest_rows(tile, size, panel, best, second, nearest)
        found = 0
        for r in range(size):
            i = start + r
            label = nearest[r]
            if not second[r] > best[r] + slack or label >= k:
                error = error_bound(norm2(tile, r), gamma, longest, near)
                if not np.float64(second[r]) > np.float64(best[r]) + 2.0 * error or label >= k:
                    label = resolve(rows, i, tile, r, panel, best[r], centroids, error, scores)
            places[found], before[found] = i, np.int32(-1) if fresh else labels[i]
            found += summed and label != before[found]
            labels[i] = label
        move_rows(rows, moved, found, labels, weights, grid, out, left)


def assign(
    rows: np.ndarray,
    weights: np.ndarray | None,
    centroids: np.ndarray,
    frame: Frame,
    labels: np.ndarray | None = None,
    *,
    summed: bool = True,
    sums: PartialSums | None = None,
) -> PartialSums:
    """Assign each row to its nearest centroid and sum per cluster.

    One Lloyd pass over one block (Lloyd, 1982).

    Parameters
    ----------
    rows : (n, d) real numbers, finite.
    weights : (n,) float64, not negative, or None (all one).
    centroids : (k, d) floating point.
    frame : Frame that holds for these rows.
    labels : (n,) int32 to write the labels to, or None.
    summed : whether to sum; otherwise the sums are zeros.
    sums : the sums that belong to `labels` as they are; they are then changed in place by the
        rows whose label changes, which gives the same bits. None: all rows are added.

    Returns
    -------
    PartialSums: exact.

    Raises
    ------
    ValueError : d differs between rows and centroids, or `sums` are given without `labels`.
    """
    if rows.ndim != 2 or rows.shape[1] != centroids.shape[1]:
        raise ValueError(f"rows {rows.shape} do not fit centroids {centroids.shape}")
    if sums is not None and labels is None:
        raise ValueError("sums without the labels that they belong to")
    frame = reaching(frame, centroids)
    # With many centroids the copy costs little, and folding leaves more rows to resolve.
    cheap = len(centroids) <= 16 or not frame.shift.any()
    few = rows.shape[1] <= MAX_FEATURES
    direct = frame.fold and cheap and not few and rows.dtype in (np.float32, np.float16)
    panel = make_panel(centroids, frame, folded=direct)
    if labels is None:
        labels = np.empty(len(rows), np.int32)
    fresh = sums is None
    scratch = _scratch(rows.shape[1], panel.scores[:, 0].size, few=few)
    wide = _joined_lines(panel) if few else NO_TILE
    out = sums or no_sums(len(centroids), rows.shape[1], frame.grid)
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        last = first + len(part)
        # The shift is exact in float32, so that a row is rounded once, as from float64.
        single = frame.scale == 1.0 and part.dtype != np.float64
        shift = frame.shift.astype(np.float32) if single else frame.shift
        given = (
            part,
            NO_WEIGHTS if weights is None else weights[first:last],
            panel.scores,
            panel.centroids,
            (
                np.zeros_like(shift) if direct else shift,
                np.float32(1.0) if single else frame.scale,
                tuple(frame.grid),
            ),
            (panel.gamma, panel.max_norm, panel.near, np.float32(panel.slack)),
            labels[first:last],
        )
        if few:
            assign_few(wide, *given, (summed, fresh), tuple(out), scratch)
        else:
            rows32 = part if direct else NO_TILE
            _assign(rows32, *given, (summed, fresh), tuple(out), scratch)
    return out


def _scratch(d: int, lanes: int, *, few: bool) -> tuple[Any, ...]:
    """What `_assign` and `assign_few` work in; each constructor takes 0.1 s to compile."""
    size = _ROWS if few else TILE_ROWS
    single = [np.empty(size, kind) for kind in (np.float32, np.float32, np.int32)]
    moved = np.empty(size, np.int64), np.empty(size, np.int32)
    scores, left = np.empty(lanes, np.float32), np.empty(d)
    if not few:
        return np.zeros((size, d), np.float32), *single, scores, left, moved
    columns, row = np.zeros((MAX_FEATURES, size), np.float32), np.zeros((1, d), np.float32)
    return columns, *single, scores, left, moved, row, np.empty(size + 1, np.int32)


def _joined_lines(panel: Panel) -> np.ndarray:
    """(1 + MAX_FEATURES, centroids) float32, the lines of a panel, and zeros."""
    lines = panel.scores.transpose(1, 0, 2).reshape(panel.scores.shape[1], -1)
    return np.pad(lines, ((0, 1 + MAX_FEATURES - len(lines)), (0, 0)))


def float32_rows(part: np.ndarray, frame: Frame) -> np.ndarray | None:
    """Float32 rows that can be brought into the frame as they are, or None; shifts are exact."""
    return part if part.dtype == np.float32 and frame.scale == 1.0 else None


MAX_FEATURES = 4

_ROWS = 256
"""Rows of a tile: small enough for the first-level cache."""

_FAR = np.float32(3e38)


@njit(nogil=True, cache=True, inline="always")
def _load_columns(rows, first, size, shift, scale, columns):  # type: ignore[no-untyped-def]
    for p in range(rows.shape[1]):
        for r in range(size):
            columns[p, r] = np.float32((shift.dtype.type(rows[first + r, p]) - shift[p]) * scale)


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


@njit(nogil=True, cache=True, inline="always")
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
    wide, rows, weights, panel, centroids, frame, errors, labels, mode, out, scratch
):
    """As `kmdist.engine.kernels.assign._assign`; the panel is not folded, `wide` its lines."""
    shift, scale, grid = frame
    gamma, longest, near, slack = errors
    summed, fresh = mode
    columns, best, second, nearest, scores, left, moved, row, todo = scratch
    places, before = moved
    n, d = rows.shape
    k = centroids.shape[0]
    for first in range(0, n, _ROWS):
        size = _ROWS if first + _ROWS < n else n - first
        _load_columns(rows, first, size, shift, scale, columns)
        _nearest(columns, size, wide, best, second, nearest)
        found = _unsettled(best, second, nearest, labels, first, size, slack, fresh, todo)
        n_moved = 0
        for t in range(found):
            r = todo[t]
            i = first + r
            label = nearest[r]
            if not second[r] > best[r] + slack or label >= k:
                for p in range(d):
                    row[0, p] = columns[p, r]
                error = error_bound(norm2(row, 0), gamma, longest, near)
                if not np.float64(second[r]) > np.float64(best[r]) + 2.0 * error or label >= k:
                    label = resolve(rows, i, row, 0, panel, best[r], centroids, error, scores)
            places[n_moved], before[n_moved] = i, np.int32(-1) if fresh else labels[i]
            n_moved += summed and label != before[n_moved]
            labels[i] = label
        move_rows(rows, moved, n_moved, labels, weights, grid, out, left)
