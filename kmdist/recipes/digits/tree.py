"""Divide one cluster of a digits run further, or join several: a new run, the tree kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.engine.blas import one_blas_thread
from kmdist.engine.rows import Block, Loader, Rows
from kmdist.errors import KmdistError, UsageError
from kmdist.estimators.merging import merge_clusters
from kmdist.job.job import Job
from kmdist.job.options import JobOptions
from kmdist.job.progress import Watcher, watch_nothing
from kmdist.job.running import run_job
from kmdist.recipes.digits.centroids import FitOptions
from kmdist.recipes.digits.change import Changed, DigitChange
from kmdist.recipes.digits.fitting import fit_models
from kmdist.recipes.digits.labellers import CentroidLabels, Model, Ranked, SplitLabels
from kmdist.recipes.digits.landmarks import (
    Landmarks,
    affinity,
    attach,
    group_landmarks,
    merge_affinities,
    weight_scale,
)
from kmdist.recipes.digits.model import PRESETS, DigitModel
from kmdist.store import Run, open_run
from kmdist.store.reader import single_k

LANDMARK_MEMBERS = 2000
"""A cluster of fewer images is divided by plain k-means of its rows, whatever the preset."""
NEIGHBOURS = 4
METHODS = ("ward", "spectral")


def split_cluster(
    run: Run | str | Path,
    output: str | Path | None = None,
    *,
    cluster: int,
    k: int = 2,
    images: Any = None,
    options: JobOptions | None = None,
    watch: Watcher = watch_nothing,
    command: Sequence[str] = (),
) -> Run:
    """Divide one cluster of a digits run into k, by the preset of the run.

    Parameters
    ----------
    run : of digits, with one k; one that was split or merged before, too.
    output : the run to write; None: a temporary one, removed when this process ends.
    cluster : its number. k : parts.
    images : where the images of `run` are now; None: where they were.
    options : how to run.

    Returns
    -------
    Run : of all images, with k − 1 clusters more, ordered by size; ``attributes["tree"]`` says
        where each comes from, see `next_tree`.

    Raises
    ------
    UsageError : no such cluster, or the images are not those of the run.
    KmdistError : the cluster has fewer different images than k.
    """
    run = single_k(run if isinstance(run, Run) else open_run(run), "split")
    model = DigitModel.of_run(run)
    members = int(np.asarray(run.counts)[cluster]) if 0 <= cluster < model.labelling.k else -1
    if members < 0:
        raise UsageError(
            f"--cluster {cluster}: {run.path} has clusters 0 to {model.labelling.k - 1}"
        )
    if not 2 <= k <= members:
        raise UsageError(
            f"-k {k}: cluster {cluster} has {members:,} images, which make 2 to {members:,} parts"
        )

    def change(job: Job, rows: Rows) -> Changed:
        parts = _fit_parts(job, _rows_of_cluster(rows, model.labelling, cluster), run, k)
        whole = model.labelling
        origins = [[c] for c in range(whole.k)] + [[cluster]] * (k - 1)
        return Changed(SplitLabels(whole, cluster, parts), origins, "split")

    asked = {"split": {"cluster": cluster, "k": k}}
    procedure = DigitChange(run, model, asked, images, change)
    return run_job(procedure, output, options or JobOptions(), watch=watch, command=command)


def merge_digits(
    run: Run | str | Path,
    output: str | Path | None = None,
    *,
    clusters: Sequence[Sequence[int]] = (),
    to: int | None = None,
    method: str = "ward",
    images: Any = None,
    options: JobOptions | None = None,
    watch: Watcher = watch_nothing,
    command: Sequence[str] = (),
) -> Run:
    """Join clusters of a digits run: those named, or as many as it takes to leave `to`.

    Parameters
    ----------
    clusters : groups of cluster numbers, each of which becomes one cluster.
    to : number of clusters to leave, instead.
    method : of `to`: ``ward``: those whose union adds least inertia first; ``spectral``: those
        that many images lie between.
    run, output, images, options : as for `split_cluster`.

    Returns
    -------
    Run : of all images; ``attributes["tree"]`` says where each cluster comes from.

    Raises
    ------
    UsageError : no such clusters, or the images are not those of the run.
    """
    run = single_k(run if isinstance(run, Run) else open_run(run), "merge")
    model = DigitModel.of_run(run)
    k = model.labelling.k
    if bool(clusters) == (to is not None):
        raise UsageError("merge takes either --clusters 2,5 or --to 10")
    if to is not None and not 1 <= to < k:
        raise UsageError(f"--to {to}: {run.path} has {k} clusters; 1 to {k - 1} can be left")
    if method not in METHODS:
        raise UsageError(f"--method {method!r}: must be one of {', '.join(METHODS)}")
    groups = None if to is not None else _groups_named(clusters, k, run)

    def change(job: Job, rows: Rows) -> Changed:
        new = groups if groups is not None else _groups_of(job, rows, run, model, to or 1, method)
        joined = Ranked(model.labelling.model, new[model.labelling.rank])
        origins = [np.flatnonzero(new == i).tolist() for i in range(int(new.max()) + 1)]
        return Changed(joined, origins, "merge")

    named = None if groups is None else [sorted(map(int, group)) for group in clusters]
    asked = {"merge": {"clusters": named, "to": to, "method": method if to else None}}
    procedure = DigitChange(run, model, asked, images, change)
    return run_job(procedure, output, options or JobOptions(), watch=watch, command=command)


def _groups_named(clusters: Sequence[Sequence[int]], k: int, run: Run) -> np.ndarray:
    """(k,) the new number of each cluster, those named joined."""
    flat = [cluster for group in clusters for cluster in group]
    wrong = [c for c in flat if not 0 <= c < k]
    if wrong:
        raise UsageError(f"--clusters: {run.path} has clusters 0 to {k - 1}, not {wrong[0]}")
    if len(set(flat)) < len(flat) or any(len(group) < 2 for group in clusters):
        raise UsageError("--clusters: name two or more different clusters, each once: 2,5")
    first = np.arange(k)
    for group in clusters:
        first[list(group)] = min(group)
    return np.unique(first, return_inverse=True)[1]


def _groups_of(
    job: Job, rows: Rows, run: Run, model: DigitModel, to: int, method: str
) -> np.ndarray:
    """(k,) the new number of each cluster, the most alike joined until `to` are left."""
    centroids = np.asarray(run.centroids)
    if method == "ward":
        return merge_clusters(centroids, np.asarray(run.counts), to).labels
    tied = centroids * np.float32(model.describer.scale)
    scale = weight_scale(float(run.inertia or 0.0) * model.describer.scale**2, rows.n_rows)
    landmarks = Landmarks((tied,), (scale,), min(NEIGHBOURS, len(tied)))
    with job.timed("affinity"):
        total = rows.run(_affinity, job.pool.broadcast(landmarks), merge=merge_affinities)
    with one_blas_thread():
        try:
            return group_landmarks(landmarks, total, to)
        except ValueError as error:
            raise KmdistError(f"--to {to}: {error}; use more") from error


def _affinity(source: Any, landmarks: Landmarks) -> Any:
    rows = np.ascontiguousarray(source.open().rows, np.float32)
    with one_blas_thread():
        return affinity(attach(rows, landmarks), landmarks.n)


def _part_of(item: tuple[Any, Model, int]) -> np.ndarray:
    source, model, cluster = item
    rows: np.ndarray = source.open().rows
    with one_blas_thread():
        return np.ascontiguousarray(rows[model.label(rows) == cluster])


def _kept_part(source: Any, model: Model, cluster: int) -> Block:
    return Block(_part_of((source, model, cluster)))


def _rows_of_cluster(rows: Rows, model: Model, cluster: int) -> Rows:
    """The rows of one cluster; a copy, kept where the rows are."""
    pool = rows.pool
    if rows.kept:
        future = pool.broadcast(model)
        sources = [pool.submit(_kept_part, source, future, cluster) for source in rows.sources]
        return Rows(pool, sources, rows.dtype, kept=True)
    loaders = [Loader(_part_of, (source, model, cluster)) for source in rows.sources]
    return Rows(pool, loaders, rows.dtype, kept=False)


def _fit_parts(job: Job, rows: Rows, run: Run, k: int) -> Model:
    preset = PRESETS[str(run.attributes["preset"])]
    if preset.sets and rows.n_rows < LANDMARK_MEMBERS:
        preset = PRESETS["gradient"]
    (fit,) = fit_models(job, rows, (k,), preset, FitOptions(seed=job.options.seed))
    found = fit.model
    if isinstance(found, CentroidLabels) and len(np.unique(found.centroids, axis=0)) < k:
        raise KmdistError(f"-k {k}: the cluster has not so many different images")
    return found
