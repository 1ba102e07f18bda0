"""Assign rows to their nearest centroids and sum per cluster: one Lloyd pass over one block."""

import numpy as np
from numba import njit

from kmdist.engine.kernels.chunks import NO_TILE, NO_WEIGHTS, as_kernel_rows, kernel_chunks
from kmdist.engine.kernels.few_features import MAX_FEATURES, assign_few
from kmdist.engine.kernels.frame import Frame, make_panel, reaching
from kmdist.engine.kernels.nearest import (
    PLAIN,
    TILE_ROWS,
    error_bound,
    load_float32,
    load_tile,
    nearest_rows,
    norm2,
    resolve,
)
from kmdist.engine.kernels.sums import PartialSums, move_row, no_sums


@njit(nogil=True, cache=True)
def _assign(  # type: ignore[no-untyped-def]
    rows, rows32, weights, panel, centroids, frame, errors, labels, mode, plain, out
):
    shift, scale, grid = frame
    gamma, longest, near, slack = errors
    summed, fresh, direct = mode
    n, d = rows.shape
    k = centroids.shape[0]
    scratch = np.zeros((TILE_ROWS, d), np.float32)
    best, second = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    nearest = np.empty(TILE_ROWS, np.int32)
    scores = np.empty(panel.shape[0] * panel.shape[2], np.float32)
    left = np.empty(d)
    single = rows32.shape[1] == d
    shift32 = shift.astype(np.float32)
    if direct:
        shift32[:] = 0
    for start in range(0, n, TILE_ROWS):
        size = min(TILE_ROWS, n - start)
        if direct and size == TILE_ROWS:
            tile = rows32[start : start + TILE_ROWS]
        elif single:
            load_float32(rows32, start, size, shift32, scratch)
            tile = scratch
        else:
            load_tile(rows, start, size, shift, scale, scratch)
            tile = scratch
        nearest_rows(tile, size, panel, plain, best, second, nearest)
        for r in range(size):
            i = start + r
            label = nearest[r]
            if not second[r] > best[r] + slack or label >= k:
                error = error_bound(norm2(tile[r]), gamma, longest, near)
                if not np.float64(second[r]) > np.float64(best[r]) + 2.0 * error or label >= k:
                    label = resolve(rows, i, tile, r, panel, best[r], centroids, error, scores)
            before = np.int32(-1) if fresh else labels[i]
            if summed and label != before:
                # Called once, and with one type of integers: it would be compiled again.
                weight = weights[i] if weights.size else 1.0
                move_row(rows, i, weight, grid, out, before, label, left)
            labels[i] = label


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
    out = sums or no_sums(len(centroids), rows.shape[1], frame.grid)
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        last = first + len(part)
        given = (
            part,
            float32_rows(part, frame),
            NO_WEIGHTS if weights is None else weights[first:last],
            panel.scores,
            panel.centroids,
            (frame.shift, frame.scale, tuple(frame.grid)),
            (panel.gamma, panel.max_norm, panel.near, np.float32(panel.slack)),
            labels[first:last],
        )
        if few:
            assign_few(*given, (summed, fresh), tuple(out))
        else:
            _assign(*given, (summed, fresh, direct), PLAIN, tuple(out))
    return out


def float32_rows(part: np.ndarray, frame: Frame) -> np.ndarray:
    """Rows that can be brought into the frame in float32, or none; shifts are exact there."""
    return part if part.dtype == np.float32 and frame.scale == 1.0 else NO_TILE
