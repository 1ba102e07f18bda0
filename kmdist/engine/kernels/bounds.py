"""A Lloyd pass that skips rows, and centroids, that cannot matter.

Each row keeps an upper bound on the distance to its own centroid and a lower bound on that to
any other (Hamerly, SDM 2010). Centroids move; the bounds are widened by as much; while upper <
lower the label stands and the row is not read. Other rows are gathered by their centroid, and
scored against those centroids alone that lie near it (`kmdist.engine.kernels.neighbours`). All
bounds include the rounding error of the scores, so the labels, and with exact sums every bit of the
result, are those of the plain pass. Where projections of the rows are at hand,
`kmdist.engine.kernels.projected` takes the place of this pass.
"""

import numpy as np
from numba import njit

from kmdist.engine.kernels.assign import float32_rows
from kmdist.engine.kernels.chunks import NO_WEIGHTS, as_kernel_rows, kernel_chunks
from kmdist.engine.kernels.frame import Frame
from kmdist.engine.kernels.frame_row import frame_row, prefetch
from kmdist.engine.kernels.guide import DOWN, UP, Guide
from kmdist.engine.kernels.nearest import PLAIN, TILE_ROWS, nearest_rows, resolve
from kmdist.engine.kernels.neighbours import WIDTHS, Neighbours
from kmdist.engine.kernels.sums import PartialSums, move_row
from kmdist.engine.kernels.widening import local_moves, suspects, two_largest, widen

_GROUP_ROWS = 48
"""Rows of one centroid that are scored together; a multiple of the 16, 12 and 6 rows of the blocks
of the score kernel, which reads whole blocks."""

_STAGE_ROWS = 1024
"""Rows whose bounds are widened together."""

_AHEAD_BYTES = 8192
"""Of the rows to come for which memory is asked before they are used."""


_CLASSES = len(WIDTHS)
_WIDTHS = np.array(WIDTHS)


@njit(nogil=True, cache=True)
def _width(group, lanes):  # type: ignore[no-untyped-def]
    """Scores of a row of a group; `lanes` are those of all centroids."""
    return _WIDTHS[(group - 1) % _CLASSES] if group else lanes


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _gather(points, single, todo, frame, local, labels, bounds, near, blur, gathered):  # type: ignore[no-untyped-def]
    """Put rows with the others of their group, unless their tightened upper bound is enough.

    Group 0 holds rows that need all centroids, the others those of one centroid and width. Lengths
    and distances are for bounds alone: summed in whatever order is fast. There is no branch that
    depends on a row, since none of them could be foreseen: rows that are done with are written
    too, and then overwritten.

    Returns
    -------
    The group that has become full, or −1 after the last row.
    """
    index_of, position = todo
    shift, scale = frame
    upper, lower = bounds
    half_gaps, reach = near
    tiles, index, squares, sizes, stage = gathered
    d = points.shape[1]
    first, width = points.ctypes.data, d * points.itemsize
    ahead = max(2, _AHEAD_BYTES // width)
    stretch = np.float32(1.0 + (d + 16) * 2.0**-24) * UP
    for at in range(position[0], position[1]):
        i = index_of[at]
        label = labels[i]
        if at + ahead < position[1]:
            for byte in range(0, width, 64):
                prefetch(first + index_of[at + ahead] * width + byte)  # type: ignore[call-arg]
        if single:
            square, distance = frame_row(  # type: ignore[call-arg,var-annotated]
                first + i * width, d, shift.ctypes.data, scale, local.ctypes.data + 4 * d * label,
                stage.ctypes.data,
            )  # fmt: skip
        else:
            square, distance = np.float32(0), np.float32(0)  # type: ignore[assignment]
            for p in range(d):
                x = np.float32((points[i, p] - shift[p]) * scale)
                stage[p] = x
                t = x - local[label, p]
                square += x * x  # type: ignore[assignment]
                distance += t * t
        up = np.sqrt(distance) * stretch + blur
        up = min(up, upper[i])
        upper[i] = up
        twice, place = np.float32(2.0) * up, 0
        for c in range(_CLASSES):
            place += twice >= reach[label, c]
        g = (1 + _CLASSES * label + place) * (place < _CLASSES)
        slot = sizes[g]
        for p in range(d):
            tiles[g, slot, p] = stage[p]
        index[g, slot] = i
        squares[g, slot] = square
        slot += (up >= lower[i]) & (up >= half_gaps[label])
        sizes[g] = slot
        if slot == index.shape[1]:
            position[0] = at + 1
            return g
    position[0] = position[1]
    return -1


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz"})
def _measure(squares, best, second, size, gamma, longest, uppers, lowers, errors):  # type: ignore[no-untyped-def]
    """Bounds on distances from scores, and twice the error of the scores, for a tile."""
    factor = np.float32((gamma + 2.0**-21) * 1.001)  # and the rounding of what follows
    reach = np.float32(longest * 1.001)
    one, zero = np.float32(1.0), np.float32(0.0)
    for r in range(size):
        length = np.sqrt(squares[r]) * (one + factor) + reach
        error = factor * length * length
        own, other = squares[r] + best[r] + error, squares[r] + second[r] - error
        uppers[r] = np.sqrt(own if own > zero else zero) * UP
        lowers[r] = np.sqrt(other if other > zero else zero) * DOWN
        errors[r] = error


@njit(nogil=True, cache=True)
def _score_group(  # type: ignore[no-untyped-def]
    g, size, rows, weights, made, centroids, grid, labels, bounds, near, gathered, plain, out,
    scratch,
):  # fmt: skip
    """Assign the gathered rows of a group, set their bounds, and move them between sums."""
    panel, _, gamma, longest, _ = made
    upper, lower = bounds
    _, reach, order, (narrow, middle, wide) = near
    tiles, index, squares, _, _ = gathered
    best, second, nearest, uppers, lowers, slack, left, scores = scratch
    own, place = (g - 1) // _CLASSES, (g - 1) % _CLASSES
    tile = tiles[g]
    if g == 0:
        nearest_rows(tile, size, panel, plain, best, second, nearest)
    elif place == 0:
        nearest_rows(tile, size, narrow[own], plain, best, second, nearest)
    elif place == 1:
        nearest_rows(tile, size, middle[own], plain, best, second, nearest)
    else:
        nearest_rows(tile, size, wide[own], plain, best, second, nearest)
    _measure(squares[g], best, second, size, gamma, longest, uppers, lowers, slack)
    most = centroids.shape[0] if g == 0 else order.shape[1]
    for r in range(size):
        i = index[g, r]
        label = min(nearest[r], most - 1)
        up, low = uppers[r], lowers[r]
        if g:
            label = order[own, label]
            outside = np.float32((reach[own, place] - upper[i]) * DOWN)  # of those left out
            low = min(low, outside)
        if not np.float64(second[r]) > np.float64(best[r]) + 2.0 * np.float64(slack[r]):
            error = np.float64(slack[r])
            found = resolve(rows, i, tile, r, panel, best[r], centroids, error, scores)
            if found != label:  # its score is within four errors of the best
                square, score = np.float64(squares[g, r]), np.float64(best[r])
                up = np.float32(np.sqrt(max(square + score + 5.0 * error, 0.0)) * UP)
                low = min(low, np.float32(np.sqrt(max(square + score - error, 0.0)) * DOWN))
            label = found
        upper[i], lower[i] = up, low
        if labels[i] != label:
            weight = weights[i] if weights.size else 1.0
            move_row(rows, i, weight, grid, out, labels[i], label, left)
            labels[i] = label


@njit(nogil=True, cache=True)
def _assign_bounded(  # type: ignore[no-untyped-def]
    rows, rows32, weights, made, centroids, frame, labels, bounds, moves, near, plain, out
):
    n, d = rows.shape
    k = centroids.shape[0]
    shift, scale, grid = frame
    panel, local, _, _, blur = made
    lanes = panel.shape[0] * panel.shape[2]
    half_gaps, reach = near[0], near[1]
    half_gaps32 = (half_gaps * DOWN).astype(np.float32)
    wide = (half_gaps32, (reach * DOWN).astype(np.float32))
    shift32, scale32 = shift.astype(np.float32), np.float32(scale)
    single = rows32.shape[1] == d
    limited = reach[0, 0] > 0.0
    groups = _CLASSES * k + 1 if limited else 1
    capacity = _GROUP_ROWS if limited else TILE_ROWS
    tiles = np.empty((groups, capacity, d), np.float32)
    index = np.empty((groups, capacity), np.int64)
    squares = np.empty((groups, capacity), np.float32)
    sizes = np.zeros(groups, np.int64)
    gathered = (tiles, index, squares, sizes, np.empty(d, np.float32))
    scratch = (
        np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32),
        np.empty(TILE_ROWS, np.int32), np.empty(TILE_ROWS, np.float32),
        np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32), np.empty(d),
        np.zeros(max(16, lanes), np.float32),
    )  # fmt: skip
    index_of, position = np.empty(_STAGE_ROWS, np.int64), np.zeros(2, np.int64)
    todo = (index_of, position)
    most, farthest, runner_up = two_largest(moves)
    grown = (
        (moves * np.float64(UP)).astype(np.float32), farthest, most, runner_up,
        local_moves(moves, near[2]),
    )  # fmt: skip
    scored = 0
    for first in range(0, n, _STAGE_ROWS):
        last = min(first + _STAGE_ROWS, n)
        position[0] = 0
        widen(labels, bounds, grown, wide, first, last)
        position[1] = suspects(labels, bounds, half_gaps32, first, last, index_of)
        while position[0] < position[1]:
            if single:
                g = _gather(
                    rows32, True, todo, (shift32, scale32), local, labels, bounds, wide, blur,
                    gathered,
                )  # fmt: skip
            else:
                g = _gather(
                    rows, False, todo, (shift, scale), local, labels, bounds, wide, blur, gathered
                )
            if g >= 0:
                scored += sizes[g] * _width(g, lanes)
                _score_group(
                    g, sizes[g], rows, weights, made, centroids, grid, labels, bounds, near,
                    gathered, plain, out, scratch,
                )  # fmt: skip
                sizes[g] = 0
    for g in range(groups):
        if sizes[g]:
            scored += sizes[g] * _width(g, lanes)
            _score_group(
                g, sizes[g], rows, weights, made, centroids, grid, labels, bounds, near, gathered,
                plain, out, scratch,
            )  # fmt: skip
    return scored


def lengths_of_moves(previous: np.ndarray, centroids: np.ndarray, frame: Frame) -> np.ndarray:
    """(k,) float64, how far centroids (k, d) moved, in the frame's scale; never less."""
    move = (np.asarray(centroids, np.float64) - np.asarray(previous, np.float64)) * frame.scale
    return np.asarray(np.sqrt((move * move).sum(axis=1)) * (1.0 + 1e-9))


def assign_bounded(
    rows: np.ndarray,
    weights: np.ndarray | None,
    centroids: np.ndarray,
    frame: Frame,
    labels: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
    moves: np.ndarray,
    neighbours: Neighbours,
    sums: PartialSums,
    guide: Guide,
) -> float:
    """`kmdist.engine.kernels.assign.assign` with bounds; labels, bounds and sums change in place.

    Parameters
    ----------
    rows, weights, centroids, frame : as there.
    labels : (n,) int32; written.
    upper, lower : (n,) float32, the bounds that belong to them, infinite and zero where nothing
        is known; written.
    moves : (k,) float64, from `lengths_of_moves`: how far the centroids are from those that the
        bounds are of.
    neighbours : of `centroids` and `guide`.
    sums : partial sums that belong to `labels`; changed.
    guide : of `centroids`.

    Returns
    -------
    Share of the n · k scores that were computed.
    """
    scored = 0
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        here = slice(first, first + len(part))
        scored += _assign_bounded(
            part,
            float32_rows(part, frame),
            NO_WEIGHTS if weights is None else weights[here],
            tuple(guide[:5]),
            guide.centroids,
            (frame.shift, frame.scale, tuple(frame.grid)),
            labels[here],
            (upper[here], lower[here]),
            moves,
            tuple(neighbours),
            PLAIN,
            tuple(sums),
        )
    return scored / (max(1, len(rows)) * guide.scores[:, 0].size)
