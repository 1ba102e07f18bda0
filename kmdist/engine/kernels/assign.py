"""Assign rows to their nearest centroids and sum per cluster: one Lloyd pass over one block.

Three kernels take turns over some thousand rows: scores, which most labels follow from; float64
distances of the rows whose two least scores cannot be told apart; sums of the rows that change
their cluster. What lies between them is NumPy's: a first fit waits for kernels to be compiled, and
as one they took nearly twice as long.

Rows of few features, such as colours and the channels of a scene, have a kernel whose vectors run
over rows (`kmdist.engine.kernels.columns`).
"""

import numpy as np

from kmdist.engine.kernels import NO_TILE, NO_WEIGHTS, as_kernel_rows, kernel, kernel_chunks
from kmdist.engine.kernels.columns import COLUMN_ROWS, EIGHT, score_columns
from kmdist.engine.kernels.frame import Frame, make_panel, reaching
from kmdist.engine.kernels.nearest import (
    MAGNIFIED,
    TILE_ROWS,
    TINY,
    error_bound,
    load_tile,
    nearest_rows,
    norm2,
    resolve,
)
from kmdist.engine.kernels.sums import PartialSums, move_rows, no_sums, sum_by_label, weigh_labels

MAX_FEATURES = 16
"""Of rows that are scored by columns; with 24 that gains nothing."""

_TILES = 768
"""A multiple of the rows of both kinds of tiles."""

_STAGE_ROWS, _STAGE_VALUES = 32_768, 1 << 21
"""Of the rows that a kernel takes at once: many, for to call three of them takes 10 µs; but not so
many that they have left the cache when they are summed."""


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
    labels = np.empty(len(rows), np.int32) if labels is None else labels
    out = no_sums(len(centroids), rows.shape[1], frame.grid) if sums is None else sums
    kernels = _Kernels(rows, centroids, frame)
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        here = slice(first, first + len(part))
        own = NO_WEIGHTS if weights is None else weights[here]
        kernels.run(part, own, labels[here], out if summed else None, fresh=sums is None)
    return out


LEAST_CENTROID_VALUES = 512
"""k · d from which bounds may pay, and arrays of NumPy are too many for the work of each."""

_LIGHT_WORK, _PATIENCE = 1 << 21, 1 << 27
"""n · d · k of a pass, and of all passes of a process, up to which kernels are done without: they
take seconds to compile and tenths of a second to load, NumPy as long for the latter."""


class _Spent:
    """What the process has done without kernels."""

    work = 0


def assign_lightly(
    rows: np.ndarray,
    weights: np.ndarray | None,
    centroids: np.ndarray,
    frame: Frame,
    labels: np.ndarray,
    *,
    summed: bool = True,
    sums: PartialSums | None = None,
) -> PartialSums:
    """`assign`, with the same bits, in NumPy as long as a process has done little."""
    k, work = len(centroids), rows.size * len(centroids)
    if (
        centroids.size >= LEAST_CENTROID_VALUES
        or work > _LIGHT_WORK
        or _Spent.work + work > _PATIENCE
    ):
        return assign(rows, weights, centroids, frame, labels, summed=summed, sums=sums)
    _Spent.work += work
    found = _nearest_exactly(rows.astype(np.float64), centroids.astype(np.float64))
    moved = np.arange(len(rows)) if sums is None else np.flatnonzero(found != labels)
    out = no_sums(k, rows.shape[1], frame.grid) if sums is None else sums
    if summed and moved.size:
        own = None if weights is None else weights[moved]
        products = rows[moved].astype(np.float64) * (1.0 if own is None else own[:, None])
        for change, to in ((np.add, found), *(((np.subtract, labels),) if sums else ())):
            added = sum_by_label(products, to[moved], k, frame.grid.rows)
            change(out.sums, added, out=out.sums)
            change(out.counts, weigh_labels(to[moved], own, k, frame.grid), out=out.counts)
    labels[:] = found
    return out


def _nearest_exactly(rows: np.ndarray, centroids: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """(n,) int32, as `kmdist.engine.kernels.nearest.nearest_of` of all centroids."""
    columns = np.ascontiguousarray(rows.T)
    least, labels = np.full(len(rows), np.inf), np.zeros(len(rows), np.int32)
    squares, total = np.empty((2, len(rows)))
    with np.errstate(over="ignore"):
        for j, centroid in enumerate(centroids):
            total[:] = 0.0
            for column, value in zip(columns, centroid, strict=True):
                np.subtract(column, value, out=squares)
                if factor != 1.0:
                    squares *= factor
                squares *= squares
                total += squares
            labels[total < least] = j
            np.minimum(total, least, out=least)
    lost = np.flatnonzero(least < TINY)
    if lost.size and factor == 1.0:
        labels[lost] = _nearest_exactly(rows[lost], centroids, MAGNIFIED)
    return labels


class _Kernels:
    """The kernels of a pass, with what all its rows share and what they work in."""

    def __init__(self, rows: np.ndarray, centroids: np.ndarray, frame: Frame) -> None:
        k, d = centroids.shape
        # With many centroids the copy costs little, and folding leaves more rows to resolve.
        cheap = k <= 16 or not frame.shift.any()
        self.few = d <= MAX_FEATURES
        self.direct = (
            frame.fold and cheap and not self.few and rows.dtype in (np.float32, np.float16)
        )
        self.panel = make_panel(centroids, frame, folded=self.direct)
        eights = -(-d // EIGHT) * EIGHT
        shift = np.zeros(eights)
        if not self.direct:
            shift[:d] = frame.shift
        # The shift is exact in float32, so that a row is rounded once, as from float64.
        single = frame.scale == 1.0 and as_kernel_rows(rows[:0]).dtype != np.float64
        self.frame = (shift.astype(np.float32), np.float32(1)) if single else (shift, frame.scale)
        self.grid = tuple(frame.grid)
        whole = min(_STAGE_ROWS, _STAGE_VALUES // d, len(rows))
        self.step = max(1, -(-whole // _TILES)) * _TILES
        self.tile = np.zeros((eights, COLUMN_ROWS) if self.few else (TILE_ROWS, d), np.float32)
        self.best, self.second = np.empty((2, self.step), np.float32)
        self.nearest = np.empty(self.step, np.int32)
        self.every, self.none = np.arange(self.step), np.full(self.step, -1, np.int32)
        self.row, self.left = np.empty((1, d), np.float32), np.empty(d)
        self.scores = np.empty(self.panel.scores[:, 0].size, np.float32)

    def run(
        self,
        rows: np.ndarray,
        weights: np.ndarray,
        labels: np.ndarray,
        out: PartialSums | None,
        *,
        fresh: bool,
    ) -> None:
        """Label rows, and add them to sums, or take those that move to other clusters there."""
        for start in range(0, len(rows), self.step):
            here = slice(start, start + self.step)
            part, known = rows[here], labels[here]
            found = self._label(part)
            if out is None:
                known[:] = found
                continue
            moved = self.every[: len(part)] if fresh else np.flatnonzero(found != known)
            leaving = self.none[: len(part)] if fresh else known[moved]
            known[:] = found
            if len(moved):
                own = weights[here] if weights.size else weights
                move_rows(
                    part, (moved, leaving), len(moved), known, own, self.grid, tuple(out), self.left
                )

    def _label(self, rows: np.ndarray) -> np.ndarray:
        """The nearest centroids of no more rows than `step`, (n,) int32."""
        panel, results = self.panel, (self.best, self.second, self.nearest)
        if self.few:
            k = len(panel.centroids)
            score_columns(panel.scores, k, rows, *self.frame, self.tile, *results)
        else:
            rows32 = rows if self.direct else NO_TILE
            _score_many(panel.scores, rows32, rows, *self.frame, self.tile, *results)
        best, second, labels = (result[: len(rows)] for result in results)
        sure = second > best + np.float32(panel.slack)
        sure &= labels < len(panel.centroids)
        if not sure.all():
            doubtful = np.flatnonzero(~sure)
            known = labels[doubtful]
            errors = panel.gamma, panel.max_norm, panel.near
            _resolve(
                rows, doubtful, best[doubtful], second[doubtful], known, *self.frame,
                panel.scores, panel.centroids, errors, self.row, self.scores,
            )  # fmt: skip
            labels[doubtful] = known
        return labels


def float32_rows(part: np.ndarray, frame: Frame) -> np.ndarray | None:
    """Float32 rows that can be brought into the frame as they are, or None; shifts are exact."""
    return part if part.dtype == np.float32 and frame.scale == 1.0 else None


@kernel()
def _score_many(panel, rows32, rows, shift, scale, tile, best, second, nearest):  # type: ignore[no-untyped-def]
    """The two least scores of some rows, and the index of the least."""
    n = rows.shape[0]
    for first in range(0, n, TILE_ROWS):
        here = tile
        size = TILE_ROWS if first + TILE_ROWS < n else n - first
        if first + TILE_ROWS <= rows32.shape[0]:
            here = rows32[first : first + TILE_ROWS]
        else:
            load_tile(rows, first, size, shift, scale, tile)
        nearest_rows(here, size, panel, best, second, nearest, first)


@kernel()
def _resolve(  # type: ignore[no-untyped-def]
    rows, chosen, best, second, labels, shift, scale, panel, centroids, errors, row, scores
):
    """Label the rows chosen, which come with their two least scores, as in float64."""
    gamma, longest, near = errors
    for at in range(chosen.size):
        load_tile(rows, chosen[at], 1, shift, scale, row)
        error = error_bound(norm2(row, 0), gamma, longest, near)
        least = np.float64(best[at])
        if not np.float64(second[at]) > least + 2.0 * error or labels[at] >= centroids.shape[0]:
            labels[at] = resolve(
                rows, chosen[at], row, 0, panel, best[at], centroids, error, scores
            )
