"""Assign rows to their nearest centroids and sum per cluster: one Lloyd pass over one block."""

from typing import NamedTuple

import numpy as np
from numba import njit

from kmdist.engine.kernels.few_features import MAX_FEATURES, assign_few
from kmdist.engine.kernels.frame import Frame, make_panel
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

_NO_WEIGHTS = np.empty(0, np.float64)
_NO_TILE = np.empty((0, 0), np.float32)


class PartialSums(NamedTuple):
    """Per-cluster sums of a block, exact on the frame's grid.

    Parameters
    ----------
    sums : (k, d) float64, Σ w(x − shift).
    counts : (k,) float64, Σ w.
    """

    sums: np.ndarray
    counts: np.ndarray


def merge_sums(parts: list[PartialSums]) -> PartialSums:
    """Add partial sums; exact, hence the same in any order."""
    sums, counts = parts[0].sums.copy(), parts[0].counts.copy()
    for part in parts[1:]:
        sums += part.sums
        counts += part.counts
    return PartialSums(sums, counts)


@njit(nogil=True, cache=True)
def move_row(rows, i, shift, weight, magic, sums, old, new):  # type: ignore[no-untyped-def]
    """Take w(x − shift), rounded to the grid, from one cluster's sums (−1: none) to another's."""
    for p in range(rows.shape[1]):
        t = (np.float64(rows[i, p]) - shift[p]) * weight
        q = (t + magic) - magic
        if old >= 0:
            sums[old, p] -= q
        sums[new, p] += q


@njit(nogil=True, cache=True)
def _add_row(rows, i, shift, magic, sums, label):  # type: ignore[no-untyped-def]
    """`move_row` of weight one from nowhere: the loop that a first pass spends its time in."""
    for p in range(rows.shape[1]):
        sums[label, p] += ((np.float64(rows[i, p]) - shift[p]) + magic) - magic


@njit(nogil=True, cache=True)
def _assign(  # type: ignore[no-untyped-def]
    rows, rows32, weights, panel, centroids, frame, errors, labels, mode, plain, out
):
    shift, scale, magic, weight_magic, _, _ = frame
    gamma, longest, slack = errors
    summed, fresh, direct = mode
    sums, counts = out
    n, d = rows.shape
    scratch = np.zeros((TILE_ROWS, d), np.float32)
    best, second = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    nearest, scores = np.empty(TILE_ROWS, np.int32), np.empty(panel.shape[1], np.float32)
    single = rows32.shape[1] == d
    shift32, scale32 = shift.astype(np.float32), np.float32(scale)
    if direct:
        shift32[:] = 0
    for start in range(0, n, TILE_ROWS):
        size = min(TILE_ROWS, n - start)
        if direct and size == TILE_ROWS:
            tile = rows32[start : start + TILE_ROWS]
        elif single:
            load_float32(rows32, start, size, shift32, scale32, scratch)
            tile = scratch
        else:
            load_tile(rows, start, size, shift, scale, scratch)
            tile = scratch
        nearest_rows(tile, size, panel, plain, best, second, nearest)
        for r in range(size):
            i = start + r
            label = nearest[r]
            if second[r] <= best[r] + slack:
                error = error_bound(norm2(tile[r]), gamma, longest)
                if np.float64(second[r]) <= np.float64(best[r]) + 2.0 * error:
                    label = resolve(rows, i, tile, r, panel, best[r], centroids, error, scores)
            if summed and (fresh or label != labels[i]):
                weight = weights[i] if weights.size else 1.0
                count = (weight + weight_magic) - weight_magic
                counts[label] += count
                if fresh and not weights.size:
                    _add_row(rows, i, shift, magic, sums, label)
                elif fresh:
                    move_row(rows, i, shift, weight, magic, sums, -1, label)
                else:
                    counts[labels[i]] -= count
                    move_row(rows, i, shift, weight, magic, sums, labels[i], label)
            labels[i] = label


_KERNEL_TYPES = tuple(np.dtype(t) for t in (np.float32, np.float64, np.uint8, np.uint16))
_CONVERT_BYTES = 8 << 20


def kernel_chunks(rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Rows as the kernels take them: C order, in one of the types they are compiled for.

    Parameters
    ----------
    rows : (n, d) real numbers of any type and layout.

    Returns
    -------
    list of (first row, chunk); one chunk, not copied, where nothing has to be converted;
    otherwise views that `as_kernel_rows` converts one at a time.
    """
    if rows.dtype in _KERNEL_TYPES and rows.flags.c_contiguous and rows.flags.aligned:
        return [(0, rows)]
    step = max(TILE_ROWS, _CONVERT_BYTES // max(1, 8 * rows.shape[1]))
    return [(start, rows[start : start + step]) for start in range(0, len(rows), step)]


def as_kernel_rows(chunk: np.ndarray) -> np.ndarray:
    """One of `kernel_chunks`, converted: float16 to float32, other integers to float64."""
    if chunk.dtype in _KERNEL_TYPES:
        kind: np.dtype = chunk.dtype
    elif chunk.dtype == np.float16:
        kind = np.dtype(np.float32)
    else:
        kind = np.dtype(np.float64)
    return np.require(chunk, dtype=kind, requirements=["C", "A"])


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
    PartialSums: sums (k, d) and counts (k,), float64, exact on the frame's grid.

    Raises
    ------
    ValueError : d differs between rows and centroids, or `sums` are given without `labels`.
    """
    if rows.ndim != 2 or rows.shape[1] != centroids.shape[1]:
        raise ValueError(f"rows {rows.shape} do not fit centroids {centroids.shape}")
    if sums is not None and labels is None:
        raise ValueError("sums without the labels that they belong to")
    # With many centroids the copy costs little, and folding leaves more rows to resolve.
    cheap = len(centroids) <= 16 or not frame.shift.any()
    few = rows.shape[1] <= MAX_FEATURES
    direct = frame.fold and cheap and not few and rows.dtype in (np.float32, np.float16)
    panel = make_panel(centroids, frame, folded=direct)
    if labels is None:
        labels = np.empty(len(rows), np.int32)
    fresh = sums is None
    out = sums or PartialSums(np.zeros(panel.centroids.shape), np.zeros(len(panel.centroids)))
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        last = first + len(part)
        given = (
            part,
            part if part.dtype == np.float32 else _NO_TILE,
            _NO_WEIGHTS if weights is None else weights[first:last],
            panel.scores,
            panel.centroids,
            tuple(frame),
            (panel.gamma, panel.max_norm, np.float32(panel.slack)),
            labels[first:last],
        )
        if few:
            assign_few(*given, (summed, fresh), tuple(out))
        else:
            _assign(*given, (summed, fresh, direct), PLAIN, tuple(out))
    return out
