"""What a digits run holds of each k: arrays, scores, the model, and its record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.job.job import Job
from kmdist.recipes.digits.labellers import arrays_of
from kmdist.recipes.digits.model import DigitModel
from kmdist.recipes.digits.opening import Opened
from kmdist.recipes.digits.report import Report, Target, scores_of, scores_on
from kmdist.recipes.digits.scores import hungarian_map, majority_map
from kmdist.store import label_dtype, unclustered_value


def create_labels(job: Job, opened: Opened, k: int, prefix: str) -> Any:
    """One array for all images; a block is a chunk, so that no two tasks write one."""
    return job.writer.create_array(
        f"{prefix}labels",
        (opened.stack.n,),
        label_dtype(k, bool(opened.lost)),
        chunks=(opened.block_images,),
        dimension_names=("image",),
    )


def write_results(job: Job, prefix: str, target: Target, report: Report) -> None:
    """Centroids, counts, mean images, members, and the table of classes where they are known."""
    write = job.writer.write_array
    write(f"{prefix}centroids", target.centroids, ("cluster", "feature"))
    write(f"{prefix}counts", report.counts.astype(np.int64), ("cluster",))
    means = report.pictures / np.maximum(report.counts, 1)[:, None, None]
    write(f"{prefix}means", means.astype(np.float32), ("cluster", "row", "column"))
    job.writer.write_group(f"{prefix}members")
    write(f"{prefix}members/nearest", report.nearest.numbers, ("cluster", "member"))
    write(f"{prefix}members/drawn", report.drawn.numbers, ("cluster", "member"))
    if report.table.size:
        write(f"{prefix}confusion", report.table, ("cluster", "class"))


def write_model(job: Job, prefix: str, model: DigitModel) -> None:
    """What labels new images: the components of their features, and the labelling."""
    write = job.writer.write_array
    projection = model.describer.projection
    if projection is not None:
        job.writer.write_group(f"{prefix}model")
        write(f"{prefix}model/mean", projection.mean, ("feature",))
        write(f"{prefix}model/matrix", projection.matrix, ("feature", "component"))
    job.writer.write_group(f"{prefix}labelling")
    arrays = arrays_of(model.labelling)
    for group in sorted({str(Path(key).parent) for key in arrays if "/" in key}):
        job.writer.write_group(f"{prefix}labelling/{group}")
    for key, values in arrays.items():
        write(f"{prefix}labelling/{key}", values, tuple(f"axis{i}" for i in range(values.ndim)))


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


def record_of(report: Report, *, n_iter: int, stop_reason: str) -> dict[str, Any]:
    """Figures of one k."""
    return {
        "k": len(report.counts),
        "inertia": report.inertia,
        "n_iter": n_iter,
        "stop_reason": stop_reason,
    }


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
    maps = {
        "majority": majority_map(table).tolist(),
        "hungarian": hungarian_map(table).tolist(),
    }
    return {"scores": scores_of(table), "maps": maps}


def publish_digits(
    job: Job,
    opened: Opened,
    preset: str,
    model: DigitModel,
    results: Mapping[int, Mapping[str, Any]],
) -> None:
    """Complete the run.

    Parameters
    ----------
    model : of any k.
    results : what is recorded of each k.
    """
    width, height = model.size
    common = {
        "seed": job.options.seed,
        "preset": preset,
        "n_images": opened.n_usable,
        "images_sha256": opened.stack.images_sha256(),
        "image_size": [width, height],
        "image_dtype": model.describer.dtype,
        "dark_ink": model.dark_ink,
        "class_names": list(opened.stack.class_names),
        "rejected": [
            {"image": r.image, "code": r.code, "reason": r.reason}
            for r in sorted(job.rejected.values(), key=lambda r: r.image)
        ],
        "timings": {stage: round(seconds, 3) for stage, seconds in job.timings.items()},
    }
    marked = bool(opened.lost)
    results = {
        k: {**own, "unclustered": unclustered_value(k, marked)} for k, own in results.items()
    }
    if len(results) == 1:
        (single,) = results.values()
        job.writer.publish({**common, **single})
    else:
        job.writer.publish(common, runs=results)
