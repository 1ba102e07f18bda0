"""A Lloyd pass that skips rows whose label cannot have changed (Hamerly, SDM 2010).

Each row keeps an upper bound on the distance to its own centroid and a lower bound on that to
any other. Centroids move; the bounds are widened by as much; while upper < lower the label
stands and the row is not read. Both bounds include the rounding error of the scores, so the
labels, and with exact sums every bit of the result, are those of the plain pass.
"""

import numpy as np
from numba import njit

from kmdist.kernels.assign import (
    _NO_WEIGHTS,
    PartialSums,
    as_kernel_rows,
    kernel_chunks,
    move_row,
)
from kmdist.kernels.frame import Frame, make_panel
from kmdist.kernels.nearest import (
    PLAIN,
    TILE_ROWS,
    error_bound,
    load_row,
    nearest_rows,
    norm2,
    resolve,
)

_UP = np.float32(1.0 + 2.0**-20)
_DOWN = np.float32(1.0 - 2.0**-20)
"""Make up for rounding where bounds are stored in float32."""


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _distance(rows, i, centroids, j):  # type: ignore[no-untyped-def]
    """‖x − c‖ for a bound: in whatever order is fast, its error is far below that of float32."""
    total = 0.0
    for p in range(rows.shape[1]):
        t = np.float64(rows[i, p]) - centroids[j, p]
        total += t * t
    return np.sqrt(total)


@njit(nogil=True, cache=True)
def _suspects(rows, centroids, scale, labels, upper, lower, moves, gaps, todo):  # type: ignore[no-untyped-def]
    """Widen the bounds; list the rows whose label may change."""
    most, first, runner_up = 0.0, 0, 0.0
    for j in range(moves.size):
        if moves[j] > most:
            runner_up = most
            most, first = moves[j], j
        elif moves[j] > runner_up:
            runner_up = moves[j]
    n = 0
    for i in range(labels.size):
        label = labels[i]
        up = np.float32((upper[i] + moves[label]) * _UP)
        low = np.float32((lower[i] - (runner_up if label == first else most)) * _DOWN)
        lower[i] = low
        limit = max(low, gaps[label])
        if up >= limit:
            up = np.float32(_distance(rows, i, centroids, label) * scale * _UP)
            if up >= limit:
                todo[n] = i
                n += 1
        upper[i] = up
    return n


@njit(nogil=True, cache=True)
def _rescan(  # type: ignore[no-untyped-def]
    rows, weights, panel, centroids, frame, errors, labels, bounds, todo, fresh, plain, out
):
    """Assign the listed rows anew, set their bounds, and move them between the sums."""
    shift, scale, magic, weight_magic, _, _ = frame
    gamma, longest = errors
    upper, lower = bounds
    sums, counts = out
    d = rows.shape[1]
    tile = np.zeros((TILE_ROWS, d), np.float32)
    best, second = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    nearest, scores = np.empty(TILE_ROWS, np.int32), np.empty(panel.shape[1], np.float32)
    for start in range(0, todo.size, TILE_ROWS):
        size = min(TILE_ROWS, todo.size - start)
        for r in range(size):
            load_row(rows[todo[start + r]], shift, scale, tile[r])
        nearest_rows(tile, size, panel, plain, best, second, nearest)
        for r in range(size):
            i = todo[start + r]
            square = norm2(tile[r])
            error = error_bound(square, gamma, longest)
            label = nearest[r]
            own, other = np.float64(best[r]), np.float64(second[r])
            if other <= own + 2.0 * error:
                label = resolve(rows[i], tile[r], panel, best[r], centroids, error, scores)
                if label != nearest[r]:  # its score is within four errors of the best
                    own, other = own + 4.0 * error, own
            upper[i] = np.float32(np.sqrt(max(square + own + error, 0.0)) * _UP)
            lower[i] = np.float32(np.sqrt(max(square + other - error, 0.0)) * _DOWN)
            old = np.int32(-1) if fresh else labels[i]
            if old == label:
                continue
            weight = weights[i] if weights.size else 1.0
            count = (weight + weight_magic) - weight_magic
            if old >= 0:
                counts[old] -= count
            counts[label] += count
            move_row(rows[i], shift, weight, magic, sums, old, label)
            labels[i] = label


def half_gaps(centroids: np.ndarray, frame: Frame) -> np.ndarray:
    """Half the distance from each centroid to its nearest other one, in the frame's scale.

    Parameters
    ----------
    centroids : (k, d) floating point.
    frame : Frame

    Returns
    -------
    (k,) float64, never more than the true value; infinite for k = 1.
    """
    local = (np.asarray(centroids, np.float64) - frame.shift) * frame.scale
    squares = (local * local).sum(axis=1)
    between = squares[:, None] + squares - 2.0 * (local @ local.T)
    np.fill_diagonal(between, np.inf)
    least = between.min(axis=1) - 1e-12 * squares.max()
    return np.asarray(0.5 * np.sqrt(np.maximum(least, 0.0)) * (1.0 - 1e-9))


def assign_bounded(
    rows: np.ndarray,
    weights: np.ndarray | None,
    centroids: np.ndarray,
    frame: Frame,
    labels: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
    previous: np.ndarray | None,
    gaps: np.ndarray,
    sums: PartialSums,
) -> int:
    """`kmdist.kernels.assign.assign` with bounds; labels, bounds and sums change in place.

    Parameters
    ----------
    rows, weights, centroids, frame : as there.
    labels : (n,) int32, nearest of `previous`; written.
    upper, lower : (n,) float32, the bounds that belong to them; written.
    previous : (k, d), the centroids of labels and bounds, or None: there are none yet.
    gaps : (k,) float64, from `half_gaps`.
    sums : partial sums that belong to `labels`, or zeros where `previous` is None; changed.

    Returns
    -------
    int : rows whose scores were computed.
    """
    panel = make_panel(centroids, frame)
    fresh = previous is None
    moves = np.zeros(len(centroids))
    if previous is not None:
        step = (panel.centroids - np.asarray(previous, np.float64)) * frame.scale
        moves = np.sqrt((step * step).sum(axis=1)) * (1.0 + 1e-9)
    scanned = 0
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        here = slice(first, first + len(part))
        if fresh:
            todo = np.arange(len(part), dtype=np.int32)
        else:
            todo = np.empty(len(part), np.int32)
            n = _suspects(
                part,
                panel.centroids,
                frame.scale,
                labels[here],
                upper[here],
                lower[here],
                moves,
                gaps,
                todo,
            )
            todo = todo[:n]
        scanned += len(todo)
        _rescan(
            part,
            _NO_WEIGHTS if weights is None else weights[here],
            panel.scores,
            panel.centroids,
            tuple(frame),
            (panel.gamma, panel.max_norm),
            labels[here],
            (upper[here], lower[here]),
            todo,
            fresh,
            PLAIN,
            tuple(sums),
        )
    return scanned
