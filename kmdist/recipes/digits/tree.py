"""Divide one cluster of a digits run further, or join several: a new run, the tree kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.engine.fits import FitOptions
from kmdist.engine.passes import Pool, one_blas_thread
from kmdist.engine.rows import Rows
from kmdist.errors import KmdistError, UsageError, quantity
from kmdist.estimators.bisecting import part_of_rows
from kmdist.estimators.merging import merge_clusters
from kmdist.job.job import Job
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions, job_function
from kmdist.job.photographs import model_record
from kmdist.job.progress import Watcher
from kmdist.job.recipe import Results
from kmdist.job.running import run_job
from kmdist.recipes.digits.fitting import affinity_block, fit_models, make_rows, rank_clusters
from kmdist.recipes.digits.labellers import CentroidLabels, Model, Ranked, SplitLabels
from kmdist.recipes.digits.landmarks import (
    Landmarks,
    group_landmarks,
    merge_affinities,
    weight_scale,
)
from kmdist.recipes.digits.model import PRESETS, DigitModel
from kmdist.recipes.digits.opening import Opened, fitted_input, without_unlabelled
from kmdist.recipes.digits.options import MergeOptions, SplitOptions
from kmdist.recipes.digits.results import Clustering, label_and_write
from kmdist.recipes.digits.steps import Sizes, relabel_outline
from kmdist.store import Run
from kmdist.store.reader import single_k

LANDMARK_MEMBERS = 2000
"""A cluster of fewer images is divided by plain k-means of its rows, whatever the preset."""
NEIGHBOURS = 4


@job_function(SplitOptions)
def split(
    run: Run | str | Path,
    output: str | Path | None = None,
    *,
    options: SplitOptions,
    **how: Any,
) -> Run:
    """Divide one cluster of a digits run into k, by the preset of the run.

    Parameters
    ----------
    run : of digits, with one k; one that was split or merged before, too.

    Returns
    -------
    Run : of all images, with k − 1 clusters more, ordered by size; ``attributes["tree"]`` says
        where each comes from, see `next_tree`.

    Raises
    ------
    UsageError : no such cluster, or the images are not those of the run.
    KmdistError : the cluster has fewer different images than k.
    """
    run = single_k(run, "split")
    cluster, k = options.divided, options.k
    model = DigitModel.of_run(run)
    if cluster >= model.labelling.k:
        raise UsageError(
            f"--cluster {cluster}: {run.path} has clusters 0 to {model.labelling.k - 1}"
        )
    members = int(np.asarray(run.counts)[cluster])
    if k > members:
        raise UsageError(
            f"-k {k}: cluster {cluster} has {quantity(members, 'image')}, which make 2 to "
            f"{members:,} parts"
        )

    def change(job: Job, rows: Rows) -> Changed:
        whole = model.labelling
        inside = part_of_rows(rows, _in_cluster, whole, cluster)
        parts = _fit_parts(job, inside, run, k)
        origins = [[c] for c in range(whole.k)] + [[cluster]] * (k - 1)
        return Changed(SplitLabels(whole, cluster, parts), origins, "split")

    asked = {"split": {"cluster": cluster, "k": k}}
    procedure = DigitChange(run, model, asked, options.images, change)
    return run_job(procedure, output, options, **how)


@job_function(MergeOptions)
def merge(
    run: Run | str | Path,
    output: str | Path | None = None,
    *,
    options: MergeOptions,
    **how: Any,
) -> Run:
    """Join clusters of a digits run: those named, or as many as it takes to leave `to`.

    Parameters
    ----------
    run : as for `split`.

    Returns
    -------
    Run : of all images; ``attributes["tree"]`` says where each cluster comes from.

    Raises
    ------
    UsageError : no such clusters, or the images are not those of the run.
    """
    run = single_k(run, "merge")
    model = DigitModel.of_run(run)
    k, clusters, to, method = model.labelling.k, options.clusters, options.to, options.method
    if to is not None and to >= k:
        raise UsageError(
            f"--to {to}: {run.path} has {quantity(k, 'cluster')}; 1 to {k - 1} can be left"
        )
    groups = None if to is not None else _groups_named(clusters, k, run)

    def change(job: Job, rows: Rows) -> Changed:
        new = groups if groups is not None else _groups_of(job, rows, run, model, to or 1, method)
        origins = [np.flatnonzero(new == i).tolist() for i in range(int(new.max()) + 1)]
        return Changed(Ranked(model.labelling, new), origins, "merge")

    named = None if groups is None else [sorted(map(int, group)) for group in clusters]
    asked = {"merge": {"clusters": named, "to": to, "method": method if to else None}}
    procedure = DigitChange(run, model, asked, options.images, change)
    return run_job(procedure, output, options, **how)


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
        total = rows.run(affinity_block, job.pool.broadcast(landmarks), merge=merge_affinities)
    with one_blas_thread():
        try:
            return group_landmarks(landmarks, total, to)
        except ValueError as error:
            raise KmdistError(f"--to {to}: {error}; use more") from error


def _in_cluster(rows: np.ndarray, model: Model, cluster: int) -> np.ndarray:
    with one_blas_thread():
        return np.asarray(model.label(rows) == cluster)


def _fit_parts(job: Job, rows: Rows, run: Run, k: int) -> Model:
    preset = PRESETS[str(run.attributes["preset"])]
    if preset.sets and rows.n_rows < LANDMARK_MEMBERS:
        preset = PRESETS["gradient"]
    (fit,) = fit_models(job, rows, (k,), preset, FitOptions(seed=job.options.seed))
    found = fit.model
    if isinstance(found, CentroidLabels) and len(np.unique(found.centroids, axis=0)) < k:
        raise KmdistError(f"-k {k}: the cluster has not so many different images")
    return found


KEPT = ("images", "cell", "labels", "polarity", "dark_ink")
"""Parameters of the changed run that hold for the new one."""


@dataclass(frozen=True)
class Changed:
    """What becomes of the clusters of a run.

    Parameters
    ----------
    model : its clusters in any order.
    origins : for each of them, the clusters of the run it comes from.
    how : ``split`` or ``merge``.
    """

    model: Model
    origins: list[list[int]]
    how: str


@dataclass(frozen=True)
class DigitChange:
    """Label the images of a digits run anew by a changed model: a `kmdist.job.recipe.Procedure`.

    One pass over the images to make rows, one over the rows to number clusters by size, one over
    both to label and measure; `change` adds its own.

    Parameters
    ----------
    changed : the run. model : of that run.
    asked : how; recorded among the parameters.
    images : where the images of the run are now; None: where they were.
    change : called with the job and the rows of all images.
    """

    changed: Run
    model: DigitModel
    asked: Mapping[str, Any]
    images: Any
    change: Callable[[Job, Rows], Changed]
    recipe: str = "digits"

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Opened:
        """Open the images of the run.

        Raises
        ------
        UsageError : they are others.
        """
        found = fitted_input(self.changed, options, self.images)
        return without_unlabelled(self.changed, found)

    def parameters(self, workload: Opened, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        model = model_record(self.changed)
        del model["fingerprint"]
        return {
            **{key: self.changed.parameters.get(key) for key in KEPT},
            **self.asked,
            "model": model,
            **options.record("seed", "block_mpx"),
        }

    def outline(self, workload: Opened, options: JobOptions, *, keep: bool) -> Outline:
        """Rows, a change, labels."""
        sizes = Sizes(workload, self.model.describer.preset, (self.model.labelling.k,))
        return relabel_outline(sizes, keep=keep)

    def run(self, job: Job, workload: Opened) -> Results:
        """Make rows, change the model, number its clusters, label."""
        model, run = self.model, self.changed
        opened, rows = make_rows(job, workload, model.describer)
        changed = self.change(job, rows)
        with job.timed("rank"):
            ranked = rank_clusters(rows, [changed.model], model.describer.scale)
        ((labelling, centroids),) = ranked
        new = DigitModel(model.describer, labelling, model.size, model.dark_ink)
        clustering = Clustering(new, centroids, changed.how)
        results, (report,) = label_and_write(
            job, opened, rows, str(run.attributes["preset"]), [clustering]
        )
        origins = [changed.origins[number] for number in np.argsort(labelling.rank)]
        before = run.attributes.get("tree") or first_tree(np.asarray(run.counts))
        tree = next_tree(before, origins, changed.how, report.counts)
        by_k = {labelling.k: {**results.by_k[labelling.k], "tree": tree}}
        return Results(by_k, results.common)


def first_tree(counts: np.ndarray) -> list[dict[str, Any]]:
    """The tree of a run that was fitted: a node for each cluster."""
    return [
        {"id": i, "by": "fit", "from": [], "count": int(count), "cluster": i}
        for i, count in enumerate(counts)
    ]


def next_tree(
    before: Sequence[dict[str, Any]], origins: Sequence[Sequence[int]], how: str, counts: np.ndarray
) -> list[dict[str, Any]]:
    """The tree after clusters were split or merged.

    Parameters
    ----------
    before : nodes; ``id``, ``by`` (fit, split, merge), ``from`` (ids of the nodes it is part of,
        or is made of), ``count`` of images, and ``cluster``, its number in the run, or None for
        one that is no longer a cluster.
    origins : for each new cluster, the old clusters it is part of, or is made of.
    how : ``split`` or ``merge``.
    counts : of the new clusters.

    Returns
    -------
    list : the old nodes, renumbered, then a node for each cluster that is new.
    """
    node_of = {node["cluster"]: node["id"] for node in before if node["cluster"] is not None}
    parts = [cluster for group in origins for cluster in group]
    nodes = [{**node, "cluster": None} for node in before]
    for number, group in enumerate(origins):
        if len(group) == 1 and parts.count(group[0]) == 1:
            nodes[node_of[group[0]]]["cluster"] = number
            continue
        origin = [node_of[cluster] for cluster in group]
        count = int(counts[number])
        nodes.append(
            {"id": len(nodes), "by": how, "from": origin, "count": count, "cluster": number}
        )
    return nodes
