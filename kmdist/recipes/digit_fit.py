"""Fit a digits run: components, rows, and a model for each k.

Passes over the images: one to find components (not for pixels), one to make rows, which are kept
where they fit; then passes over the rows: one an iteration of each fit, and for landmarks one to
sum affinities, one to sum the kernel and one for each further round. Every pass is a map over
blocks and a merge of sums whose size does not depend on the number of images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.blas import one_blas_thread
from kmdist.digit_labels import CentroidLabels, KernelLabels, Model, VoteLabels
from kmdist.digit_model import WHITENING, Describer, Preset
from kmdist.errors import KmdistError
from kmdist.landmarks import (
    Landmarks,
    affinity,
    attach,
    group_landmarks,
    landmark_count,
    merge_affinities,
    weight_scale,
)
from kmdist.lloyd import Options, iterate
from kmdist.projection import FeatureSums, Projection, feature_sums, fit_projection
from kmdist.projection import merge_feature_sums as merge_moments
from kmdist.recipes.digit_blocks import Range
from kmdist.recipes.job import Job
from kmdist.recipes.progress import Event, Message
from kmdist.relabel import (
    KernelBasis,
    KernelSums,
    kernel_basis,
    kernel_sums,
    merge_kernel_sums,
    solve,
)
from kmdist.rows import Block, Loader, Rows
from kmdist.seeding import seed_centroids
from kmdist.state import State

LANDMARK_ITERATIONS = 10


@dataclass(frozen=True)
class Described:
    """What the first pass finds: moments of the features, and images without ink."""

    sums: FeatureSums
    n_blank: int


@dataclass(frozen=True)
class FitOptions:
    """How plain k-means is fitted; see `kmdist.KMeans`."""

    init: str = "k-means++"
    n_init: int = 1
    max_iter: int = 300
    tol: float = 1e-4
    seed: int = 0


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


def describe_block(part: Range, describer: Describer) -> Described:
    """Leaf of the first pass."""
    images = part.images()
    with one_blas_thread():
        features = describer.features(images)
        n_blank = int((~images.any(axis=(1, 2))).sum())
        return Described(feature_sums(features), n_blank)


def merge_described(parts: list[Described]) -> Described:
    """Add up the first pass."""
    return Described(merge_moments([p.sums for p in parts]), sum(p.n_blank for p in parts))


def find_components(job: Job, items: Sequence[Range], preset: Preset) -> Describer:
    """The first pass over the images, and the components of their features."""
    describer = Describer(preset, items[0].source.dtype)
    if not preset.components:
        return describer
    saved = job.writer.load_state("components")
    if saved is None:
        found = job.over_blocks(
            "describe",
            describe_block,
            items,
            describer,
            pixels=[part.pixels for part in items],
            merge=merge_described,
        )
        if found.n_blank:
            job.watch(Message(f"{found.n_blank:,} images are blank: they have no ink to go by"))
        with one_blas_thread():
            try:
                projection = fit_projection(found.sums, preset.components, WHITENING)
            except ValueError as error:
                raise KmdistError(f"the images cannot be told apart: {error}") from error
        saved = {"mean": projection.mean, "matrix": projection.matrix}
        job.writer.save_state("components", saved)
    projection = Projection(saved["mean"], saved["matrix"])
    return Describer(preset, describer.dtype, projection)


def load_rows(item: tuple[Range, Describer]) -> np.ndarray:
    """Rows of some images."""
    part, describer = item
    with one_blas_thread():
        return describer.rows(part.images())


def _load_block(part: Range, describer: Describer) -> Block:
    return Block(load_rows((part, describer)))


def make_rows(job: Job, items: Sequence[Range], describer: Describer, *, keep: bool) -> Rows:
    """Rows of all images, kept on the workers or made anew in every pass."""
    with job.timed("rows"):
        if keep:
            future = job.pool.broadcast(describer)
            sources = [job.pool.submit(_load_block, part, future) for part in items]
        else:
            sources = [Loader(load_rows, (part, describer)) for part in items]
        return Rows(job.pool, sources, describer.row_dtype, kept=keep)


def fit_centroids(
    job: Job, rows: Rows, k: int, options: FitOptions, name: str
) -> tuple[State, np.ndarray]:
    """Plain k-means: the restart of least inertia, going on from its last checkpoint.

    Returns
    -------
    state : final State.
    history : (iterations, 3) float64.
    """
    best: tuple[State, np.ndarray] | None = None
    for attempt in range(options.n_init):
        found = _one_fit(job, rows, k, options, attempt, f"{name}-{attempt}")
        if best is None or found[0].inertia < best[0].inertia:
            best = found
    if best is None:
        raise ValueError(f"n_init={options.n_init} must be at least 1")
    return best


def _one_fit(
    job: Job, rows: Rows, k: int, options: FitOptions, attempt: int, name: str
) -> tuple[State, np.ndarray]:
    saved = job.writer.load_state(name)
    if saved is not None:
        return _state_of(saved), saved["history"]
    history = []
    state = State(np.empty((0, 0)), np.empty(0), np.inf, 0)
    centroids = seed_centroids(rows, k, options.init, options.seed, attempt)
    for state in iterate(rows, centroids, Options(max_iter=options.max_iter, tol=options.tol)):
        history.append((state.inertia, state.shift, float(state.n_repaired)))
        note = f"k = {k}  inertia {state.inertia:.6g}"
        job.watch(Event("fit", state.iteration, 0, unit="iteration", note=note))
    table = np.array(history)
    job.writer.save_state(
        name,
        {
            "centroids": state.centroids,
            "counts": state.counts,
            "numbers": np.array([state.inertia, state.iteration, state.shift]),
            "stop_reason": np.array([state.stop_reason or ""]),
            "history": table,
        },
    )
    return state, table


def _state_of(saved: Mapping[str, np.ndarray]) -> State:
    inertia, iteration, shift = saved["numbers"]
    reason = str(saved["stop_reason"][0])
    return State(
        saved["centroids"], saved["counts"], float(inertia), int(iteration), reason, float(shift)
    )


def affinity_block(source: Any, landmarks: Landmarks) -> Any:
    """Leaf of the pass that sums affinities."""
    with one_blas_thread():
        return affinity(attach(source.open().rows, landmarks), landmarks.n)


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
            f"{rows.n_rows:,} images make {p} landmarks, too few for k = {max(ks)}; use "
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
    with job.timed("affinity"):
        total = rows.run(affinity_block, future, merge=merge_affinities)
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
                model = _learn_anew(rows, model, kernel_basis(landmarks.sets[0]), preset)
        fits.append(Fitted(model, LANDMARK_ITERATIONS, "grouped", np.empty((0, 3))))
    return fits


def _learn_anew(rows: Rows, model: Model, basis: KernelBasis, preset: Preset) -> Model:
    gram = np.empty((0, 0))
    for number in range(preset.relabelled):
        first = number == 0
        sums: KernelSums = rows.run(
            kernel_block,
            rows.pool.broadcast(model),
            rows.pool.broadcast(basis),
            model.k,
            first,
            merge=merge_kernel_sums,
        )
        gram = sums.gram if first else gram
        with one_blas_thread():
            model = KernelLabels(basis, solve(KernelSums(sums.n, gram, sums.targets)))
    return model


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
