"""What an iteration does to one block: the leaves of the passes of `kmdist.lloyd`."""

from typing import Any, NamedTuple

import numpy as np

from kmdist.kernels.assign import PartialSums, assign
from kmdist.kernels.bounds import assign_bounded
from kmdist.kernels.distances import Farthest, cluster_inertia, farthest_rows
from kmdist.kernels.frame import Frame
from kmdist.rows import Block, Memory

BOUNDS = ("auto", "always", "never")

_TRY_BELOW = 0.01
"""Bounds are tried once fewer rows than this share change their label in an iteration."""

_LEAST_WORK = 512
"""k · d below which they are not: to look after bounds costs as much as to do without."""


def _pays_below(k: int) -> float:
    """Share of rows scored anew above which bounds cost more than they save.

    Measured on MNIST's 784 features: 0.2 for k = 10, 0.55 for k = 64 and 256.
    """
    return min(0.55, 0.15 + k / 160)


class Centers(NamedTuple):
    """Centroids as they are sent to the workers, once an iteration.

    Parameters
    ----------
    centroids : (k, d) floating point.
    gaps : (k,) float64, half the distance to the nearest other centroid, or None: no bounds.
    bounds : one of `BOUNDS`.
    """

    centroids: np.ndarray
    gaps: np.ndarray | None
    bounds: str


class Finish(NamedTuple):
    """What the last pass returns: per cluster, for the final centroids.

    Parameters
    ----------
    inertia : (k,) float64, Σ w‖x − c‖² over the cluster, from the differences.
    counts : (k,) float64, Σ w.
    """

    inertia: np.ndarray
    counts: np.ndarray


def step(source: Any, centers: Centers, frame: Frame) -> PartialSums:
    """Leaf of an iteration."""
    block: Block = source.open()
    if block is not source:
        return assign(block.rows, block.weights, centers.centroids, frame)
    with block.lock:
        return _kept_step(block, centers, frame)


def _kept_step(block: Block, centers: Centers, frame: Frame) -> PartialSums:
    """An iteration of a block that remembers the last one."""
    memory = _memory_for(block, centers, frame)
    if centers.gaps is not None and _wants_bounds(memory, centers):
        sums = _bounded_step(block, memory, centers, centers.gaps, frame)
    else:
        sums = _plain_step(block, memory, centers, frame)
    memory.centroids, memory.sums, memory.counts = centers.centroids, sums.sums, sums.counts
    return PartialSums(sums.sums.copy(), sums.counts.copy())


def _wants_bounds(memory: Memory, centers: Centers) -> bool:
    if centers.bounds == "always" or memory.upper is not None:
        return True
    settled = memory.changed < _TRY_BELOW and memory.pause <= 0
    return settled and centers.centroids.size >= _LEAST_WORK


def _plain_step(block: Block, memory: Memory, centers: Centers, frame: Frame) -> PartialSums:
    known, before = None, None
    if memory.centroids is not None and memory.sums is not None and memory.counts is not None:
        known = PartialSums(memory.sums, memory.counts)
        before = block.labels.copy()
    memory.centroids = None  # should this fail half-way, start afresh
    sums = assign(block.rows, block.weights, centers.centroids, frame, block.labels, sums=known)
    if before is not None:
        memory.changed = float(np.mean(before != block.labels)) if len(before) else 0.0
    memory.upper = memory.lower = None
    memory.pause -= 1
    return sums


def _memory_for(block: Block, centers: Centers, frame: Frame) -> Memory:
    """The block's memory, emptied if it is of another fit."""
    memory = block.memory
    fits = (
        memory.centroids is not None
        and memory.centroids.shape == centers.centroids.shape
        and memory.frame is not None
        and memory.frame.same(frame)
    )
    if not fits:
        memory = block.memory = Memory(frame=frame, values=memory.values)
    return memory


def _bounded_step(
    block: Block, memory: Memory, centers: Centers, gaps: np.ndarray, frame: Frame
) -> PartialSums:
    n, k = len(block.rows), len(centers.centroids)
    previous = memory.centroids if memory.upper is not None else None
    if memory.upper is None or memory.lower is None:
        memory.upper, memory.lower = np.empty(n, np.float32), np.empty(n, np.float32)
    if previous is None or memory.sums is None or memory.counts is None:
        sums = PartialSums(np.zeros((k, block.rows.shape[1])), np.zeros(k))
    else:
        sums = PartialSums(memory.sums, memory.counts)
    # Half-way through, bounds, labels and sums do not match: should this fail, start afresh.
    memory.centroids = None
    scanned = assign_bounded(
        block.rows,
        block.weights,
        centers.centroids,
        frame,
        block.labels,
        memory.upper,
        memory.lower,
        previous,
        gaps,
        sums,
    )
    if previous is not None and scanned > _pays_below(k) * n and centers.bounds != "always":
        memory.upper = memory.lower = None
        memory.pause, memory.next_pause = memory.next_pause, 2 * memory.next_pause
    return sums


def labelled(source: Any, centers: Centers, frame: Frame) -> tuple[Block, np.ndarray]:
    """A block and its labels (n,) int32 for some centroids; remembered ones where they are its."""
    block: Block = source.open()
    if block is not source:
        assign(block.rows, block.weights, centers.centroids, frame, block.labels, summed=False)
        return block, block.labels
    with block.lock:
        memory = _memory_for(block, centers, frame)
        if memory.centroids is None or not np.array_equal(memory.centroids, centers.centroids):
            _kept_step(block, centers, frame)
    return block, block.labels


def finish_block(source: Any, centers: Centers, frame: Frame) -> Finish:
    """Leaf of the last pass."""
    block, labels = labelled(source, centers, frame)
    inertia = cluster_inertia(block.rows, block.weights, centers.centroids, labels)
    k = len(centers.centroids)
    weights = block.weights
    if weights is not None:
        weights = (weights + frame.weight_magic) - frame.weight_magic
    counts = np.bincount(labels, weights=weights, minlength=k).astype(np.float64)
    return Finish(inertia, counts)


def merge_finish(parts: list[Finish]) -> Finish:
    inertia, counts = parts[0]
    for part in parts[1:]:
        inertia, counts = inertia + part.inertia, counts + part.counts
    return Finish(inertia, counts)


def farthest(item: list[Any], centers: Centers, frame: Frame, wanted: int) -> Farthest:
    """Leaf of the pass that repairs empty clusters."""
    source, first = item
    block, labels = labelled(source, centers, frame)
    return farthest_rows(block.rows, block.weights, centers.centroids, labels, wanted, first)
