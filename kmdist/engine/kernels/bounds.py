"""A Lloyd pass that skips rows, and centroids, that cannot matter.

Each row keeps an upper bound on the distance to its own centroid and a lower bound on that to
any other (Hamerly, SDM 2010). Centroids move; the bounds are widened by as much; while upper <
lower the label stands and the row is not read. Other rows are gathered by their centroid, and
scored against those centroids alone that lie near it (`Neighbours`). All bounds include the
rounding error of the scores, so the labels, and with exact sums every bit of the result, are those
of the plain pass. Where projections of the rows are at hand, `kmdist.engine.kernels.projected`
takes the place of this pass.

A row no farther than u from centroid a can only be nearer to centroids within 2u of a (Newling
and Fleuret, *Fast k-means with accurate bounds*, ICML 2016). Its scores are then computed for the
8, 16 or 32 centroids nearest to a alone, which lie side by side in a panel of a's own.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from kmdist.engine.kernels import NO_WEIGHTS, as_kernel_rows, kernel_chunks
from kmdist.engine.kernels.assign import float32_rows
from kmdist.engine.kernels.frame import Frame
from kmdist.engine.kernels.nearest import (
    TILE_ROWS,
    frame_row,
    nearest_rows,
    prefetch,
    resolve,
)
from kmdist.engine.kernels.subspace import DOWN, UP, Guide
from kmdist.engine.kernels.sums import PartialSums, move_rows

WIDTHS = (8, 16, 32)
"""Centroids in the panels of each centroid."""

_MOST_VALUES = 80_000
"""k · d above which there are no panels: with the rows gathered for each of them they take up to
800 bytes a value, here 64 MB for each task that runs."""

_DOWN = 1.0 - 1e-9


class Neighbours(NamedTuple):
    """Centroids by their distance from each other, in the frame's scale.

    Parameters
    ----------
    half_gaps : (k,) float64, half the distance to the nearest other centroid, never more than
        the true value; infinite for k = 1, zeros where it is not worth its time.
    reach : (k, 3) float64, distance to the first centroid that is not in the panel of each
        width, never more than the true value; zeros where there are no panels.
    order : (k, 32) int32, the nearest centroids of each, itself first; (k, 0) without panels.
    panels : for each width (k, vectors, d + 1, lanes) float32, `Panel.scores` in that order.
    """

    half_gaps: np.ndarray
    reach: np.ndarray
    order: np.ndarray
    panels: tuple[np.ndarray, ...]


@njit(nogil=True, cache=True)
def _gather_scores(scores, order, out):  # type: ignore[no-untyped-def]
    """Columns of the common panel in the order of each centroid."""
    _, vectors, lines, lanes = out.shape
    for a in range(out.shape[0]):
        for v in range(vectors):
            for p in range(lines):
                for j in range(lanes):
                    c = order[a, v * lanes + j]
                    out[a, v, p, j] = scores[c // 16, p, c % 16]


def _gaps_between(centroids: np.ndarray, frame: Frame, step: int = 1) -> np.ndarray:
    """Squares of distances from every step-th centroid; infinite to itself.

    In the frame's scale, and never more than the true ones.
    """
    local = (np.asarray(centroids, np.float64) - frame.shift) * frame.scale
    some, squares = local[::step], (local * local).sum(axis=1)
    gaps2 = -2.0 * some @ local.T
    gaps2 += squares
    # Each of three sums of d products has an error of (d + 2) · 2^−53, and so have their sums.
    error = (local.shape[1] + 8) * 2.0**-51
    gaps2 += (squares[::step] - error * (squares[::step] + squares.max()))[:, None]
    np.maximum(gaps2, 0.0, out=gaps2)
    gaps2[np.arange(len(some)), np.arange(0, len(local), step)] = np.inf
    return np.asarray(gaps2)


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
    gaps2 = _gaps_between(centroids, frame, max(1, k // 32))
    near = 1 + (gaps2 <= 4.0 * distance * distance).sum(axis=1)
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
    if centroids.size > _MOST_VALUES:  # gaps take k² · d, and do not tell where d is large
        return _no_neighbours(np.zeros(k))
    gaps2 = _gaps_between(centroids, frame)
    half = 0.5 * np.sqrt(gaps2.min(axis=1)) * _DOWN
    if scores is None or k <= WIDTHS[-1]:
        return _no_neighbours(half)
    np.fill_diagonal(gaps2, -1.0)  # itself first
    order = np.argsort(gaps2, axis=1, kind="stable")
    reach = np.sqrt(np.take_along_axis(gaps2, order[:, WIDTHS], axis=1)) * _DOWN
    reach = np.ascontiguousarray(reach)
    order = np.ascontiguousarray(order[:, : WIDTHS[-1]], dtype=np.int32)
    lines = scores.shape[1]
    made = tuple(
        np.empty((k, -(-width // 16), lines, min(width, 16)), np.float32) for width in WIDTHS
    )
    for each in made:
        _gather_scores(scores, order, each)
    return Neighbours(half, reach, order, made)


def _no_neighbours(half_gaps: np.ndarray) -> Neighbours:
    k = len(half_gaps)
    none = tuple(np.empty((k, 0, 1, 16), np.float32) for _ in WIDTHS)
    return Neighbours(half_gaps, np.zeros((k, len(WIDTHS))), np.empty((k, 0), np.int32), none)


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
    g, size, rows, weights, made, centroids, grid, labels, bounds, near, gathered, out,
    scratch,
):  # fmt: skip
    """Assign the gathered rows of a group, set their bounds, and move them between sums."""
    panel, _, gamma, longest, _ = made
    upper, lower = bounds
    _, reach, order, (narrow, middle, wide) = near
    tiles, index, squares, _, _ = gathered
    best, second, nearest, uppers, lowers, slack, left, scores, moved = scratch
    places, before = moved
    own, place = (g - 1) // _CLASSES, (g - 1) % _CLASSES
    tile = tiles[g]
    chosen = panel
    if g > 0:
        chosen = narrow[own] if place == 0 else middle[own] if place == 1 else wide[own]
    nearest_rows(tile, size, chosen, best, second, nearest, 0)  # compiled once
    _measure(squares[g], best, second, size, gamma, longest, uppers, lowers, slack)
    most, n_moved = centroids.shape[0] if g == 0 else order.shape[1], 0
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
        places[n_moved], before[n_moved] = i, labels[i]
        n_moved += label != labels[i]
        labels[i] = label
    move_rows(rows, moved, n_moved, labels, weights, grid, out, left)


@njit(nogil=True, cache=True)
def _assign_bounded(  # type: ignore[no-untyped-def]
    rows, rows32, weights, made, centroids, frame, labels, bounds, moves, near, out
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
        (np.empty(TILE_ROWS, np.int64), np.empty(TILE_ROWS, np.int32)),
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
            if rows32 is None:  # numba compiles one of the branches
                g = _gather(
                    rows, False, todo, (shift, scale), local, labels, bounds, wide, blur, gathered
                )
            else:
                g = _gather(
                    rows32, True, todo, (shift32, scale32), local, labels, bounds, wide, blur,
                    gathered,
                )  # fmt: skip
            if g >= 0:
                scored += sizes[g] * _width(g, lanes)
                _score_group(
                    g, sizes[g], rows, weights, made, centroids, grid, labels, bounds, near,
                    gathered, out, scratch,
                )  # fmt: skip
                sizes[g] = 0
    for g in range(groups):
        if sizes[g]:
            scored += sizes[g] * _width(g, lanes)
            _score_group(
                g, sizes[g], rows, weights, made, centroids, grid, labels, bounds, near, gathered,
                out, scratch,
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
            tuple(sums),
        )
    return scored / (max(1, len(rows)) * guide.scores[:, 0].size)


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
