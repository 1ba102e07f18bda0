"""Label new photographs with the palette of an earlier run.

Passes over the files: one. Each block counts its distinct colours, finds the nearest centroid of
each, and labels by table; an image stored in shards, and one with an alpha channel that is larger
than a block, is decoded twice. Tasks: one a block, one a pyramid window of images larger than a
block. Bytes that reach this process: 8 k a block.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.errors import ImageError
from kmdist.images import Rejection
from kmdist.job.endings import NoUsableImageError
from kmdist.job.job import Job
from kmdist.job.label_maps import (
    LabelItem,
    Labelling,
    Layer,
    is_sharded,
    label_items,
    lost_images,
    marked_tiled,
    open_tiled,
    remove_lost,
    write_pyramids,
)
from kmdist.job.photographs import Photographs
from kmdist.job.pixels import Pixels, decode_piece
from kmdist.job.work import Work
from kmdist.recipes.quantize.kernels.histogram import ColorCounter
from kmdist.recipes.quantize.kernels.label_table import borrowed_table
from kmdist.recipes.quantize.labels import label_piece, label_shard
from kmdist.recipes.quantize.memory import projection
from kmdist.recipes.quantize.model import Model
from kmdist.store import LabelMap, RunWriter

PASS = "predict"


@dataclass(frozen=True)
class Predicted:
    """What a task says of its images.

    Parameters
    ----------
    counts : members of each cluster; `inertia` is Σ‖x − c‖² over the same pixels.
    """

    counts: tuple[int, ...]
    inertia: float
    rejected: tuple[Rejection, ...] = ()

    def record(self) -> list[Any]:
        """As JSON, for the manifest."""
        rows = [[r.image, r.code, r.reason] for r in self.rejected]
        return [list(self.counts), self.inertia, rows]

    @staticmethod
    def of_record(record: Sequence[Any]) -> "Predicted":
        """From the manifest of an interrupted run."""
        counts, inertia, rows = record
        return Predicted(tuple(counts), inertia, tuple(Rejection(*row) for row in rows))


def label_photographs(job: Job, workload: Photographs, model: Model) -> dict[str, Any]:
    """Label and write all images of a job.

    Returns
    -------
    dict : attributes of the run.
    """
    job.require(projection(workload, job.pool, 1, passes=1))
    items = label_items(workload.blocks, {}, job.rejected)
    marked = marked_tiled(job, items)
    layer = Layer("", len(model.centroids), np.empty(0, np.uint8), model.palette)
    maps = open_tiled(job, items, Labelling((layer,), marked))
    results = _label_all(job, model, items, maps)
    remove_lost(job, items, [""])
    spoilt = {name for name in maps if name in job.rejected}
    for name in spoilt:
        job.writer.remove_labels(name)
    used = [r for item, r in results if item.work.pieces[0].source.name not in spoilt]
    write_pyramids(job, [one for name in maps if name not in spoilt for one in maps[name]])
    counts = np.sum([result.counts for result in used], axis=0, dtype=np.int64)
    if not np.any(counts):
        raise NoUsableImageError(
            "no pixel can be labelled: every image is transparent or unreadable",
            job.rejected.values(),
        )
    # Exactly rounded, so that it does not depend on how the pixels were shared out.
    inertia = math.fsum(result.inertia for result in used)
    channels = ("cluster", "channel")
    job.writer.write_array("centroids", model.centroids, channels)
    job.writer.write_array("palette", model.palette, channels)
    job.writer.write_array("counts", counts, ("cluster",))
    history = np.array([[inertia, 0.0, 0.0]])
    job.writer.write_array("history", history, ("iteration", "quantity"))
    return {
        "k": len(model.centroids),
        "space": model.space,
        "inertia": inertia,
        "n_iter": 0,
        "stop_reason": "predicted",
    }


def _label_all(
    job: Job,
    model: Model,
    items: Sequence[LabelItem],
    maps: Mapping[str, tuple[LabelMap, ...]],
) -> list[tuple[LabelItem, Predicted]]:
    """Results of all items, in their order, those of an interrupted run among them."""
    results = {
        index: Predicted.of_record(record) for index, record in job.writer.done(PASS).items()
    }
    for result in results.values():
        job.reject(result.rejected)
    todo = [item for item in items if item.index not in results]
    shared = job.pool.broadcast((model, dict(maps), job.writer))

    def finished(position: int, result: Predicted) -> None:
        results[todo[position].index] = result
        job.reject(result.rejected)
        job.writer.mark_done(PASS, todo[position].index, result.record())

    job.over_blocks(
        "label",
        predict_block,
        [item.work for item in todo],
        shared,
        pixels=[item.work.pixels for item in todo],
        done_before=len(items) - len(todo),
        on_done=finished,
        on_failure=_set_aside(todo, len(model.centroids)),
    )
    return [(item, results[item.index]) for item in items]


def _set_aside(todo: Sequence[LabelItem], k: int) -> Callable[[int, BaseException], Predicted]:
    """What to make of a block that killed its workers: nothing, its images named."""

    def lost(position: int, error: BaseException) -> Predicted:
        return Predicted((0,) * k, 0.0, lost_images(todo[position].work, error))

    return lost


def predict_block(
    work: Work, shared: tuple[Model, Mapping[str, tuple[LabelMap, ...]], RunWriter]
) -> Predicted:
    """Label one block of whole images, one tile, or the tiles of one shard; a task."""
    model, maps, writer = shared
    first = work.pieces[0]
    name, sharded = first.source.name, not first.whole and is_sharded(first.source)
    decoded: list[Pixels] = []
    rejected: list[Rejection] = []
    with ColorCounter() as counter:
        for piece in work.pieces:
            try:
                pixels = decode_piece(piece)
            except ImageError as error:
                rejected.append(Rejection(piece.source.name, error.code, error.reason))
                continue
            counter.add(pixels.rgb, pixels.unclustered)
            if not sharded:
                decoded.append(pixels)
        colors = counter.colors()
    k = len(model.centroids)
    if rejected and not first.whole:
        return Predicted((0,) * k, 0.0, (rejected[0],))
    labels, counts, inertia = model.label_colors(colors)
    with borrowed_table(colors.codes, labels) as table:
        labelling = Labelling((Layer("", k, table, model.palette),), frozenset())
        for pixels in decoded:
            label_piece(pixels, labelling, maps, writer)
        if sharded:
            try:
                label_shard(work.pieces, labelling, maps, writer)
            except ImageError as error:
                return Predicted((0,) * k, 0.0, (Rejection(name, error.code, error.reason),))
    return Predicted(tuple(map(int, counts)), float(inertia), tuple(rejected))
