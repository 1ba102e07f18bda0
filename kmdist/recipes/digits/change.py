"""A digits run whose clusters were changed: labelled anew, with the tree of what became what."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.engine.passes import Pool
from kmdist.engine.rows import Rows
from kmdist.job.job import Job
from kmdist.job.labelling import model_record
from kmdist.job.memory import Slots
from kmdist.job.options import JobOptions
from kmdist.job.progress import Watcher
from kmdist.job.recipe import Outline, Results
from kmdist.recipes.digits.found_again import fitted_input
from kmdist.recipes.digits.labellers import Model, Ranked
from kmdist.recipes.digits.left_out import without_unlabelled
from kmdist.recipes.digits.memory import keep_rows
from kmdist.recipes.digits.model import DigitModel
from kmdist.recipes.digits.opening import Opened
from kmdist.recipes.digits.report import rank_clusters
from kmdist.recipes.digits.results import Clustering, label_and_write
from kmdist.recipes.digits.rows import make_rows
from kmdist.store import Run

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
        found = fitted_input(self.changed, options.block_mpx, self.images)
        return without_unlabelled(self.changed, found)

    def parameters(self, workload: Opened, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        model = model_record(self.changed)
        del model["fingerprint"]
        return {
            **{key: self.changed.parameters.get(key) for key in KEPT},
            **self.asked,
            "model": model,
            "seed": options.seed,
            "block_mpx": options.block_mpx,
        }

    def outline(self, workload: Opened, slots: Slots, options: JobOptions) -> Outline:
        """Nothing: there is no dry run."""
        return Outline()

    def run(self, job: Job, workload: Opened) -> Results:
        """Make rows, change the model, number its clusters, label."""
        model, run = self.model, self.changed
        keep = keep_rows(job, workload.items, model.describer.preset, (model.labelling.k,))
        opened, rows = make_rows(job, workload, model.describer, keep=keep)
        changed = self.change(job, rows)
        with job.timed("rank"):
            ranked = rank_clusters(rows, [changed.model], model.describer.scale)
        ((labelling, centroids),) = ranked
        new = DigitModel(model.describer, labelling, model.size, model.dark_ink)
        clustering = Clustering(new, centroids, changed.how)
        results, (report,) = label_and_write(
            job, opened, rows.sources, str(run.attributes["preset"]), [clustering]
        )
        ranks = _ranks(changed, labelling)
        origins: list[list[int]] = [[] for _ in ranks]
        for number, rank in enumerate(ranks):
            origins[rank] = changed.origins[number]
        before = run.attributes.get("tree") or first_tree(np.asarray(run.counts))
        tree = next_tree(before, origins, changed.how, report.counts)
        by_k = {labelling.k: {**results.by_k[labelling.k], "tree": tree}}
        return Results(by_k, results.common)


def _ranks(changed: Changed, labelling: Ranked) -> list[int]:
    """The number that each cluster of the changed model has in the new run."""
    inner = changed.model
    if isinstance(inner, Ranked):  # its numbers and the new ones became one step
        ranks = np.empty(inner.k, np.int64)
        ranks[inner.rank] = labelling.rank
        return [int(rank) for rank in ranks]
    return [int(rank) for rank in labelling.rank]


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
