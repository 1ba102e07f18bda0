"""k-medians: centroids are medians, distances Σ|x − c| (the metric ``'manhattan'``).

8-bit rows are fitted exactly: a pass counts the values of each feature in each cluster, 2,048
bytes a cluster and feature, from which the medians follow. Other rows, and 8-bit ones whose
counts would exceed 256 MiB, are fitted on a weighted sample (`kmdist.engine.coreset.coreset_size`
rows; all of them where they are no more) and then labelled in one pass over all rows.
"""

from typing import Any, NamedTuple

import numpy as np

from kmdist.engine.block_steps import Centers
from kmdist.engine.coreset import coreset_size
from kmdist.engine.kernels.frame import Frame
from kmdist.engine.kernels.manhattan import (
    assign_manhattan,
    count_values,
    medians_of_counts,
    weighted_medians,
)
from kmdist.engine.kernels.sums import (
    add_levels,
    no_totals,
    weigh_labels,
    weight_pieces,
    weighted_bins,
)
from kmdist.engine.lloyd import Options, State, total_inertia
from kmdist.engine.rows import Rows, Sample, sample_rows

COUNT_BYTES = 256 << 20


class Counted(NamedTuple):
    """One pass: counts of values (k, levels, d, 256), cluster weights (k, levels), and bins of
    Σ w Σ|x − c|; exact on the levels of the weights (`kmdist.engine.kernels.sums`)."""

    values: np.ndarray
    counts: np.ndarray
    inertia: np.ndarray


def fit_medians(rows: Rows, centroids: np.ndarray, options: Options, seed: int) -> State:
    """Iterate k-medians to convergence.

    Parameters
    ----------
    rows : what to cluster.
    centroids : (k, d) initial centroids.
    options : `max_iter`, and `tol` as for k-means.
    seed : of the sample, where one is used.

    Returns
    -------
    State : centroids, counts and inertia Σ w Σ|x − c| of all rows. A cluster that runs empty
        keeps its centroid.
    """
    k, d = centroids.shape
    levels = len(rows.frame.grid.weights) + 1
    countable = rows.dtype == np.uint8 and 8 * 256 * k * d * levels <= COUNT_BYTES
    tolerance = options.tol * float(rows.moments.variance.mean())
    if not countable:
        size = coreset_size(k, d, rows.centroid_dtype.itemsize)
        sample = sample_rows(rows, size, seed, stream=1 << 21)
    current, iteration, reason = np.asarray(centroids, np.float64), 0, None
    while reason is None:
        moved = _count_step(rows, current) if countable else _sample_step(sample, current)
        iteration += 1
        shift = float(((moved - current) ** 2).sum())
        if np.array_equal(moved, current):
            reason = "converged"
        elif 0.0 < tolerance >= shift:  # of tiny rows, both may underflow
            reason = "tolerance"
        elif iteration >= options.max_iter:
            reason = "max_iter"
        current = moved
    final = current.astype(rows.centroid_dtype)
    done = _label_all(rows, final)
    counts = add_levels(done.counts)
    return State(final, counts, total_inertia(done.inertia), iteration, reason, shift)


def manhattan_inertia(rows: Rows, centroids: np.ndarray) -> float:
    """Σ w Σ|x − c| of all rows for the nearest centroids: one pass."""
    return total_inertia(_label_all(rows, centroids).inertia)


def _label_all(rows: Rows, centroids: np.ndarray) -> Counted:
    centers = rows.pool.broadcast(Centers(centroids))
    done: Counted = rows.run(label_manhattan, centers, rows.frame_future, merge=_merge)
    return done


def _count_step(rows: Rows, centroids: np.ndarray) -> np.ndarray:
    centers = rows.pool.broadcast(Centers(centroids))
    counted: Counted = rows.run(_count_block, centers, rows.frame_future, merge=_merge)
    values = add_levels(counted.values)
    filled = values[:, 0].sum(axis=1) > 0
    return np.where(filled[:, None], medians_of_counts(values), centroids)


def _sample_step(sample: Sample, centroids: np.ndarray) -> np.ndarray:
    labels, _ = assign_manhattan(sample.rows, centroids)
    return weighted_medians(sample.rows, sample.weights, labels, centroids)


def _count_block(source: Any, centers: Centers, frame: Frame) -> Counted:
    block = source.open()
    k = len(centers.centroids)
    labels, _ = assign_manhattan(block.rows, centers.centroids)
    pieces = weight_pieces(block.weights, frame.grid)
    values = [count_values(block.rows, piece, labels, k) for piece in pieces]
    return Counted(np.stack(values, axis=1), np.zeros(0), no_totals(1))


def label_manhattan(source: Any, centers: Centers, frame: Frame) -> Counted:
    """Leaf of the last pass; kept blocks then hold their labels."""
    block = source.open()
    block.memory.centroids = None
    labels, distances = assign_manhattan(block.rows, centers.centroids, block.labels)
    counts = weigh_labels(labels, block.weights, len(centers.centroids), frame.grid)
    inertia = weighted_bins(distances, block.weights)
    return Counted(np.zeros(0), counts, inertia)


def _merge(parts: list[Counted]) -> Counted:
    values, counts, inertia = parts[0]
    for part in parts[1:]:
        values, counts = values + part.values, counts + part.counts
        inertia = inertia + part.inertia
    return Counted(values, counts, inertia)
