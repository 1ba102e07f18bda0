"""A Lloyd pass that reads projections of the rows, with a lower bound for each group of centroids.

Centroids that lie near each other share a vector of the panel, and make a group. Each row keeps a
lower bound on its distance from any centroid of each group but its own (Yinyang k-means: Ding et
al., ICML 2015); it falls by the farthest move in the group. Groups whose bound stays above the
row's distance from its own centroid stand. The others are scored by the projections
(`kmdist.engine.kernels.subspace`), rows of a group side by side, and a centroid is compared in all
features where its score leaves it open. All bounds include the rounding error of what they are
computed from, so the labels, and with exact sums every bit of the result, are those of the plain
pass.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from kmdist.engine.kernels import NO_WEIGHTS, as_kernel_rows, kernel_chunks
from kmdist.engine.kernels.assign import float32_rows
from kmdist.engine.kernels.frame import Frame
from kmdist.engine.kernels.nearest import (
    LANES,
    LISTED_ROWS,
    TILE_ROWS,
    frame_row,
    nearest_of,
    nearest_rows,
    norm2,
    prefetch,
    score_listed,
    score_row,
)
from kmdist.engine.kernels.subspace import DOWN, UP, Guide
from kmdist.engine.kernels.sums import PartialSums, move_rows
from kmdist.kernel_cache import PLAIN_KERNELS

_STAGE_ROWS = 128
"""Rows that are worked on together: few enough that they stay in the cache."""

_LIST = _STAGE_ROWS + LANES
"""Room for the rows that a group is scored for, and to fill a block of the score kernel; no power
of two, which would put all lists into the same places of the cache."""

_AHEAD_BYTES = 4096
"""Of a centroid for which memory is asked before it is compared."""

_NONE = np.float32(3e38)


class Groups(NamedTuple):
    """Centroids in groups of as many vectors of the panel.

    Parameters
    ----------
    slots : (number · size,) int32, the centroids of each group; −1: none.
    number : of the groups.
    """

    slots: np.ndarray
    number: int


def group_centroids(points: np.ndarray, most: int) -> Groups:
    """Groups of centroids near each other, of the same size: halved across where they spread most.

    Parameters
    ----------
    points : (k, m) floating point.
    most : groups at the most.
    """
    vectors = -(-len(points) // LANES)
    size = LANES * -(-vectors // max(1, most))
    parts = _halve(points.astype(np.float64), np.arange(len(points)), size)
    slots = np.full((len(parts), size), -1, np.int32)
    for slot, part in zip(slots, parts, strict=True):
        slot[: len(part)] = part
    return Groups(slots.ravel(), len(parts))


def _halve(points: np.ndarray, members: np.ndarray, size: int) -> list[np.ndarray]:
    if len(members) <= size:
        return [members]
    own = points[members] - points[members].mean(axis=0)
    order = members[np.argsort(own @ np.linalg.eigh(own.T @ own)[1][:, -1], kind="stable")]
    middle = size * -(-len(members) // (2 * size))
    return _halve(points, order[:middle], size) + _halve(points, order[middle:], size)


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _square(row, local, j):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for p in range(row.size):
        t = row[p] - local[j, p]
        total += t * t
    return total


@njit(nogil=True, cache=True)
def _read_row(rows, rows32, i, frame, local, j, row):  # type: ignore[no-untyped-def]
    """Bring a row into the frame as float32; its squared distance from a centroid."""
    shift, scale, shift32, scale32 = frame
    d = rows.shape[1]
    if rows32 is None:  # numba compiles one of the branches
        for p in range(d):
            row[p] = np.float32((rows[i, p] - shift[p]) * scale)
        return _square(row, local, j)
    return frame_row(  # type: ignore[call-arg,var-annotated]
        rows32.ctypes.data + 4 * d * i, d, shift32.ctypes.data, scale32,
        local.ctypes.data + 4 * d * j, row.ctypes.data,
    )[1]  # fmt: skip


@njit(nogil=True, cache=True)
def _limit(up, square, error, blur):  # type: ignore[no-untyped-def]
    """Score above which a centroid is farther than `up`."""
    reach = (up + blur) * UP
    return reach * reach * UP + error * UP - square


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz"})
def _lower(bounds, falls):  # type: ignore[no-untyped-def]
    """Let the bounds of a row fall; the least of them."""
    least = np.float32(np.inf)
    for g in range(falls.size):
        low = (bounds[g] - falls[g]) * DOWN
        bounds[g] = low
        least = low if low < least else least
    return least


@njit(nogil=True, cache=True)
def _open_rows(  # type: ignore[no-untyped-def]
    first, size, rows, rows32, points, guide, slot_of, frame, labels, bounds, moves, stage
):
    """Move the bounds of the rows of a stage, and list those that each group must be scored for.

    Returns
    -------
    How many rows were read.
    """
    _, _, gamma, longest, blur, _, (local, stretch, blunt) = guide
    upper, lower = bounds
    grown, falls = moves
    opened, limits, squares, errors, own, best, other, nearest, lists, counts, row = stage
    factor = np.float32((gamma + 2.0**-21) * 1.001)  # and the rounding of what follows
    reach = np.float32(longest * 1.001)
    counts[:] = 0
    found = 0
    for i in range(first, first + size):
        label = labels[i]
        up = (upper[i] + grown[label]) * UP
        upper[i] = up
        if _lower(lower[i], falls) > up:
            continue
        r = np.int32(i - first)
        opened[found] = r
        found += 1
        least = _read_row(rows, rows32, i, frame, local, label, row)
        up = min(up, np.sqrt(least) * stretch + blunt)
        square = np.float32(norm2(points, i))
        length = np.sqrt(square) * (np.float32(1.0) + factor) + reach
        error = factor * length * length
        limits[r], squares[r], errors[r] = _limit(up, square, error, blur), square, error
        own[r], best[r], other[r], nearest[r] = slot_of[label], least, _NONE, label
        for g in range(counts.size):
            lists[g, counts[g]] = r
            counts[g] += not lower[i, g] > up
    return found


@njit(nogil=True, cache=True)
def _score_plain(points, first, listed, n, panel, v, limits, own, least, hits):  # type: ignore[no-untyped-def]
    """`kmdist.engine.kernels.nearest.score_listed` by plain loops."""
    scores = np.empty(LANES, np.float32)
    for at in range(n):
        r = listed[at]
        score_row(points, first + r, panel[v : v + 1], scores)
        least[at], hits[at] = _NONE, 0
        for j in range(LANES):
            if v * LANES + j == own[r]:
                continue
            if scores[j] <= limits[r]:
                hits[at] |= 1 << j
            else:
                least[at] = min(least[at], scores[j])


_score_listed = _score_plain if PLAIN_KERNELS else score_listed


@njit(nogil=True, cache=True)
def _score_vector(  # type: ignore[no-untyped-def]
    v, begins, g, first, rows, rows32, points, guide, slots, frame, lower, stage, scratch
):
    """Score the rows listed for a group by a vector of it, and compare what that leaves open.

    Returns
    -------
    How many centroids were compared in all features.
    """
    panel, _, _, _, blur, _, (local, stretch, blunt) = guide
    _, limits, squares, errors, own, best, other, nearest, lists, counts, row = stage
    least, hits, pairs = scratch
    listed, n = lists[g], counts[g]
    _score_listed(points, first, listed, n, panel, v, limits, own, least, hits)
    compared, width = 0, 4 * local.shape[1]
    for at in range(n):
        r = listed[at]
        low = np.sqrt(max(squares[r] + least[at] - errors[r], np.float32(0.0))) * DOWN - blur
        lower[first + r, g] = low if begins else min(low, lower[first + r, g])
        if hits[at] == 0:
            continue
        for j in range(LANES):
            c = slots[v * LANES + j]
            if (hits[at] >> j) & 1 and c >= 0:
                pairs[compared, 0], pairs[compared, 1] = r, c
                compared += 1
                for byte in range(0, min(width, _AHEAD_BYTES), 64):
                    prefetch(local.ctypes.data + c * width + byte)  # type: ignore[call-arg]
    for at in range(compared):
        r, c = pairs[at, 0], pairs[at, 1]
        t = _read_row(rows, rows32, first + r, frame, local, c, row)
        lower[first + r, g] = min(lower[first + r, g], np.sqrt(t) / stretch * DOWN - blunt)
        if t < best[r]:
            other[r], best[r], nearest[r] = best[r], t, c
            up = np.sqrt(t) * stretch + blunt
            limits[r] = _limit(up, squares[r], errors[r], blur)
        else:
            other[r] = min(other[r], t)
    return compared


@njit(nogil=True, cache=True)
def _nearest_of_equals(rows, i, points, guide, slots, limit, farthest, row, scores):  # type: ignore[no-untyped-def]
    """The nearest centroid in float64, where distances in float32 cannot tell which it is."""
    panel, _, _, _, _, centroids, (local, _, _) = guide
    score_row(points, i, panel, scores)
    values = np.full(centroids.shape[0], _NONE)
    for s in range(slots.size):
        if slots[s] >= 0 and not scores[s] > limit:
            values[slots[s]] = _square(row, local, slots[s])
    return nearest_of(rows, i, centroids, values, farthest)


@njit(nogil=True, cache=True)
def _settle(  # type: ignore[no-untyped-def]
    r, i, rows, rows32, points, guide, groups, frame, labels, bounds, stage, scores
):
    """Give a row of a stage its label, and set the bounds that belong to it."""
    _, _, _, _, _, _, (local, stretch, blunt) = guide
    slots, slot_of, width = groups
    upper, lower = bounds
    _, limits, _, _, _, best, other, nearest, _, _, row = stage
    label, before = nearest[r], labels[i]
    up = np.sqrt(best[r]) * stretch + blunt
    farthest = (up + blunt) * stretch * UP
    farthest = farthest * farthest * UP
    if other[r] <= farthest:
        _read_row(rows, rows32, i, frame, local, label, row)
        label = _nearest_of_equals(rows, i, points, guide, slots, limits[r], farthest, row, scores)
        up = np.sqrt(farthest) * stretch * UP + blunt
    upper[i] = up
    if label != before:
        t = _read_row(rows, rows32, i, frame, local, before, row)
        g = slot_of[before] // width
        lower[i, g] = min(lower[i, g], np.sqrt(t) / stretch * DOWN - blunt)
        labels[i] = label


@njit(nogil=True, cache=True)
def _guess(points, panel, slots, labels):  # type: ignore[no-untyped-def]
    """Label rows by their projections alone."""
    tile = np.zeros((TILE_ROWS, points.shape[1]), np.float32)
    best, second = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    nearest = np.empty(TILE_ROWS, np.int32)
    for start in range(0, points.shape[0], TILE_ROWS):
        size = min(TILE_ROWS, points.shape[0] - start)
        tile[:size] = points[start : start + size]
        nearest_rows(tile, size, panel, best, second, nearest, 0)
        for r in range(size):
            labels[start + r] = max(slots[min(nearest[r], slots.size - 1)], 0)


@njit(nogil=True, cache=True)
def _assign_projected(  # type: ignore[no-untyped-def]
    rows, rows32, weights, points, guide, groups, frame, labels, bounds, moves, fresh, out
):
    n, d = rows.shape
    panel = guide[0]
    slots, slot_of, width = groups
    lower = bounds[1]
    shift, scale, grid = frame
    whole = (shift, scale, shift.astype(np.float32), np.float32(scale))
    stage = (
        np.empty(_STAGE_ROWS, np.int32), np.zeros(_STAGE_ROWS, np.float32),
        np.zeros(_STAGE_ROWS, np.float32), np.zeros(_STAGE_ROWS, np.float32),
        np.zeros(_STAGE_ROWS, np.int32), np.zeros(_STAGE_ROWS, np.float32),
        np.zeros(_STAGE_ROWS, np.float32), np.zeros(_STAGE_ROWS, np.int32),
        np.zeros((lower.shape[1], _LIST), np.int32), np.zeros(lower.shape[1], np.int64),
        np.empty(d, np.float32),
    )  # fmt: skip
    scores = np.empty(slots.size, np.float32)
    scratch = (
        np.empty(_LIST, np.float32), np.empty(_LIST, np.int32),
        np.empty((_LIST * LANES, 2), np.int32),
    )  # fmt: skip
    left, places, before = (
        np.empty(d),
        np.empty(_STAGE_ROWS, np.int64),
        np.empty(_STAGE_ROWS, np.int32),
    )
    opened, lists, counts = stage[0], stage[8], stage[9]
    scored, read, compared = 0, 0, 0
    if fresh:
        _guess(points, panel, slots, labels)
    for first in range(0, n, _STAGE_ROWS):
        size = min(_STAGE_ROWS, n - first)
        found = _open_rows(
            first, size, rows, rows32, points, guide, slot_of, whole, labels, bounds, moves, stage
        )
        read += found
        for v in range(panel.shape[0]):
            g = v * LANES // width
            if counts[g]:
                scored += LANES * counts[g]
                for at in range(counts[g], counts[g] + LISTED_ROWS):
                    lists[g, at] = lists[g, 0]
                compared += _score_vector(
                    v, v * LANES % width == 0, g, first, rows, rows32, points, guide, slots, whole,
                    lower, stage, scratch,
                )  # fmt: skip
        n_moved = 0
        for at in range(found):
            i = first + opened[at]
            places[n_moved], before[n_moved] = i, np.int32(-1) if fresh else labels[i]
            _settle(
                opened[at], i, rows, rows32, points, guide, groups, whole, labels, bounds, stage,
                scores,
            )  # fmt: skip
            n_moved += labels[i] != before[n_moved]
        move_rows(rows, (places, before), n_moved, labels, weights, grid, out, left)
    return scored, read, compared


class ProjectedWork(NamedTuple):
    """What a pass took.

    Parameters
    ----------
    scored : share of the n · k scores of projections that were computed.
    opened : share of the rows that were read.
    compared : centroids compared in all features, a row.
    """

    scored: float
    opened: float
    compared: float


def assign_projected(
    rows: np.ndarray,
    weights: np.ndarray | None,
    points: np.ndarray,
    frame: Frame,
    labels: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    moves: np.ndarray,
    guide: Guide,
    groups: Groups,
    sums: PartialSums,
    *,
    fresh: bool,
) -> ProjectedWork:
    """`kmdist.engine.kernels.assign.assign` with projections; labels, bounds and sums change.

    Parameters
    ----------
    rows : (n, d) real numbers.
    weights : (n,) float64 or None (all one).
    points : (n, m) float32, projections of the rows.
    frame : Frame
    labels : (n,) int32; written.
    bounds : (n,) float32, no less than the distance of each row from its centroid, and
        (n, groups) float32, no more than that from any other centroid of each group; infinite and
        zero where nothing is known. Written.
    moves : (k,) float64, from `kmdist.engine.kernels.bounds.lengths_of_moves`: how far the
        centroids are from those that the bounds are of.
    guide : from `kmdist.engine.kernels.subspace.make_projected_guide`.
    groups : of the centroids.
    sums : partial sums that belong to `labels`; of no rows where `fresh`. Changed.
    fresh : whether labels are not known, and their bounds neither.

    Returns
    -------
    ProjectedWork
    """
    upper, lower = bounds
    width = groups.slots.size // groups.number
    slot_of = np.empty(len(guide.centroids), np.int32)
    filled = np.flatnonzero(groups.slots >= 0)
    slot_of[groups.slots[filled]] = filled
    grown = (moves * np.float64(UP)).astype(np.float32)
    falls = np.where(groups.slots >= 0, grown[groups.slots], np.float32(0))
    falls = falls.reshape(groups.number, width).max(axis=1)
    total = np.zeros(3)
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        here = slice(first, first + len(part))
        total += _assign_projected(
            part,
            float32_rows(part, frame),
            NO_WEIGHTS if weights is None else weights[here],
            points[here],
            (*guide[:6], tuple(guide.exact)),
            (groups.slots, slot_of, width),
            (frame.shift, frame.scale, tuple(frame.grid)),
            labels[here],
            (upper[here], lower[here]),
            (grown, falls),
            fresh,
            tuple(sums),
        )
    n = max(1, len(rows))
    scored, opened, compared = (total / n).tolist()
    return ProjectedWork(scored / groups.slots.size, opened, compared)
