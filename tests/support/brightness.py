"""A recipe that is no part of kmdist: pixels parted into dark and bright by one threshold.

k-means of the brightness of all pixels, k = 2: on a histogram, Otsu's threshold (1979) is optimal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from skimage.filters import threshold_otsu

from kmdist.images import Piece, Rejection
from kmdist.job import label_maps
from kmdist.job.block_pass import BlockPass, Stage
from kmdist.job.job import Job, NoUsableImageError
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photograph_recipe import PhotographRecipe
from kmdist.job.photographs import PhotographProcedure, Photographs
from kmdist.job.pixels import decode_piece
from kmdist.job.recipe import Inputs, Results
from kmdist.job.work import Work
from kmdist.store import Run

LEVELS = np.arange(256)


class BrightnessOptions(JobOptions, frozen=True, kw_only=True):
    """Part the pixels of photographs into dark and bright ones, by one threshold for all.

    \b
    kmdist brightness photos/ -o run.zarr
    """


def brightness(rgb: np.ndarray) -> np.ndarray:
    return rgb.sum(axis=-1, dtype=np.uint16) // 3


@dataclass(frozen=True)
class Threshold:
    """Two centroids (2, 1) float32, dark and bright, and what labels pixels by them."""

    centroids: np.ndarray
    k: int = 2

    def label(self, pixels: np.ndarray) -> np.ndarray:
        """0 where a pixel (…, 3) is dark, 1 where it is bright."""
        return (brightness(pixels) > self.centroids.mean()).astype(np.uint8)


class Tally(NamedTuple):
    """How many pixels have each brightness."""

    counts: np.ndarray
    rejected: tuple[Rejection, ...] = ()


def tally(
    work: Work, sink: label_maps.LabelSink | None = None, model: Threshold | None = None
) -> Tally:
    """Count a block and, with a model, label it; a task."""

    def one(piece: Piece, labels: label_maps.Taker) -> np.ndarray:
        pixels = decode_piece(piece)
        if model:
            labels.put(piece, 0, model.label(pixels.rgb), pixels.unclustered)
        seen = pixels.rgb if pixels.unclustered is None else pixels.rgb[~pixels.unclustered]
        return np.bincount(brightness(seen).ravel(), minlength=256)

    found, rejected = label_maps.label_pieces(work.pieces, sink, one)
    return Tally(sum(found, np.zeros(256, np.int64)), rejected)


def add(parts: Sequence[Tally]) -> Tally:
    return Tally(sum(part.counts for part in parts), sum((part.rejected for part in parts), ()))


COUNT = Stage(
    "count",
    tally,
    add,
    nothing=lambda rejected: Tally(np.zeros(256, np.int64), rejected),
    noted=Tally,
)
LABEL = replace(COUNT, name="label")


def label(job: Job, workload: Photographs, model: Threshold) -> dict[str, Any]:
    """Label all images, and write what the run holds."""
    items = label_maps.label_items(workload.blocks, job.rejected)
    marked = label_maps.marked_tiled(job, workload.blocks)
    palette = np.array([[40] * 3, [215] * 3], np.uint8)
    sink = label_maps.open_sink(job, items, [label_maps.Layer("", 2, palette)], marked)
    found = label_maps.label_blocks(job, LABEL, items, sink, job.pool.broadcast(model)).counts
    labels = model.label(np.repeat(LEVELS[:, None], 3, axis=1))
    inertia = float(found @ (LEVELS - model.centroids[labels, 0]) ** 2)
    write = job.writer.write_array
    write("centroids", model.centroids, ("cluster", "feature"))
    write("palette", palette, ("cluster", "channel"))
    write("counts", np.bincount(labels, found, 2).astype(np.int64), ("cluster",))
    return {"k": 2, "inertia": inertia, "n_iter": 1, "stop_reason": "converged"}


@dataclass(frozen=True)
class BrightnessFit(PhotographProcedure):
    """Count, find the threshold, label."""

    recipe: str = "brightness"

    def parameters(self, workload: Photographs, options: JobOptions) -> Mapping[str, Any]:
        return {"block_mpx": options.block_mpx}

    def outline(self, workload: Photographs, options: JobOptions, *, keep: bool) -> Outline:
        steps = [stage.step(workload.blocks) for stage in (COUNT, LABEL)]
        return Outline(steps, result_bytes=workload.label_bytes(1))

    def run(self, job: Job, workload: Photographs) -> Results:
        counts = BlockPass(job, COUNT).run(workload.blocks).counts
        if np.count_nonzero(counts) < 2:
            raise NoUsableImageError("all pixels are alike", job.rejected.values())
        dark = threshold_otsu(hist=counts) >= LEVELS
        means = [[np.average(LEVELS, weights=counts * one)] for one in (dark, ~dark)]
        return Results({2: label(job, workload, Threshold(np.array(means, np.float32)))})


class Brightness(PhotographRecipe):
    """One threshold for all images."""

    name, options = "brightness", BrightnessOptions

    def fit(self, inputs: Inputs, options: JobOptions) -> BrightnessFit:
        return BrightnessFit(inputs)

    def label_photographs(self, job: Job, workload: Photographs, model: Threshold) -> Any:
        return label(job, workload, model)

    def model_of(self, run: Run) -> Threshold:
        return Threshold(np.asarray(run.centroids))


RECIPE = Brightness()
