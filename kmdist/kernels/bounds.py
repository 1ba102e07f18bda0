"""A Lloyd pass that skips rows, and centroids, that cannot matter.

Each row keeps an upper bound on the distance to its own centroid and a lower bound on that to
any other (Hamerly, SDM 2010). Centroids move; the bounds are widened by as much; while upper <
lower the label stands and the row is not read. Other rows are gathered by their centroid, and
scored against those centroids alone that lie near it (`kmdist.kernels.neighbours`). All bounds
include the rounding error of the scores, so the labels, and with exact sums every bit of the
result, are those of the plain pass.
"""

import numpy as np
from numba import njit

from kmdist.kernels.assign import (
    _NO_TILE,
    _NO_WEIGHTS,
    PartialSums,
    as_kernel_rows,
    kernel_chunks,
    move_row,
)
from kmdist.kernels.frame import Frame, make_panel
from kmdist.kernels.frame_row import frame_row, prefetch
from kmdist.kernels.nearest import PLAIN, TILE_ROWS, nearest_rows, resolve
from kmdist.kernels.neighbours import WIDTHS, Neighbours

_UP = np.float32(1.0 + 2.0**-20)
_DOWN = np.float32(1.0 - 2.0**-20)
"""Make up for rounding where bounds are computed in float32."""

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
def _group_of(up, reach, label):  # type: ignore[no-untyped-def]
    """Group 0 holds rows that need all centroids, the others those of one centroid and width."""
    for c in range(_CLASSES):
        if 2.0 * up < reach[label, c]:
            return 1 + _CLASSES * label + c
    return 0


@njit(nogil=True, cache=True)
def _width(group, lanes):  # type: ignore[no-untyped-def]
    """Scores of a row of a group; `lanes` are those of all centroids."""
    return _WIDTHS[(group - 1) % _CLASSES] if group else lanes


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _gather(rows, single, todo, frame, local, labels, bounds, near, blur, gathered):  # type: ignore[no-untyped-def]
    """Put rows with the others of their group, unless their tightened upper bound is enough.

    Lengths and distances are for bounds alone: summed in whatever order is fast.

    Returns
    -------
    The group that has become full, or −1 after the last row.
    """
    index_of, position = todo
    shift, scale = frame
    upper, lower = bounds
    half_gaps, reach = near[0], near[1]
    tiles, index, squares, sizes = gathered
    d = rows.shape[1]
    first, width = rows.ctypes.data, d * rows.itemsize
    ahead = max(2, _AHEAD_BYTES // width)
    stretch = np.float32(1.0 + (d + 16) * 2.0**-24) * _UP
    for at in range(position[0], position[1]):
        i = index_of[at]
        label = labels[i]
        if at + ahead < position[1]:
            for byte in range(0, width, 64):
                prefetch(first + index_of[at + ahead] * width + byte)  # type: ignore[call-arg]
        g = _group_of(upper[i], reach, label)
        slot = sizes[g]
        target = tiles.ctypes.data + 4 * d * (g * index.shape[1] + slot)
        if single:
            square, distance = frame_row(  # type: ignore[call-arg,var-annotated]
                first + i * width, d, shift.ctypes.data, scale, local.ctypes.data + 4 * d * label,
                target,
            )  # fmt: skip
        else:
            square, distance = np.float32(0), np.float32(0)  # type: ignore[assignment]
            for p in range(d):
                x = np.float32((rows[i, p] - shift[p]) * scale)
                tiles[g, slot, p] = x
                t = x - local[label, p]
                square += x * x  # type: ignore[assignment]
                distance += t * t
        up = np.sqrt(distance) * stretch + blur
        upper[i] = up
        if up < lower[i] or up < half_gaps[label]:
            continue
        own = _group_of(up, reach, label)
        if own != g:
            place = sizes[own]
            for p in range(d):
                tiles[own, place, p] = tiles[g, slot, p]
            g, slot = own, place
        index[g, slot] = i
        squares[g, slot] = square
        sizes[g] = slot + 1
        if slot + 1 == index.shape[1]:
            position[0] = at + 1
            return g
    position[0] = position[1]
    return -1


@njit(nogil=True, cache=True)
def _two_largest(moves):  # type: ignore[no-untyped-def]
    most, first, runner_up = 0.0, 0, 0.0
    for j in range(moves.size):
        if moves[j] > most:
            runner_up = most
            most, first = moves[j], j
        elif moves[j] > runner_up:
            runner_up = moves[j]
    return np.float32(most * _UP), first, np.float32(runner_up * _UP)


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
        uppers[r] = np.sqrt(own if own > zero else zero) * _UP
        lowers[r] = np.sqrt(other if other > zero else zero) * _DOWN
        errors[r] = error


@njit(nogil=True, cache=True)
def _score_group(  # type: ignore[no-untyped-def]
    g, size, rows, weights, panel, centroids, frame, errors, labels, bounds, near, gathered, plain,
    out, scratch,
):  # fmt: skip
    """Assign the gathered rows of a group, set their bounds, and move them between sums."""
    shift, magic, weight_magic = frame[0], frame[2], frame[3]
    gamma, longest = errors
    upper, lower = bounds
    _, reach, order, (narrow, middle, wide) = near
    tiles, index, squares, _ = gathered
    sums, counts = out
    best, second, nearest, uppers, lowers, slack, scores = scratch
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
    for r in range(size):
        i = index[g, r]
        label, up, low = nearest[r], uppers[r], lowers[r]
        if g:
            label = order[own, label]
            low = min(low, np.float32((reach[own, place] - upper[i]) * _DOWN))  # of those left out
        error = np.float64(slack[r])
        if np.float64(second[r]) <= np.float64(best[r]) + 2.0 * error:
            found = resolve(rows, i, tile, r, panel, best[r], centroids, error, scores)
            if found != label:  # its score is within four errors of the best
                square, score = np.float64(squares[g, r]), np.float64(best[r])
                up = np.float32(np.sqrt(max(square + score + 5.0 * error, 0.0)) * _UP)
                low = min(low, np.float32(np.sqrt(max(square + score - error, 0.0)) * _DOWN))
            label = found
        upper[i], lower[i] = up, low
        old = labels[i]
        if old != label:
            weight = weights[i] if weights.size else 1.0
            count = (weight + weight_magic) - weight_magic
            counts[old] -= count
            counts[label] += count
            move_row(rows, i, shift, weight, magic, sums, old, label)
            labels[i] = label


@njit(nogil=True, cache=True)
def _suspects(labels, bounds, moves, half_gaps, first, last, todo):  # type: ignore[no-untyped-def]
    """Widen the bounds of some rows; list those whose label may change."""
    upper, lower = bounds
    grown, farthest, most, runner_up = moves
    size = 0
    for i in range(first, last):
        label = labels[i]
        up = (upper[i] + grown[label]) * _UP
        low = (lower[i] - (runner_up if label == farthest else most)) * _DOWN
        upper[i], lower[i] = up, low
        todo[size] = i
        size += up >= max(low, half_gaps[label])
    return size


@njit(nogil=True, cache=True)
def _assign_bounded(  # type: ignore[no-untyped-def]
    rows, rows32, weights, panel, centroids, frame, errors, labels, bounds, moves, near, plain, out
):
    n, d = rows.shape
    k = centroids.shape[0]
    shift, scale = frame[0], frame[1]
    half_gaps, reach = near[0], near[1]
    shift32, scale32 = shift.astype(np.float32), np.float32(scale)
    single = rows32.shape[1] == d
    local = ((centroids - shift) * scale).astype(np.float32)
    # Rounding of rows and centroids, and of the sum of their differences.
    blur = np.float32(2.0**-22 * (frame[4] + errors[1]))
    limited = reach[0, 0] > 0.0
    groups = _CLASSES * k + 1 if limited else 1
    capacity = _GROUP_ROWS if limited else TILE_ROWS
    tiles = np.zeros((groups, capacity, d), np.float32)
    index = np.empty((groups, capacity), np.int64)
    squares = np.empty((groups, capacity), np.float32)
    sizes = np.zeros(groups, np.int64)
    gathered = (tiles, index, squares, sizes)
    scratch = (
        np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32),
        np.empty(TILE_ROWS, np.int32), np.empty(TILE_ROWS, np.float32),
        np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32),
        np.empty(panel.shape[1], np.float32),
    )  # fmt: skip
    index_of, position = np.empty(_STAGE_ROWS, np.int64), np.zeros(2, np.int64)
    todo = (index_of, position)
    most, farthest, runner_up = _two_largest(moves)
    grown = ((moves * np.float64(_UP)).astype(np.float32), farthest, most, runner_up)
    scored = 0
    for first in range(0, n, _STAGE_ROWS):
        last = min(first + _STAGE_ROWS, n)
        position[0] = 0
        position[1] = _suspects(labels, bounds, grown, half_gaps, first, last, index_of)
        while position[0] < position[1]:
            if single:
                g = _gather(
                    rows32,
                    True,
                    todo,
                    (shift32, scale32),
                    local,
                    labels,
                    bounds,
                    near,
                    blur,
                    gathered,
                )
            else:
                g = _gather(
                    rows, False, todo, (shift, scale), local, labels, bounds, near, blur, gathered
                )
            if g >= 0:
                scored += sizes[g] * _width(g, panel.shape[1])
                _score_group(
                    g, sizes[g], rows, weights, panel, centroids, frame, errors, labels, bounds,
                    near, gathered, plain, out, scratch,
                )  # fmt: skip
                sizes[g] = 0
    for g in range(groups):
        if sizes[g]:
            scored += sizes[g] * _width(g, panel.shape[1])
            _score_group(
                g, sizes[g], rows, weights, panel, centroids, frame, errors, labels, bounds,
                near, gathered, plain, out, scratch,
            )  # fmt: skip
    return scored


def assign_bounded(
    rows: np.ndarray,
    weights: np.ndarray | None,
    centroids: np.ndarray,
    frame: Frame,
    labels: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
    previous: np.ndarray,
    neighbours: Neighbours,
    sums: PartialSums,
) -> float:
    """`kmdist.kernels.assign.assign` with bounds; labels, bounds and sums change in place.

    Parameters
    ----------
    rows, weights, centroids, frame : as there.
    labels : (n,) int32, nearest of `previous`; written.
    upper, lower : (n,) float32, the bounds that belong to them, infinite and zero where nothing
        is known; written.
    previous : (k, d), the centroids of labels and bounds.
    neighbours : of `centroids`.
    sums : partial sums that belong to `labels`; changed.

    Returns
    -------
    float : share of the n · k scores that were computed.
    """
    panel = make_panel(centroids, frame)
    move = (panel.centroids - np.asarray(previous, np.float64)) * frame.scale
    moves = np.sqrt((move * move).sum(axis=1)) * (1.0 + 1e-9)
    scored = 0
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        here = slice(first, first + len(part))
        scored += _assign_bounded(
            part,
            part if part.dtype == np.float32 else _NO_TILE,
            _NO_WEIGHTS if weights is None else weights[here],
            panel.scores,
            panel.centroids,
            tuple(frame),
            (panel.gamma, panel.max_norm),
            labels[here],
            (upper[here], lower[here]),
            moves,
            tuple(neighbours),
            PLAIN,
            tuple(sums),
        )
    return scored / max(1, len(rows) * panel.scores.shape[1])
