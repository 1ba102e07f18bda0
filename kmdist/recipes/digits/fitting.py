"""Models of a digits run, fitted to its rows: plain k-means, or landmarks grouped to each k.

Plain k-means goes on from its last checkpoint. Landmarks are fitted, their affinities summed in one
pass and grouped, and labels learnt anew from the groups, one pass a round. What a pass has summed
is kept for a resume.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from kmdist.engine.fits import FitOptions
from kmdist.engine.passes import one_blas_thread
from kmdist.engine.rows import Rows
from kmdist.errors import KmdistError, quantity
from kmdist.job.job import Job
from kmdist.job.resumable_fit import fit_centroids
from kmdist.recipes.digits.labellers import (
    CentroidLabels,
    KernelBasis,
    KernelLabels,
    KernelSums,
    Model,
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
from kmdist.recipes.digits.model import Preset


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
                model = _relabelled(job, rows, model, kernel_basis(landmarks.sets[0]), preset)
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


def _relabelled(job: Job, rows: Rows, model: Model, basis: KernelBasis, preset: Preset) -> Model:
    """Labels learnt anew, from the partial run where they are there."""
    saved = job.writer.load_state(f"weights-{model.k}")
    if saved is not None:
        return KernelLabels(basis, saved["weights"])
    found = _learn_anew(rows, model, basis, preset)
    job.writer.save_state(f"weights-{model.k}", {"weights": found.weights})
    return found


def _learn_anew(rows: Rows, model: Model, basis: KernelBasis, preset: Preset) -> KernelLabels:
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
            found = KernelLabels(basis, solve(KernelSums(sums.n, gram, sums.targets)))
        model = found
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
