"""From images to rows, and from rows to models: plain k-means, or landmarks grouped to each k.

One pass over the images finds components of their features, one makes rows, which are kept where
they fit. Pixels need no components: where they are kept, it is the pass that makes them that finds
images that cannot be used, else one of its own.

Plain k-means goes on from its last checkpoint. Landmarks are fitted, their affinities summed in one
pass and grouped, and labels learnt anew from the groups, one pass a round. What a pass has summed
is kept for a resume. Clusters are then numbered by their size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from kmdist.engine.components import (
    FeatureSums,
    Projection,
    feature_sums,
    fit_projection,
    merge_feature_sums,
)
from kmdist.engine.fits import FitOptions, cluster_order
from kmdist.engine.passes import one_blas_thread
from kmdist.engine.rows import Loader, Rows
from kmdist.errors import KmdistError, quantity
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass, LeftOut, Stage, of_arrays, to_arrays
from kmdist.job.job import Job, NothingToFitError
from kmdist.job.progress import Message
from kmdist.job.resumable_fit import fit_centroids, kept_rows
from kmdist.recipes.digits.labellers import (
    CentroidLabels,
    KernelBasis,
    KernelLabels,
    KernelSums,
    Model,
    Ranked,
    VoteLabels,
    kernel_basis,
    kernel_sums,
    merge_kernel_sums,
    solve,
)
from kmdist.recipes.digits.landmarks import (
    Landmarks,
    affinity,
    attach,
    group_landmarks,
    landmark_count,
    merge_affinities,
    weight_scale,
)
from kmdist.recipes.digits.model import WHITENING, Describer, Preset
from kmdist.recipes.digits.opening import Opened, check_images, leave_out
from kmdist.recipes.digits.stacks.stack import Range


@dataclass(frozen=True)
class Described:
    """What the first pass finds: moments of the features, images without ink, unusable ones."""

    sums: FeatureSums
    n_blank: int = 0
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def nothing(rejected: tuple[Rejection, ...]) -> "Described":
        """Of a block without images."""
        return Described(FeatureSums(0, np.empty(0), np.empty((0, 0))), 0, rejected)

    @staticmethod
    def merge(parts: list["Described"]) -> "Described":
        """Add up several blocks."""
        return Described(
            merge_feature_sums([p.sums for p in parts]),
            sum(p.n_blank for p in parts),
            tuple(one for part in parts for one in part.rejected),
        )


def describe_block(part: Range, describer: Describer) -> Described:
    """Leaf of the first pass."""
    images, _, rejected = part.usable()
    if not len(images):
        return Described.nothing(rejected)
    with one_blas_thread():
        features = describer.features(images)
        n_blank = int((~images.any(axis=(1, 2))).sum())
        return Described(feature_sums(features), n_blank, rejected)


DESCRIBE = Stage(
    "describe",
    describe_block,
    Described.merge,
    Described.nothing,
    saved=Described,
)


@dataclass(frozen=True)
class Components:
    """What a resume knows of the first pass once it is over."""

    projection: Projection
    rejected: tuple[Rejection, ...]


def first_pass(job: Job, opened: Opened, preset: Preset) -> tuple[Opened, Describer]:
    """What there is to know of all images before there are rows: components of their features.

    Returns
    -------
    opened : the images that can be used.
    describer : makes their rows.
    """
    describer = Describer(preset, opened.blocks[0].source.dtype)
    if not preset.components:
        if opened.stack.names or not job.keep:
            opened = check_images(job, opened)
        return opened, describer
    components = of_arrays(Components, job.writer.load_state("components"))
    if components is not None:
        return leave_out(job, opened, components.rejected), replace(
            describer, projection=components.projection
        )
    found: Described = BlockPass(job, DESCRIBE).run(opened.blocks, describer)
    opened = leave_out(job, opened, found.rejected)
    if found.n_blank:
        job.watch(Message(f"blank, with no ink to go by: {quantity(found.n_blank, 'image')}"))
    with one_blas_thread():
        try:
            projection = fit_projection(found.sums, preset.components, WHITENING)
        except ValueError as error:
            raise NothingToFitError(f"the images cannot be told apart: {error}") from error
    job.writer.save_state("components", to_arrays(Components(projection, found.rejected)))
    return opened, replace(describer, projection=projection)


def load_rows(item: tuple[Range, Describer]) -> np.ndarray:
    """Rows of some images."""
    part, describer = item
    with one_blas_thread():
        return describer.rows(part.images())


def make_rows(job: Job, opened: Opened, describer: Describer) -> tuple[Opened, Rows]:
    """Rows of all images, kept on the workers or made anew in every pass.

    Returns
    -------
    opened : the images that have rows; without a block whose rows killed the workers that were to
        keep them.
    rows : of these.
    """
    sources: list[Any] = [Loader(load_rows, (part, describer)) for part in opened.blocks]
    if job.keep:
        opened, sources = _kept_rows(job, opened, describer)
    with job.timed("rows"):
        return opened, Rows(job.pool, sources, describer.row_dtype, kept=job.keep)


def _kept_rows(job: Job, opened: Opened, describer: Describer) -> tuple[Opened, list[Any]]:
    left_out = of_arrays(LeftOut, job.writer.load_state("left-out")) or LeftOut()
    opened = leave_out(job, opened, left_out.rejected)

    def without(_: Sequence[Range], rejected: Sequence[Rejection]) -> list[Range]:
        nonlocal opened, left_out
        left_out = LeftOut((*left_out.rejected, *rejected))
        job.writer.save_state("left-out", to_arrays(left_out))
        opened = leave_out(job, opened, rejected)
        return opened.blocks

    _, sources = kept_rows(job, opened.blocks, without, load_rows, describer)
    return opened, sources


@dataclass
class Fitted:
    """A model and what its fit recorded.

    Parameters
    ----------
    history : (iterations, 3) float64: inertia, shift, empty clusters repaired.
    """

    model: Model
    n_iter: int
    stop_reason: str
    history: np.ndarray


LANDMARK_ITERATIONS = 10


def affinity_block(source: Any, landmarks: Landmarks) -> Any:
    """Leaf of the pass that sums affinities."""
    rows = np.ascontiguousarray(source.open().rows, np.float32)
    with one_blas_thread():
        return affinity(attach(rows, landmarks), landmarks.n)


def kernel_block(source: Any, model: Model, basis: KernelBasis, k: int, gram: bool) -> KernelSums:
    """Leaf of the passes that learn labels anew."""
    rows = source.open().rows
    with one_blas_thread():
        return kernel_sums(rows, model.label(rows), basis, k, gram=gram)


def fit_landmarks(job: Job, rows: Rows, ks: Sequence[int], preset: Preset, seed: int) -> Landmarks:
    """Sets of landmarks, each from a seed of its own; as many as the largest k asks for."""
    p = landmark_count(rows.n_rows, max(ks), preset.rows_each, preset.per_cluster)
    wanted = max(max(ks), preset.neighbours)
    if p < wanted:
        raise KmdistError(
            f"{quantity(rows.n_rows, 'image')} make {p} landmarks, too few for k = {max(ks)}; use "
            "--preset gradient"
        )
    sets, scales = [], []
    for number in range(preset.sets):
        options = FitOptions("random", 1, LANDMARK_ITERATIONS, 1e-3, seed + 7919 * number)
        state, _ = fit_centroids(job, rows, p, options, f"landmarks-{number}")
        sets.append(state.centroids)
        scales.append(weight_scale(state.inertia, rows.n_rows))
    return Landmarks(tuple(sets), tuple(scales), preset.neighbours)


def fit_groups(job: Job, rows: Rows, ks: Sequence[int], preset: Preset, seed: int) -> list[Fitted]:
    """Landmarks, grouped to each k, and learnt anew where the preset says so."""
    landmarks = fit_landmarks(job, rows, ks, preset, seed)
    future = job.pool.broadcast(landmarks)
    total = _affinities(job, rows, future)
    fits = []
    for k in ks:
        with job.timed("group"), one_blas_thread():
            try:
                groups = group_landmarks(landmarks, total, k)
            except ValueError as error:
                raise KmdistError(f"k = {k}: {error}; use fewer clusters") from error
        model: Model = VoteLabels(landmarks, groups, k)
        if preset.relabelled:
            with job.timed("relabel"):
                model = _relabelled(
                    job, rows, model, kernel_basis(landmarks.sets[0]), preset.relabelled
                )
        fits.append(Fitted(model, LANDMARK_ITERATIONS, "grouped", np.empty((0, 3))))
    return fits


def _affinities(job: Job, rows: Rows, landmarks: Any) -> Any:
    """Affinities of all rows, from the partial run where they are there."""
    saved = job.writer.load_state("affinities")
    if saved is not None:
        p = len(saved["indptr"]) - 1
        return sparse.csr_array((saved["data"], saved["indices"], saved["indptr"]), shape=(p, p))
    with job.timed("affinity"):
        total = rows.run(affinity_block, landmarks, merge=merge_affinities)
    parts = {"data": total.data, "indices": total.indices, "indptr": total.indptr}
    job.writer.save_state("affinities", parts)
    return total


def _relabelled(
    job: Job, rows: Rows, model: Model, basis: KernelBasis, rounds: int
) -> KernelLabels:
    """Labels learnt anew, from the partial run where they are there."""
    name = f"weights-{model.k}"
    saved = job.writer.load_state(name)
    if saved is not None:
        return KernelLabels(basis, saved["weights"])
    gram, future = np.empty((0, 0)), rows.pool.broadcast(basis)
    for number in range(rounds):
        shared = rows.pool.broadcast(model)
        first = number == 0
        sums: KernelSums = rows.run(
            kernel_block, shared, future, model.k, first, merge=merge_kernel_sums
        )
        gram = sums.gram if first else gram
        with one_blas_thread():
            model = found = KernelLabels(basis, solve(KernelSums(sums.n, gram, sums.targets)))
    job.writer.save_state(name, {"weights": found.weights})
    return found


def fit_models(
    job: Job, rows: Rows, ks: Sequence[int], preset: Preset, options: FitOptions
) -> list[Fitted]:
    """A model for each k."""
    if preset.sets:
        return fit_groups(job, rows, ks, preset, options.seed)
    fits = []
    for k in ks:
        with job.timed("fit"):
            state, history = fit_centroids(job, rows, k, options, f"fit-{k}")
        model = CentroidLabels(state.centroids)
        fits.append(Fitted(model, state.iteration, state.stop_reason or "", history))
    return fits


class Totals(NamedTuple):
    """Per cluster: rows, and the sum of their rows."""

    counts: np.ndarray
    sums: np.ndarray


def total_block(source: Any, models: Sequence[Model]) -> list[Totals]:
    """Leaf of the pass that finds sizes and means of clusters."""
    rows = source.open().rows
    found = []
    with one_blas_thread():
        for model in models:
            labels = model.label(rows)
            sums = np.zeros((model.k, 0))
            if not isinstance(model, CentroidLabels):  # which has centroids already
                sums = sums_by_cluster(rows, labels, model.k)
            found.append(Totals(np.bincount(labels, minlength=model.k), sums))
    return found


def sums_by_cluster(values: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """(k, …) float64, sums of the values of each cluster, in order of the rows."""
    sums = np.zeros((k, *values.shape[1:]))
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(k + 1))
    for cluster in range(k):
        members = order[edges[cluster] : edges[cluster + 1]]
        sums[cluster] = values[members].sum(axis=0, dtype=np.float64)
    return sums


def merge_totals(parts: list[list[Totals]]) -> list[Totals]:
    """Add totals of blocks, model by model."""
    return [
        Totals(sum(t.counts for t in same), sum(t.sums for t in same))  # type: ignore[arg-type]
        for same in zip(*parts, strict=True)
    ]


def rank_clusters(
    rows: Rows, models: Sequence[Model], scale: float
) -> list[tuple[Ranked, np.ndarray]]:
    """Number the clusters of each model by size, descending, then by centroid.

    Parameters
    ----------
    scale : what rows are divided by before they are stored as centroids.

    Returns
    -------
    list of (Ranked, centroids (k, d) float32 in the new order)
    """
    totals: list[Totals] = rows.run(
        total_block, rows.pool.broadcast(list(models)), merge=merge_totals
    )
    found = []
    for model, total in zip(models, totals, strict=True):
        if isinstance(model, CentroidLabels):
            centroids = model.centroids
        else:
            centroids = total.sums / np.maximum(total.counts, 1)[:, None]
        order = cluster_order(total.counts, centroids)
        ranked = Ranked(model, np.argsort(order))
        found.append((ranked, (centroids[order] / scale).astype(np.float32)))
    return found
