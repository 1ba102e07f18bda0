"""A digits run whose clusters were changed: labelled anew, with the tree of what became what."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.engine.rows import Rows
from kmdist.job.endings import temporary_output
from kmdist.job.job import Job, JobOptions
from kmdist.job.progress import Message, Watcher
from kmdist.recipes.digits.found_again import fitted_input
from kmdist.recipes.digits.labellers import Model, Ranked
from kmdist.recipes.digits.labels import report_all
from kmdist.recipes.digits.left_out import without_unlabelled
from kmdist.recipes.digits.memory import keep_rows
from kmdist.recipes.digits.model import DigitModel
from kmdist.recipes.digits.opening import Opened, open_digit_job
from kmdist.recipes.digits.report import Target, rank_clusters
from kmdist.recipes.digits.results import (
    create_labels,
    publish_digits,
    record_of,
    scores_by,
    write_model,
    write_names,
    write_results,
)
from kmdist.recipes.digits.rows import make_rows
from kmdist.store import Run, open_run, run_location


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


def change_run(
    run: Run,
    model: DigitModel,
    output: str | Path | None,
    asked: dict[str, Any],
    images: Any,
    options: JobOptions | None,
    watch: Watcher,
    command: Sequence[str],
    change: Callable[[Job, Rows], Changed],
) -> Run:
    """Label the images of a digits run anew by a changed model, and write them as a new run.

    One pass over the images to make rows, one over the rows to number clusters by size, one over
    both to label and measure; `change` adds its own.

    Parameters
    ----------
    run, model : what is changed.
    asked : how; recorded among the parameters.
    images : where the images of `run` are now; None: where they were.
    change : called with the job and the rows of all images.

    Raises
    ------
    UsageError : the images are not those of the run.
    """
    options = options or JobOptions()
    opened = without_unlabelled(run, fitted_input(run, options.block_mpx, images))
    target = run_location(output) if output is not None else temporary_output()
    with _job_of(run, opened, target, asked, options, watch, command) as job:
        if job.writer.already_complete:
            watch(Message(f"{target} is complete already"))
        else:
            preset = model.describer.preset
            keep = keep_rows(job, opened.items, preset, (model.labelling.k,))
            opened, rows = make_rows(job, opened, model.describer, keep=keep)
            _write(job, run, model, opened, rows, change(job, rows))
    return open_run(target)


@contextmanager
def _job_of(
    run: Run,
    opened: Opened,
    output: str | Path,
    asked: dict[str, Any],
    options: JobOptions,
    watch: Watcher,
    command: Sequence[str],
) -> Iterator[Job]:
    centroids = hashlib.sha256(np.asarray(run.centroids).tobytes()).hexdigest()
    kept = ("images", "cell", "labels", "polarity", "dark_ink")
    parameters = {
        **{key: run.parameters.get(key) for key in kept},
        **asked,
        "model": {"path": str(run.path), "centroids_sha256": centroids},
        "seed": options.seed,
        "block_mpx": options.block_mpx,
    }
    with open_digit_job(
        "digits", opened, output, parameters, options, watch=watch, command=command
    ) as job:
        yield job


def _write(
    job: Job, run: Run, model: DigitModel, opened: Opened, rows: Rows, changed: Changed
) -> None:
    describer = model.describer
    with job.timed("rank"):
        ((labelling, centroids),) = rank_clusters(rows, [changed.model], describer.scale)
    goal = Target(labelling, centroids, create_labels(job, opened, labelling.k, ""))
    opened, (report,) = report_all(job, rows.sources, opened, [goal], describer)
    new = DigitModel(describer, labelling, model.size, model.dark_ink)
    write_results(job, "", goal, report)
    write_model(job, "", new)
    write_names(job, "", opened)
    ranks = _ranks(changed, labelling)
    origins: list[list[int]] = [[] for _ in ranks]
    for number, rank in enumerate(ranks):
        origins[rank] = changed.origins[number]
    before = run.attributes.get("tree") or first_tree(np.asarray(run.counts))
    record = {
        **record_of(report, n_iter=0, stop_reason=changed.how),
        **scores_by(report.table),
        "tree": next_tree(before, origins, changed.how, report.counts),
    }
    publish_digits(job, opened, str(run.attributes["preset"]), new, {labelling.k: record})


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
