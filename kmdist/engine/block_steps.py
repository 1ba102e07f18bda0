"""What an iteration does to one block: the leaves of the passes of `kmdist.engine.lloyd`."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kmdist.engine.kernels.assign import LEAST_CENTROID_VALUES, assign, assign_lightly
from kmdist.engine.kernels.bounds import (
    Neighbours,
    assign_bounded,
    find_neighbours,
    lengths_of_moves,
    panels_pay,
)
from kmdist.engine.kernels.distances import Farthest, farthest_rows, inertia_bins
from kmdist.engine.kernels.frame import Frame, reaching
from kmdist.engine.kernels.subspace import (
    PAID_WITHIN,
    Guide,
    Subspace,
    find_subspace,
    make_guide,
    make_projected_guide,
    most_groups,
    plain_cost,
    project,
    projected_cost,
)
from kmdist.engine.kernels.sums import PartialSums, add_levels, merge_bins, no_sums, weigh_labels
from kmdist.engine.passes import one_blas_thread
from kmdist.engine.rows import Block, Memory, Points

if TYPE_CHECKING:
    from kmdist.engine.kernels.projected import Groups, ProjectedWork

BOUNDS = ("auto", "always", "never")

_TRY_BELOW = 0.01
"""Bounds are tried once fewer rows than this share change their label in an iteration."""

_SMALL_PRODUCT = 1 << 18

_EARLY_WORK = 100_000
"""k · d from which a subspace is looked for before the first iteration."""


def _pays_below(k: int) -> float:
    """Share of the scores computed above which bounds cost more than they save.

    Measured on MNIST's 784 features: 0.2 for k = 10, 0.55 for k = 64 and 256.
    """
    return min(0.55, 0.15 + k / 160)


class Centers:
    """Centroids as they are sent to the workers, once an iteration.

    What passes derive from them is found once a process.

    Parameters
    ----------
    centroids : (k, d) floating point.
    bounds : one of `BOUNDS`.
    distance : root of the mean squared distance of rows to their centroids, about, in the
        frame's scale; infinite where it is not known.
    spacious : whether there is memory for projections of the rows.
    """

    def __init__(
        self,
        centroids: np.ndarray,
        bounds: str = "never",
        distance: float = np.inf,
        spacious: bool = False,
    ) -> None:
        self.centroids, self.bounds, self.distance = centroids, bounds, distance
        self.spacious = spacious
        self._lock = threading.RLock()
        self._found: dict[Any, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Centers, (self.centroids, self.bounds, self.distance, self.spacious)

    def _once(self, key: Any, find: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._found:
                self._found[key] = find()
            return self._found[key]

    def bounded(self, frame: Frame) -> bool:
        """Whether all centroids lie within the frame, as bounds in its scale need it."""
        within: bool = self._once("bounded", lambda: reaching(frame, self.centroids) is frame)
        return within

    def panels_pay(self, frame: Frame) -> bool:
        """`kmdist.engine.kernels.bounds.panels_pay`."""

        def find() -> bool:
            with self._one_blas_thread():
                return panels_pay(self.centroids, frame, self.distance)

        pay: bool = self._once("pay", find)
        return pay

    def _one_blas_thread(self) -> AbstractContextManager[None]:
        """For products of centroids; OpenBLAS takes one by itself for small ones.

        To tell it so takes 1 ms.
        """
        small = len(self.centroids) * self.centroids.size <= _SMALL_PRODUCT
        return nullcontext() if small else one_blas_thread()

    def subspace(self, block: Block, memory: Memory, frame: Frame) -> Subspace | None:
        """`kmdist.engine.kernels.subspace.find_subspace`, with the first block that asks."""

        def find() -> Subspace | None:
            previous, counts, within = memory.centroids, memory.counts, PAID_WITHIN
            if previous is None or counts is None:
                previous, counts, within = self.centroids, np.ones((len(self.centroids), 1)), 1.0
            with one_blas_thread():
                weights = add_levels(counts)
                return find_subspace(block.rows, previous, self.centroids, weights, frame, within)

        found: Subspace | None = self._once(("subspace", memory.centroids is None), find)
        return found

    def groups(self, subspace: Subspace, frame: Frame, most: int) -> "Groups":
        """`kmdist.engine.kernels.projected.group_centroids`."""
        from kmdist.engine.kernels.projected import group_centroids

        def find() -> "tuple[Groups, Subspace]":
            with one_blas_thread():
                projected = project(self.centroids, subspace, frame)
                return group_centroids(projected, most), subspace  # kept: `id` is the key

        groups: Groups = self._once(("groups", id(subspace), most), find)[0]
        return groups

    def guide(self, frame: Frame) -> Guide:
        """`kmdist.engine.kernels.subspace.make_guide`."""
        guide: Guide = self._once("guide", lambda: make_guide(self.centroids, frame))
        return guide

    def projected_guide(self, points: Points, frame: Frame) -> Guide:
        """`kmdist.engine.kernels.subspace.make_projected_guide`."""
        groups = points.groups

        def make() -> "tuple[Guide, Groups]":
            with one_blas_thread():
                guide = make_projected_guide(self.centroids, frame, points.subspace, groups.slots)
            return guide, groups

        guide: Guide = self._once(("projected", id(groups)), make)[0]
        return guide

    def moves(self, previous: np.ndarray, frame: Frame) -> np.ndarray:
        """`kmdist.engine.kernels.bounds.lengths_of_moves`, from centroids to these."""

        def find() -> tuple[np.ndarray, np.ndarray]:
            return lengths_of_moves(previous, self.centroids, frame), previous

        moves: np.ndarray = self._once(("moves", id(previous)), find)[0]
        return moves

    def neighbours(self, frame: Frame) -> Neighbours:
        """`kmdist.engine.kernels.bounds.find_neighbours`, with panels of the guide's scores."""

        def find() -> Neighbours:
            scores = self.guide(frame).scores if self.panels_pay(frame) else None
            with self._one_blas_thread():
                return find_neighbours(self.centroids, frame, scores=scores)

        neighbours: Neighbours = self._once("neighbours", find)
        return neighbours


class Finish(NamedTuple):
    """What the last pass returns: per cluster, for the final centroids.

    Parameters
    ----------
    inertia : `kmdist.engine.kernels.distances.inertia_bins`.
    counts : (k, levels) float64, Σ w, as of `PartialSums`.
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
    if memory.centroids is None and _begins_projected(block, memory, centers, frame):
        sums = _projected_step(block, memory, centers, frame)
    elif _wants_bounds(block, memory, centers, frame):
        bounded = _bounded_step if memory.points is None else _projected_step
        sums = bounded(block, memory, centers, frame)
    else:
        sums = _plain_step(block, memory, centers, frame)
    memory.centroids, memory.sums, memory.counts = centers.centroids, sums.sums, sums.counts
    # Not copied: it is merged with others before the next iteration changes it.
    return sums


def _wants_bounds(block: Block, memory: Memory, centers: Centers, frame: Frame) -> bool:
    if centers.bounds == "never" or memory.centroids is None or len(centers.centroids) == 1:
        return False
    if not centers.bounded(frame):
        return False
    if centers.bounds == "always" or memory.upper is not None:
        return True
    if memory.pause > 0 or centers.centroids.size < LEAST_CENTROID_VALUES:
        return False
    return (
        memory.changed < _TRY_BELOW
        or centers.panels_pay(frame)
        or _projects(block, memory, centers, frame)
    )


def _projects(block: Block, memory: Memory, centers: Centers, frame: Frame) -> bool:
    """Project the rows where that saves work; whether projections are at hand."""
    if memory.points is not None:
        return True
    if not centers.spacious or centers.panels_pay(frame):
        return False
    if memory.centroids is not None:
        memory.wait -= 1
        if memory.wait > 0:
            return False
    subspace = centers.subspace(block, memory, frame)
    if subspace is None:
        if memory.centroids is not None:
            memory.wait, memory.next_wait = memory.next_wait, 4 * memory.next_wait
        return False
    n, d = block.rows.shape
    most = most_groups(block.rows.dtype.itemsize * d, subspace)
    groups = centers.groups(subspace, frame, most)
    with one_blas_thread():
        values = project(block.rows, subspace, frame)
    memory.points = Points(subspace, groups, values, np.zeros((n, groups.number), np.float32))
    memory.upper = np.full(n, np.inf, np.float32)
    return True


def _begins_projected(block: Block, memory: Memory, centers: Centers, frame: Frame) -> bool:
    """Project the rows before the first iteration where that alone saves more than it takes.

    Where there are fewer centroids, a basis for those of later iterations is much the better one.
    """
    k, d = centers.centroids.shape
    if centers.bounds != "auto" or 4 * k < d or k * d < _EARLY_WORK or not centers.bounded(frame):
        return False
    return _projects(block, memory, centers, frame)


def _plain_step(block: Block, memory: Memory, centers: Centers, frame: Frame) -> PartialSums:
    known, before = None, None
    if memory.centroids is not None and memory.sums is not None and memory.counts is not None:
        known = PartialSums(memory.sums, memory.counts)
        before = block.labels.copy()
    memory.centroids = None  # should this fail half-way, start afresh
    sums = assign_lightly(
        block.rows, block.weights, centers.centroids, frame, block.labels, sums=known
    )
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


def _bounded_step(block: Block, memory: Memory, centers: Centers, frame: Frame) -> PartialSums:
    """An iteration with bounds, of a block that knows its labels for the last centroids."""
    n, k = len(block.rows), len(centers.centroids)
    previous, sums = memory.centroids, memory.sums
    if previous is None or sums is None or memory.counts is None:
        raise RuntimeError("bounds need the labels and sums of an iteration before")
    fresh = memory.upper is None or memory.lower is None
    if memory.upper is None or memory.lower is None:
        memory.upper, memory.lower = np.full(n, np.inf, np.float32), np.zeros(n, np.float32)
    partial = PartialSums(sums, memory.counts)
    # Half-way through, bounds, labels and sums do not match: should this fail, start afresh.
    memory.centroids = None
    scored = assign_bounded(
        block.rows,
        block.weights,
        centers.centroids,
        frame,
        block.labels,
        memory.upper,
        memory.lower,
        centers.moves(previous, frame),
        centers.neighbours(frame),
        partial,
        centers.guide(frame),
    )
    if not fresh and scored > _pays_below(k) and centers.bounds != "always":
        _pause(memory)
    return partial


def _projected_step(block: Block, memory: Memory, centers: Centers, frame: Frame) -> PartialSums:
    """An iteration over projections, of a block that knows its labels or begins with it."""
    from kmdist.engine.kernels.projected import assign_projected

    k, d = centers.centroids.shape
    points, upper, previous = memory.points, memory.upper, memory.centroids
    if points is None or upper is None:
        raise RuntimeError("there are no projections of the rows")
    if previous is None or memory.sums is None or memory.counts is None:
        partial, moves = no_sums(k, d, frame.grid), np.zeros(k)
    else:
        partial = PartialSums(memory.sums, memory.counts)
        moves = centers.moves(previous, frame)
    memory.centroids = None  # as in `_bounded_step`
    work = assign_projected(
        block.rows,
        block.weights,
        points.values,
        frame,
        block.labels,
        (upper, points.lower),
        moves,
        centers.projected_guide(points, frame),
        points.groups,
        partial,
        fresh=previous is None,
    )
    if work.scored < 1.0 and not _paid(work, points, k, d) and centers.bounds != "always":
        _pause(memory)
    return partial


def _pause(memory: Memory) -> None:
    """Go without bounds for some iterations."""
    memory.upper = memory.lower = memory.points = None
    memory.pause, memory.next_pause = memory.next_pause, 2 * memory.next_pause


def _paid(work: "ProjectedWork", points: Points, k: int, d: int) -> bool:
    """Whether a pass over projections took less than one over rows."""
    cost = projected_cost(k, d, points.values.shape[1], *work)
    return cost < plain_cost(k, d)


def labelled(source: Any, centers: Centers, frame: Frame) -> tuple[Block, np.ndarray]:
    """A block and its labels (n,) int32 for some centroids; remembered ones where they are its."""
    block: Block = source.open()
    if block is not source:
        assign_lightly(
            block.rows, block.weights, centers.centroids, frame, block.labels, summed=False
        )
        return block, block.labels
    with block.lock:
        memory = _memory_for(block, centers, frame)
        if memory.centroids is None or not np.array_equal(memory.centroids, centers.centroids):
            _kept_step(block, centers, frame)
    return block, block.labels


def finish_block(source: Any, centers: Centers, frame: Frame) -> Finish:
    """Leaf of the last pass."""
    block, labels = labelled(source, centers, frame)
    inertia = inertia_bins(block.rows, block.weights, centers.centroids, labels)
    return Finish(inertia, weigh_labels(labels, block.weights, len(centers.centroids), frame.grid))


def merge_finish(parts: list[Finish]) -> Finish:
    inertia = merge_bins([part.inertia for part in parts])
    return Finish(inertia, np.sum([part.counts for part in parts], axis=0))


def farthest(item: list[Any], centers: Centers, frame: Frame, wanted: int) -> Farthest:
    """Leaf of the pass that repairs empty clusters."""
    source, places = item
    block, labels = labelled(source, centers, frame)
    found = farthest_rows(block.rows, block.weights, centers.centroids, labels, wanted, 0)
    return found._replace(positions=places.of(found.positions))
