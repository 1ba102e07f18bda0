"""What a digits run holds of each k: arrays, scores, the model, and its record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.job.job import Job
from kmdist.job.recipe import Results
from kmdist.recipes.digits.held_out import label_tests
from kmdist.recipes.digits.labellers import arrays_of
from kmdist.recipes.digits.labels import report_all
from kmdist.recipes.digits.model import DigitModel
from kmdist.recipes.digits.opening import Opened
from kmdist.recipes.digits.report import Report, Target, scores_of, scores_on
from kmdist.recipes.digits.scores import hungarian_map, majority_map
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
