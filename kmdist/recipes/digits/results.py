"""What a digits run holds of each k: arrays, scores, the model, and its record.

The last pass finds labels, and measures what is recorded of the clusters. A block that kills its
workers there, after it was fitted, gets no labels: its images are counted in the clusters'
centroids and in nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kmdist.engine.kernels.distances import squared_distances
from kmdist.engine.passes import LostBlockError, one_blas_thread
from kmdist.engine.rows import Rows, row_uniforms
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass, Stage
from kmdist.job.job import Job
from kmdist.job.recipe import Results
from kmdist.recipes.digits.fitting import sums_by_cluster
from kmdist.recipes.digits.labellers import Ranked, arrays_of
from kmdist.recipes.digits.model import Describer, DigitModel
from kmdist.recipes.digits.opening import Opened, leave_out
from kmdist.recipes.digits.scores import (
    accuracy,
    confusion_matrix,
    hungarian_map,
    majority_map,
    score_table,
)
from kmdist.recipes.digits.stacks.stack import ClassedRange
from kmdist.store import RunWriter, label_dtype, unclustered_value

MEMBERS = 20
_MEMBER_STREAM = 1 << 23
_TEST = "--test: "
"""Before the names of test images, which may be those of fitted ones."""


class Members(NamedTuple):
    """The members of each cluster that come first by some value.

    Parameters
    ----------
    values : (k, m) float64, ascending; infinity where there are fewer.
    numbers : (k, m) int64, images; −1 where there are fewer.
    """

    values: np.ndarray
    numbers: np.ndarray


class Report(NamedTuple):
    """What the last pass measures of one model.

    Parameters
    ----------
    counts : (k,) int64. inertia : Σ‖x − c‖², float64. table : (k, classes) int64.
    pictures : (k, h, w) float64, sums of the members as their rows are made from.
    nearest, drawn : members nearest to the centroid, and drawn at random.
    """

    counts: np.ndarray
    inertia: float
    table: np.ndarray
    pictures: np.ndarray
    nearest: Members
    drawn: Members


@dataclass(frozen=True)
class Target:
    """Where the labels of one model go, and what they are compared with.

    Parameters
    ----------
    centroids : (k, d) float32 as the run stores them (pixels as intensities 0 … 1), in the order
        of the labels.
    spec : array of labels.
    """

    model: Ranked
    centroids: np.ndarray
    spec: Any

    @property
    def mark(self) -> int:
        """The largest value of the labels' type: no cluster, but where all are taken."""
        return int(np.iinfo(self.spec.dtype).max)


@dataclass(frozen=True)
class Clustering:
    """One k of a digits run: what labels the images, and how it came about.

    Parameters
    ----------
    centroids : (k, d) float32 as the run stores them, pixels as intensities 0 … 1.
    stop_reason, n_iter, history : of the fit, if there was one.
    maps : of clusters to classes, learnt on other images; None: the best ones for these.
    prefix : of the group that holds it: empty for a single k, ``kN/`` for several.
    """

    model: DigitModel
    centroids: np.ndarray
    stop_reason: str
    n_iter: int = 0
    history: np.ndarray | None = None
    maps: Mapping[str, Any] | None = None
    prefix: str = ""

    @property
    def k(self) -> int:
        """Number of clusters."""
        return self.model.labelling.k

    def target(self, job: Job, opened: Opened) -> Target:
        """Where its labels go: one array for all images. A block is a chunk, so that no two tasks
        write one."""
        labels = job.writer.create_array(
            f"{self.prefix}labels",
            (opened.stack.n,),
            label_dtype(self.k, bool(opened.lost)),
            chunks=(opened.block_images,),
            dimension_names=("image",),
        )
        return Target(self.model.labelling, self.centroids, labels)

    def write(self, job: Job, report: Report) -> None:
        """Centroids, counts, mean images, members, classes where they are known, and the model."""
        write = job.writer.write_array
        write(f"{self.prefix}centroids", self.centroids, ("cluster", "feature"))
        write(f"{self.prefix}counts", report.counts.astype(np.int64), ("cluster",))
        means = report.pictures / np.maximum(report.counts, 1)[:, None, None]
        write(f"{self.prefix}means", means.astype(np.float32), ("cluster", "row", "column"))
        job.writer.write_group(f"{self.prefix}members")
        write(f"{self.prefix}members/nearest", report.nearest.numbers, ("cluster", "member"))
        write(f"{self.prefix}members/drawn", report.drawn.numbers, ("cluster", "member"))
        if report.table.size:
            write(f"{self.prefix}confusion", report.table, ("cluster", "class"))
        if self.history is not None and len(self.history):
            write(f"{self.prefix}history", self.history, ("iteration", "quantity"))
        self._write_model(job)

    def _write_model(self, job: Job) -> None:
        """What labels new images: the components of their features, and the labelling."""
        write, projection = job.writer.write_array, self.model.describer.projection
        if projection is not None:
            job.writer.write_group(f"{self.prefix}model")
            write(f"{self.prefix}model/mean", projection.mean, ("feature",))
            write(f"{self.prefix}model/matrix", projection.matrix, ("feature", "component"))
        self._write_labelling(job, f"{self.prefix}labelling", arrays_of(self.model.labelling))

    def _write_labelling(self, job: Job, group: str, arrays: Mapping[str, Any]) -> None:
        job.writer.write_group(group)
        for name, values in arrays.items():
            if isinstance(values, dict):  # of a part of a split
                self._write_labelling(job, f"{group}/{name}", values)
            else:
                axes = tuple(f"axis{i}" for i in range(values.ndim))
                job.writer.write_array(f"{group}/{name}", values, axes)

    def record(self, report: Report) -> dict[str, Any]:
        """Figures and scores."""
        return {
            "k": len(report.counts),
            "inertia": report.inertia,
            "n_iter": self.n_iter,
            "stop_reason": self.stop_reason,
            **scores_by(report.table, self.maps),
        }


def label_and_write(
    job: Job, opened: Opened, rows: Rows | None, preset: str, clusterings: list[Clustering]
) -> tuple[Results, list[Report]]:
    """Label all images, and write what the run holds of each k; the last pass.

    Parameters
    ----------
    rows : of the images, where there are any.
    preset : its name.

    Returns
    -------
    results : of the run. reports : what was measured, one a clustering.
    """
    model = clusterings[0].model
    targets = [one.target(job, opened) for one in clusterings]
    opened, reports = report_all(job, rows, opened, targets, model.describer)
    tables = label_tests(
        job, opened.tested, model.describer, [one.model.labelling for one in clusterings]
    )
    by_k = {}
    for one, report, table in zip(clusterings, reports, tables, strict=True):
        one.write(job, report)
        write_names(job, one.prefix, opened)
        record = one.record(report)
        if table is not None:
            job.writer.write_array(f"{one.prefix}confusion_test", table, ("cluster", "class"))
            record["scores_test"] = scores_by(table, record["maps"])["scores"]
        record["unclustered"] = unclustered_value(one.k, bool(opened.lost))
        by_k[one.k] = record
    return Results(by_k, _common(opened, preset, model)), reports


def _common(opened: Opened, preset: str, model: DigitModel) -> dict[str, Any]:
    """What the run's record says of the images and of all k."""
    return {
        "preset": preset,
        "n_images": opened.n_usable,
        "images_sha256": opened.stack.images_sha256(),
        "image_size": list(model.size),
        "image_dtype": model.describer.dtype,
        "dark_ink": model.dark_ink,
        "class_names": list(opened.stack.class_names),
    }


def write_names(job: Job, prefix: str, opened: Opened) -> None:
    """Names and paths of the images, in the order of the labels, where each is a file.

    UTF-8, a line each; no paths where one has a line break.
    """
    lines = {"names": opened.stack.names, "paths": opened.stack.paths}
    for name, values in lines.items():
        if values and (name == "names" or not any("\n" in one for one in values)):
            text = "".join(f"{one}\n" for one in values)
            array = np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
            job.writer.write_array(f"{prefix}{name}", array, ("byte",))


def scores_by(table: np.ndarray, learnt: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Scores of clusters × classes, with maps learnt on it, or on other images.

    Parameters
    ----------
    learnt : maps of clusters to classes; None: the best ones for this table.
    """
    if not table.size:
        return {} if learnt is None else {"maps": dict(learnt)}
    if learnt is None:
        shares = table.max(axis=1) / np.maximum(table.sum(axis=1), 1)
        learnt = {
            "majority": majority_map(table).tolist(),
            "hungarian": hungarian_map(table).tolist(),
            "majority_share": [round(float(share), 6) for share in shares],
        }
    scores = vars(score_table(table)) | {
        f"accuracy_{rule}": accuracy(table, np.asarray(learnt[rule]))
        for rule in ("hungarian", "majority")
    }
    rounded = {name: round(float(value), 6) for name, value in scores.items()}
    return {"scores": rounded, "maps": dict(learnt)}


def label_tests(
    job: Job, tested: Opened | None, describer: Describer, models: list[Ranked]
) -> list[np.ndarray | None]:
    """Clusters × classes of the test images."""
    if tested is None:
        return [None] * len(models)
    stack, ks = tested.stack, [model.k for model in models]
    n_classes = len(stack.class_names)
    blocks = [ClassedRange.of(part, stack, _TEST) for part in tested.blocks]
    stage = Stage(
        "test",
        score_block,
        Tested.merge,
        nothing=partial(Tested.nothing, ks, n_classes),
        noted=Tested,
    )
    job.reject([_named(one) for one in tested.rejected])
    found: Tested = BlockPass(job, stage).run(
        blocks, job.pool.broadcast(describer), job.pool.broadcast(models), n_classes
    )
    return [*found.tables]


def _named(rejection: Rejection) -> Rejection:
    return replace(rejection, image=f"{_TEST}{rejection.image}")


@dataclass(frozen=True)
class Tested:
    """Clusters × classes of test images, for each model, and images that cannot be used."""

    tables: list[np.ndarray]
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def nothing(ks: Sequence[int], n_classes: int, rejected: tuple[Rejection, ...]) -> "Tested":
        """Of a block without images."""
        return Tested([np.zeros((k, n_classes), np.int64) for k in ks], rejected)

    @staticmethod
    def merge(parts: Sequence["Tested"]) -> "Tested":
        """Those of several blocks."""
        tables = [np.sum(same, axis=0) for same in zip(*(p.tables for p in parts), strict=True)]
        return Tested(tables, tuple(one for part in parts for one in part.rejected))


def score_block(
    item: list[Any], describer: Describer, models: list[Ranked], n_classes: int
) -> Tested:
    """Label the test images of a block; a task."""
    _, part = item
    images, kept, rejected = part.usable()
    named = tuple(_named(one) for one in rejected)
    if not len(images):
        return Tested.nothing([model.k for model in models], n_classes, named)
    with one_blas_thread():
        rows = describer.rows(images)
        tables = [
            confusion_matrix(model.label(rows), part.classes[kept], model.k, n_classes)
            for model in models
        ]
    return Tested(tables, named)


def _first_members(values: np.ndarray, labels: np.ndarray, first: int, k: int) -> Members:
    best = np.full((k, MEMBERS), np.inf)
    numbers = np.full((k, MEMBERS), -1, np.int64)
    order = np.lexsort((np.arange(len(values)), values))
    for cluster in range(k):
        chosen = order[labels[order] == cluster][:MEMBERS]
        best[cluster, : len(chosen)] = values[chosen]
        numbers[cluster, : len(chosen)] = chosen + first
    return Members(best, numbers)


def _merge_members(parts: Sequence[Members]) -> Members:
    values = np.concatenate([part.values for part in parts], axis=1)
    numbers = np.concatenate([part.numbers for part in parts], axis=1)
    order = np.stack([np.lexsort((n, v))[:MEMBERS] for v, n in zip(values, numbers, strict=True)])
    return Members(np.take_along_axis(values, order, 1), np.take_along_axis(numbers, order, 1))


@dataclass(frozen=True)
class Reported:
    """Reports of some blocks, one a target, and images that could not be labelled."""

    reports: list[Report]
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def nothing(
        targets: Sequence[Target],
        n_classes: int,
        side: tuple[int, int],
        rejected: tuple[Rejection, ...],
    ) -> "Reported":
        """Of a block without images, whose label is what no cluster has.

        Parameters
        ----------
        side : height and width of `Report.pictures`.

        Raises
        ------
        LostBlockError : the type of the labels has no such value.
        """
        reports = []
        for target in targets:
            k = target.model.k
            if target.mark < k:
                raise LostBlockError(f"{rejected[0].image}: {rejected[0].reason}")
            none = Members(np.full((k, MEMBERS), np.inf), np.full((k, MEMBERS), -1, np.int64))
            table, pictures = np.zeros((k, n_classes), np.int64), np.zeros((k, *side))
            reports.append(Report(np.zeros(k, np.int64), 0.0, table, pictures, none, none))
        return Reported(reports, rejected)

    @staticmethod
    def merge(parts: list["Reported"]) -> "Reported":
        """Those of several blocks."""
        merged = []
        for same in zip(*(part.reports for part in parts), strict=True):
            added = [sum(report[i] for report in same) for i in range(4)]
            members = [_merge_members([report[i] for report in same]) for i in (4, 5)]
            merged.append(Report(*added, *members))  # type: ignore[arg-type]
        return Reported(merged, tuple(one for part in parts for one in part.rejected))


def report_block(
    item: list[Any],
    targets: Sequence[Target],
    describer: Describer,
    writer: RunWriter,
    seed: int,
    n_classes: int,
) -> Reported:
    """Leaf of the last pass: label, write, compare with classes, find members.

    Parameters
    ----------
    item : a block of the rows where they are kept, else None; and a `ClassedRange`.
    """
    kept, part = item
    chance = row_uniforms(seed, _MEMBER_STREAM, part.first, part.n)
    scale = describer.scale
    images = part.images()
    with one_blas_thread():
        rows = describer.rows(images) if kept is None else kept.open().rows
    prepared = describer.prepared(images).astype(np.float64) / scale
    reports = []
    with one_blas_thread():
        for target in targets:
            k = target.model.k
            labels = target.model.label(rows)
            writer.write_region(target.spec, (part.first,), labels.astype(target.spec.dtype))
            centroids = target.centroids.astype(np.float64) * scale
            distances = squared_distances(rows, centroids, labels) / scale**2
            table = np.zeros((k, n_classes), np.int64)
            if part.classes is not None:
                table = confusion_matrix(labels, part.classes, k, n_classes)
            reports.append(
                Report(
                    np.bincount(labels, minlength=k),
                    float(distances.sum()),
                    table,
                    sums_by_cluster(prepared, labels, k),
                    _first_members(distances, labels, part.first, k),
                    _first_members(chance, labels, part.first, k),
                )
            )
    return Reported(reports)


def report_all(
    job: Job, rows: Rows | None, opened: Opened, targets: Sequence[Target], describer: Describer
) -> tuple[Opened, list[Report]]:
    """The last pass over rows and images.

    Parameters
    ----------
    rows : of the images, where there are any.

    Returns
    -------
    opened : with blocks that killed their workers here among those that are lost.
    reports : one a target.
    """
    n_classes = 0 if opened.stack.classes is None else len(opened.stack.class_names)
    side = describer.side(opened.stack.height, opened.stack.width)
    nothing = partial(Reported.nothing, targets, n_classes, side)
    stage = Stage("label", report_block, Reported.merge, nothing, saved=Reported)
    # Where images were left out, blocks are others than before.
    group = f"-without-{len(job.rejected)}" if job.rejected else ""
    kept: dict[int, Any] = {}
    if rows is not None and rows.kept:  # else a block makes them of its images, once it has these
        kept = {part.index: one for part, one in zip(opened.blocks, rows.sources, strict=True)}
    found: Reported = BlockPass(job, stage, group=group, kept=kept).run(
        [ClassedRange.of(part, opened.stack) for part in opened.blocks],
        job.pool.broadcast(list(targets)),
        job.pool.broadcast(describer),
        job.writer,
        job.options.seed,
        n_classes,
    )
    opened = leave_out(job, opened, found.rejected, fitted=True)
    for target in targets:  # a killed worker may have written others
        for part in opened.lost:
            marked = np.full(part.n, target.mark, target.spec.dtype)
            job.writer.write_region(target.spec, (part.first,), marked)
    return opened, found.reports
