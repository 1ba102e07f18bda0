"""Lloyd's algorithm over blocks of rows, as a generator of states.

One fused pass over the rows an iteration: n blocks cost n tasks and the merge tree of
`kmdist.engine.passes` (⌈n/8⌉ + ⌈n/64⌉ + … tasks), one broadcast of the centroids (8·k·d bytes to
each worker) and one result of 8·k·(d + 1) bytes for each level of the sums. After the last
iteration one more such pass computes labels and the exact inertia.

Sums are exact (`kmdist.engine.kernels.sums`) and labels are those of float64 arithmetic, so each
state is the same to the bit for any number of workers, any order, any chunking, with or without
bounds, and after the loss of a worker.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from kmdist.engine.block_steps import (
    BOUNDS,
    Centers,
    Finish,
    farthest,
    finish_block,
    merge_finish,
    step,
)
from kmdist.engine.kernels.assign import assign
from kmdist.engine.kernels.distances import merge_farthest
from kmdist.engine.kernels.frame import Moments, check_reach, frame_within, make_frame, moments
from kmdist.engine.kernels.sums import (
    PartialSums,
    add_levels,
    cluster_means,
    merge_sums,
    move_rows,
    totals_of,
)
from kmdist.engine.rows import Rows, require_unmasked, unit_rows


@dataclass(frozen=True)
class State:
    """The state of a k-means fit after one iteration, enough to show, checkpoint and resume.

    Parameters
    ----------
    centroids : (k, d) floating point, in the space that is clustered.
    counts : (k,) int64, or float64 where the rows are weighted: what was assigned to each
        centroid in this iteration.
    inertia : Σ w‖x − c‖² over the assignment of this iteration; exact for the returned
        centroids once `stop_reason` is set, otherwise as the iteration gave it.
    iteration : iterations done so far; 0 before the first.
    stop_reason : ``'converged'`` (no label changed), ``'tolerance'``, ``'max_iter'``, or None
        while the fit goes on.
    shift : Σ‖new − old‖² over the centroids in this iteration.
    n_repaired : empty clusters that were given a new centre in this iteration.
    """

    centroids: np.ndarray
    counts: np.ndarray
    inertia: float
    iteration: int
    stop_reason: str | None = None
    shift: float = float("inf")
    n_repaired: int = 0


@dataclass(frozen=True)
class Options:
    """How to iterate.

    Parameters
    ----------
    max_iter : iterations at most, at least 1.
    tol : stop when Σ‖move‖² ≤ tol · mean variance of the features; 0: when nothing moves.
    bounds : keep Hamerly's bounds of kept rows ``always``, ``never``, or, ``auto``, where a
        block finds that they pay. The result is the same.
    spherical : divide each centroid by its length (rows are of unit length too).
    """

    max_iter: int = 300
    tol: float = 1e-4
    bounds: str = "auto"
    spherical: bool = False

    def __post_init__(self) -> None:
        if self.max_iter < 1 or self.tol < 0 or self.bounds not in BOUNDS:
            raise ValueError(
                f"max_iter {self.max_iter} must be at least 1, tol {self.tol} at least 0, and "
                f"bounds {self.bounds!r} one of {BOUNDS}"
            )


def iterate(
    rows: Rows,
    centroids: np.ndarray,
    options: Options | None = None,
    *,
    start: State | None = None,
) -> Iterator[State]:
    """Iterate to convergence.

    Parameters
    ----------
    rows : what to cluster.
    centroids : (k, d) initial centroids; not changed.
    options : Options, or None for the defaults.
    start : a state of an earlier call to go on from; `centroids` are then not used. Going on
        gives the same bits as not having stopped.

    Yields
    ------
    State : one an iteration. The last has `stop_reason` set, and counts and inertia that are
        exact for its centroids; those of kept rows then hold their labels.

    Raises
    ------
    ValueError : centroids do not fit the rows, or are not finite.

    Notes
    -----
    An empty cluster takes the row farthest from its centroid as its centre (ties: the first
    row), and that row leaves the cluster it was in, as in scikit-learn; no two such rows are
    equal, none lies on its centroid, and none was its cluster's last. Clusters are repaired in
    order; where rows run out, the rest keep their centroids.
    """
    options = options or Options()
    current = _checked(rows, centroids if start is None else start.centroids)
    if start is not None and start.stop_reason is not None:
        yield start
        return
    state = start or State(current, np.zeros(len(current)), np.inf, 0)
    while True:
        sums = _call_step(rows, state, options.bounds)
        state = advance(rows, state, sums, options)
        if state.stop_reason is not None:
            break
        yield state
    yield final_state(rows, state, options.bounds)


def advance(rows: Rows, state: State, sums: PartialSums, options: Options) -> State:
    """The next state from the sums of a pass for the centroids of this one.

    Returns
    -------
    State : counts and inertia are of the assignment to the old centroids. Where `stop_reason`
        is set, `final_state` has yet to measure those of the new ones.
    """
    current = state.centroids
    tolerance = options.tol * float(rows.moments.variance.mean())
    inertia = _expanded_inertia(rows, sums, current)
    repaired, n_repaired = _repair(rows, sums, current)
    moved = _means(rows, repaired, current, options.spherical)
    shift = float(((moved.astype(np.float64) - current) ** 2).sum())
    iteration = state.iteration + 1
    same = np.array_equal(moved, current)
    reason = _stop_reason(same, shift, tolerance, iteration, options.max_iter)
    counts = tidy_counts(rows, sums.weights)
    return State(moved, counts, inertia, iteration, reason, shift, n_repaired)


def final_state(rows: Rows, state: State, bounds: str = "never") -> State:
    """A state with the exact inertia and counts of its centroids: one pass."""
    done = finish(rows, state.centroids, bounds, typical_distance(rows, state))
    counts = tidy_counts(rows, add_levels(done.counts))
    return replace(state, counts=counts, inertia=total_inertia(done.inertia))


def total_inertia(bins: np.ndarray) -> float:
    """Inertia of all clusters, correctly rounded, from that of each."""
    return float(totals_of(bins.sum(axis=0, keepdims=True))[0])


def typical_distance(rows: Rows, state: State) -> float:
    """Root of the mean squared distance of rows to their centroids, in the frame's scale."""
    return float(np.sqrt(state.inertia / rows.moments.weight)) * rows.frame.scale


def last(states: Iterator[State]) -> State:
    """The final state of `iterate`."""
    for state in states:
        final = state
    return final


def _call_step(rows: Rows, state: State, bounds: str) -> PartialSums:
    """`run_step`, without tasks where workers hold the rows."""
    distance = typical_distance(rows, state)
    centers = Centers(state.centroids, bounds, distance, rows.spacious)
    sums: PartialSums | None = rows.call(step, centers, rows.frame, merge=merge_sums)
    return run_step(rows, state.centroids, bounds, distance) if sums is None else sums


def run_step(
    rows: Rows, centroids: np.ndarray, bounds: str = "never", distance: float = np.inf
) -> PartialSums:
    """Assign all rows and sum per cluster: one pass.

    Returns
    -------
    PartialSums
    """
    centers = broadcast_centers(rows, centroids, bounds, distance)
    sums: PartialSums = rows.run(step, centers, rows.frame_future, merge=merge_sums)
    return sums


def broadcast_centers(
    rows: Rows, centroids: np.ndarray, bounds: str = "never", distance: float = np.inf
) -> Any:
    """A future of the `Centers` that leaves take."""
    return rows.pool.broadcast(Centers(centroids, bounds, distance, rows.spacious))


def finish(
    rows: Rows, centroids: np.ndarray, bounds: str = "never", distance: float = np.inf
) -> Finish:
    """Label all rows and measure their inertia from differences: one pass.

    Returns
    -------
    Finish
    """
    centers = broadcast_centers(rows, centroids, bounds, distance)
    done: Finish = rows.run(finish_block, centers, rows.frame_future, merge=merge_finish)
    return done


def _checked(rows: Rows, centroids: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond float32, which is refused
        centroids = np.ascontiguousarray(centroids, dtype=rows.centroid_dtype)
    if centroids.ndim != 2 or centroids.shape[1] != rows.n_features or not len(centroids):
        raise ValueError(
            f"centroids of shape {centroids.shape} do not match rows of {rows.n_features} features"
        )
    if not np.isfinite(centroids).all():
        raise ValueError(
            "the initial centroids must be finite, received NaN or infinity, or what is beyond "
            f"{centroids.dtype}"
        )
    check_reach(np.abs(centroids - rows.frame.shift).max(axis=0), rows.moments.weight)
    return centroids


def _stop_reason(
    same: bool, shift: float, tolerance: float, iteration: int, max_iter: int
) -> str | None:
    if same:  # the same sums, hence the same labels as before
        return "converged"
    if 0.0 < tolerance >= shift:  # of tiny rows, both may underflow
        return "tolerance"
    return "max_iter" if iteration >= max_iter else None


def tidy_counts(rows: Rows, counts: np.ndarray) -> np.ndarray:
    """Counts as integers where rows have no weights."""
    weights = rows.moments.weight_digits
    whole = weights is None or weights.most[0] == weights.least[0] == 1.0
    return counts.astype(np.int64) if whole else counts


def _expanded_inertia(rows: Rows, sums: PartialSums, centroids: np.ndarray) -> float:
    """Inertia of an assignment from its sums: Σ‖x‖² − 2 Σ c·S + Σ n‖c‖², all in the frame."""
    offset = rows.moments.mean - rows.frame.shift
    total = float(rows.moments.m2.sum() + rows.moments.weight * (offset @ offset))
    local = centroids - rows.frame.shift
    weights = sums.weights
    cross = float(np.einsum("ij,ij->", local, sums.totals - weights[:, None] * rows.frame.shift))
    own = float(weights @ np.einsum("ij,ij->i", local, local))
    return max(total - 2.0 * cross + own, 0.0)


def _means(rows: Rows, sums: PartialSums, centroids: np.ndarray, spherical: bool) -> np.ndarray:
    """Mean of each cluster; the old centroid where it has no rows."""
    means = cluster_means(sums, centroids)
    if spherical:
        means = unit_rows(means)
    return means.astype(rows.centroid_dtype)


def _repair(rows: Rows, sums: PartialSums, centroids: np.ndarray) -> tuple[PartialSums, int]:
    """Give empty clusters the rows farthest from their centroids; one more pass if there are any.

    Returns
    -------
    sums : PartialSums of the rows as they are then assigned.
    n_repaired : how many clusters were given a row.
    """
    empty = np.flatnonzero(sums.weights <= 0)
    if not empty.size:
        return sums, 0
    wanted = 2 * int(empty.size)  # some may be their cluster's last row
    far = rows.run(
        farthest,
        broadcast_centers(rows, centroids),
        rows.frame_future,
        wanted,
        each=rows.places,
        merge=partial(merge_farthest, wanted),
    )
    repaired = merge_sums([sums])
    weights, grid, n_repaired = sums.weights, tuple(rows.frame.grid), 0
    labels, left = far.labels.copy(), np.empty(rows.n_features)
    for i, (weight, label) in enumerate(zip(far.weights, far.labels, strict=True)):
        if n_repaired == empty.size:
            break
        if not 0 < weight < weights[label]:
            continue
        labels[i] = empty[n_repaired]
        moved = np.array([i]), far.labels[i : i + 1]
        move_rows(far.rows, moved, 1, labels, far.weights, grid, tuple(repaired), left)
        weights = repaired.weights
        n_repaired += 1
    return repaired, n_repaired


def predict_rows(rows: np.ndarray, centroids: np.ndarray, metric: str = "euclidean") -> np.ndarray:
    """Nearest centroid of each row.

    Parameters
    ----------
    rows : (n, d) real numbers.
    centroids : (k, d) floating point.
    metric : ``'euclidean'``, ``'cosine'`` (rows are divided by their lengths) or
        ``'manhattan'``.

    Returns
    -------
    (n,) int32 : ties go to the lowest index.

    Raises
    ------
    ValueError : a value is NaN or infinite; says where.
    """
    require_unmasked(rows, "X")
    labels = np.empty(len(rows), np.int32)
    if len(rows):
        rows = unit_rows(rows) if metric == "cosine" else rows
        low, high = float(rows.min()), float(rows.max())  # NaN comes through
        if not np.isfinite([low, high]).all():
            require_finite(rows)
        if metric == "manhattan":
            from kmdist.engine.kernels.manhattan import assign_manhattan

            return assign_manhattan(rows, centroids, labels)[0]
        try:
            frame = frame_within(low, high, len(rows), centroids)
        except ValueError:  # one extent for all features is longer than any row
            frame = make_frame(require_finite(rows))
        assign(rows, None, centroids, frame, labels, summed=False)
    return labels


def require_finite(rows: np.ndarray) -> Moments:
    m = moments(rows)
    if m.bad is not None:
        kind = "NaN" if np.isnan(m.bad[3]) else "infinity"
        raise ValueError(f"Input X contains {kind}: row {m.bad[1]:,}, column {m.bad[2]}")
    return m
