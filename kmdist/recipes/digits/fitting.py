"""Models of a digits run, fitted to its rows: plain k-means, or landmarks grouped to each k.

Plain k-means goes on from its last checkpoint. Landmarks are fitted, their affinities summed in one
pass and grouped, and labels learnt anew from the groups, one pass a round. What a pass has summed
is kept for a resume.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from kmdist.engine.blas import one_blas_thread
from kmdist.engine.lloyd import Options, iterate
from kmdist.engine.rows import Rows
from kmdist.engine.seeding import seed_centroids
from kmdist.engine.state import State
from kmdist.errors import KmdistError
from kmdist.job.job import Job
from kmdist.job.progress import Event
from kmdist.recipes.digits.labellers import CentroidLabels, KernelLabels, Model, VoteLabels
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
from kmdist.recipes.digits.relabelling import (
    KernelBasis,
    KernelSums,
    kernel_basis,
    kernel_sums,
    merge_kernel_sums,
    solve,
)

CHECKPOINT_S = 10.0
"""Seconds of iterations that a killed fit loses at most."""


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
    history = [] if saved is None else [tuple(row) for row in saved["history"].tolist()]
    start = None if saved is None else _state_of(saved)
    if start is None:
        centroids = seed_centroids(rows, k, options.init, options.seed, attempt)
    elif start.stop_reason is None:
        centroids = start.centroids
    else:
        return start, np.array(history)
    state, saved_s = start, time.monotonic()
    lloyd = Options(max_iter=options.max_iter, tol=options.tol)
    for state in iterate(rows, centroids, lloyd, start=start):
        history.append((state.inertia, state.shift, float(state.n_repaired)))
        note = f"k = {k}  inertia {state.inertia:.6g}"
        job.watch(Event("fit", state.iteration, 0, unit="iteration", note=note))
        if state.stop_reason is not None or time.monotonic() - saved_s > CHECKPOINT_S:
            job.writer.save_state(name, _arrays_of(state, history))
            saved_s = time.monotonic()
    if state is None:
        raise ValueError(f"max_iter={options.max_iter} must be at least 1")
    return state, np.array(history)


def _arrays_of(state: State, history: Sequence[tuple[float, ...]]) -> dict[str, np.ndarray]:
    return {
        "centroids": state.centroids,
        "counts": state.counts,
        "numbers": np.array([state.inertia, state.iteration, state.shift, state.n_repaired]),
        "stop_reason": np.array([state.stop_reason or ""]),
        "history": np.array(history),
    }


def _state_of(saved: Mapping[str, np.ndarray]) -> State:
    inertia, iteration, shift, n_repaired = saved["numbers"].tolist()
    reason = str(saved["stop_reason"][0]) or None
    return State(
        saved["centroids"], saved["counts"], inertia, int(iteration), reason, shift, int(n_repaired)
    )


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
