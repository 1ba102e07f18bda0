"""What a digits run holds of each k: arrays, scores, the model, and its record.

The last pass finds labels. A block that kills its workers there, after it was fitted, gets no
labels: its images are counted in the clusters' centroids and in nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.engine.passes import LostBlockError, one_blas_thread
from kmdist.engine.rows import Loader
from kmdist.errors import quantity
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass, Stage
from kmdist.job.job import Job, NoUsableImageError
from kmdist.job.progress import Message
from kmdist.job.recipe import Results
from kmdist.recipes.digits.blocks import Range, Scored, classes_of
from kmdist.recipes.digits.labellers import Ranked, arrays_of
from kmdist.recipes.digits.model import Describer, DigitModel
from kmdist.recipes.digits.opening import Opened, without_blocks
from kmdist.recipes.digits.report import (
    Report,
    Target,
    merge_reports,
    no_reports,
    report_block,
    scores_of,
    scores_on,
)
from kmdist.recipes.digits.rows import load_rows
from kmdist.recipes.digits.scores import confusion_matrix, hungarian_map, majority_map
from kmdist.store import label_dtype, unclustered_value


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
        job.writer.write_group(f"{self.prefix}labelling")
        arrays = arrays_of(self.model.labelling)
        for group in sorted({str(Path(key).parent) for key in arrays if "/" in key}):
            job.writer.write_group(f"{self.prefix}labelling/{group}")
        for key, values in arrays.items():
            axes = tuple(f"axis{i}" for i in range(values.ndim))
            write(f"{self.prefix}labelling/{key}", values, axes)

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
    job: Job, opened: Opened, sources: Sequence[Any], preset: str, clusterings: list[Clustering]
) -> tuple[Results, list[Report]]:
    """Label all images, and write what the run holds of each k; the last pass.

    Parameters
    ----------
    sources : of the rows, one a block; see `kmdist.engine.rows.Rows`.
    preset : its name.

    Returns
    -------
    results : of the run. reports : what was measured, one a clustering.
    """
    model = clusterings[0].model
    targets = [one.target(job, opened) for one in clusterings]
    opened, reports = report_all(job, sources, opened, targets, model.describer)
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
    if learnt is not None:
        return {"scores": scores_on(table, learnt), "maps": dict(learnt)}
    maps: dict[str, Any] = {
        "majority": majority_map(table).tolist(),
        "hungarian": hungarian_map(table).tolist(),
    }
    shares = table.max(axis=1) / np.maximum(table.sum(axis=1), 1)
    maps["majority_share"] = [round(float(share), 6) for share in shares]
    return {"scores": scores_of(table), "maps": maps}


def label_tests(
    job: Job, tested: Opened | None, describer: Describer, models: list[Ranked]
) -> list[np.ndarray | None]:
    """Clusters × classes of the test images."""
    if tested is None:
        return [None] * len(models)
    stack, ks = tested.stack, [model.k for model in models]
    n_classes = len(stack.class_names)
    blocks = [Scored(part, classes_of(stack, part), prefix=_TEST) for part in tested.items]
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


_TEST = "--test: "
"""Before the names of test images, which may be those of fitted ones."""


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
    _, part, classes = item
    images, kept, rejected = part.usable()
    named = tuple(_named(one) for one in rejected)
    if not len(images):
        return Tested.nothing([model.k for model in models], n_classes, named)
    with one_blas_thread():
        rows = describer.rows(images)
        tables = [
            confusion_matrix(model.label(rows), classes[kept], model.k, n_classes)
            for model in models
        ]
    return Tested(tables, named)


@dataclass(frozen=True)
class Reported:
    """Reports of some blocks, one a target, and images that could not be labelled."""

    reports: list[Report]
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def merge(parts: list["Reported"]) -> "Reported":
        """Those of several blocks."""
        return Reported(
            merge_reports([part.reports for part in parts]),
            tuple(one for part in parts for one in part.rejected),
        )


def label_block(*arguments: Any) -> Reported:
    """Leaf of the last pass; see `report_block`."""
    return Reported(report_block(*arguments))


def report_all(
    job: Job,
    sources: Sequence[Any],
    opened: Opened,
    targets: Sequence[Target],
    describer: Describer,
) -> tuple[Opened, list[Report]]:
    """The last pass over rows and images.

    Parameters
    ----------
    sources : of the rows, one an item; see `kmdist.engine.rows.Rows`.

    Returns
    -------
    opened : with blocks that killed their workers here among those that are lost.
    reports : one a target.
    """
    n_classes = 0 if opened.stack.classes is None else len(opened.stack.class_names)
    side = describer.side(opened.stack.height, opened.stack.width)

    def nothing(rejected: tuple[Rejection, ...]) -> Reported:
        if not all(has_room(target) for target in targets):
            raise LostBlockError(f"{rejected[0].image}: {rejected[0].reason}")
        return Reported(no_reports(targets, n_classes, side), rejected)

    stage = Stage("label", label_block, Reported.merge, nothing, saved=Reported)
    # Where images were left out, blocks are others than before.
    group = f"-without-{len(job.rejected)}" if job.rejected else ""
    kept = {
        part.index: source
        for part, source in zip(opened.items, sources, strict=True)
        if not isinstance(source, Loader)
    }
    blocks = [
        Scored(part, classes_of(opened.stack, part), Loader(load_rows, (part, describer)))
        for part in opened.items
    ]
    found: Reported = BlockPass(job, stage, group=group, kept=kept).run(
        blocks,
        job.pool.broadcast(list(targets)),
        job.pool.broadcast(describer),
        job.writer,
        job.options.seed,
        n_classes,
    )
    opened = _without_labels(job, opened, found.rejected)
    _mark(job, opened.lost, targets)
    return opened, found.reports


def has_room(target: Target) -> bool:
    """Whether the type of the labels has a value that is no cluster."""
    return target.spec is None or np.iinfo(target.spec.dtype).max >= target.model.k


def _without_labels(job: Job, opened: Opened, rejected: Sequence[Rejection]) -> Opened:
    if not rejected:
        return opened
    before = opened.n_usable
    opened = without_blocks(opened, {one.image for one in rejected})
    n_lost = before - opened.n_usable
    job.watch(
        Message(f"fitted, and cannot be read any more: {quantity(n_lost, 'image')}", warning=True)
    )
    if not opened.items:
        raise NoUsableImageError(
            f"{opened.stack.name}: no image can be labelled: {rejected[0].reason}",
            job.rejected.values(),
        )
    return opened


def _mark(job: Job, lost: Sequence[Range], targets: Sequence[Target]) -> None:
    """Write the label of images that have none; a killed worker may have written others."""
    for target in targets:
        if target.spec is None:
            continue
        dtype = np.dtype(target.spec.dtype)
        for part in lost:
            marked = np.full(part.n, np.iinfo(dtype).max, dtype)
            job.writer.write_region(target.spec, (part.first,), marked)
