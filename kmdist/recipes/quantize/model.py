"""A palette to label new photographs with, in memory and by a job.

Passes of a job over the files: one. Each block counts its distinct colours, finds the nearest
centroid of each, and labels by table; an image stored in shards, and one with an alpha channel that
is larger than a block, is decoded twice. Tasks: one a block, one a pyramid window of images larger
than a block. Bytes that reach this process: 8 k a block.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.errors import UsageError
from kmdist.images import Piece, Rejection
from kmdist.job.block_pass import Stage
from kmdist.job.image_fits import write_predicted
from kmdist.job.job import Job
from kmdist.job.label_maps import (
    LabelSink,
    Layer,
    Taker,
    label_blocks,
    label_items,
    label_pieces,
    marked_tiled,
    open_sink,
)
from kmdist.job.photographs import Photographs
from kmdist.job.pixels import Pixels, decode_piece
from kmdist.job.work import Work, each_piece
from kmdist.recipes.quantize.fidelity import Fidelity, fidelity_of, merged, write_fidelity
from kmdist.recipes.quantize.kernels.histogram import ColorCounter, Colors
from kmdist.recipes.quantize.kernels.label_table import ColorLabels
from kmdist.recipes.quantize.palette import ColorCloud, label_colors
from kmdist.recipes.quantize.transparency import OVER_WHITE, Transparency


@dataclass(frozen=True)
class Model:
    """A palette to label with: a `kmdist.job.recipe.Model` of photographs.

    Parameters
    ----------
    centroids : (k, 3) float32 in `space`; (k, 6) of colours with alpha.
    palette : (k, 3) uint8 sRGB; (k, 4) with alpha.
    """

    centroids: np.ndarray
    palette: np.ndarray
    space: str
    transparency: Transparency = OVER_WHITE

    @classmethod
    def of_run(cls, run: Any) -> "Model":
        """The palette that a run's images share.

        Raises
        ------
        UsageError : each image has its own.
        """
        if run.centroids is None or run.palette is None:
            raise UsageError(
                f"{run.path} has a palette for each image and none for new ones (each image has "
                "its own); make the model without --per-image"
            )
        transparency = Transparency.of_record(run.attributes)
        widths = (6, 4) if transparency.alpha else (3, 3)
        arrays = run.arrays(
            {"centroids": ("cluster", widths[0]), "palette": ("cluster", widths[1])}
        )
        space = str(run.attributes.get("space") or "rgb")
        return cls(**arrays, space=space, transparency=transparency)

    @property
    def k(self) -> int:
        """Number of colours."""
        return len(self.centroids)

    def label_colors(self, colors: Colors) -> tuple[np.ndarray, np.ndarray, float]:
        """Labels of distinct colours, members of each cluster, and inertia."""
        if not len(colors):
            return np.empty(0, np.uint8), np.zeros(self.k, np.int64), 0.0
        cloud = ColorCloud.of(colors, self.space, alpha=self.transparency.alpha)
        return label_colors(cloud, self.centroids)

    def label(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Labels (y, x) of an image (y, x, 3), sRGB, or (y, x, 4): the nearest centroids."""
        with ColorCounter() as counter:
            counter.add(pixels)
            colors = counter.colors()
        labels, _, _ = self.label_colors(colors)
        with ColorLabels.borrowed(colors, labels) as label_of:
            return label_of(pixels)


@dataclass(frozen=True)
class Predicted:
    """What tasks say of their images.

    Parameters
    ----------
    counts : members of each cluster.
    inertia : Σ‖x − c‖² over the same pixels, a sum a block; to be added exactly, so that the
        total does not depend on how the blocks were shared out.
    """

    counts: tuple[int, ...]
    inertia: tuple[float, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    fidelity: Mapping[str, Fidelity] = field(default_factory=dict)

    @staticmethod
    def merge(parts: Sequence["Predicted"]) -> "Predicted":
        """Those of several blocks."""
        counts = np.array([part.counts for part in parts], np.int64).sum(axis=0)
        return Predicted(
            tuple(counts.tolist()),
            tuple(one for part in parts for one in part.inertia),
            tuple(one for part in parts for one in part.rejected),
            merged(part.fidelity for part in parts),
        )


def predict_stage(k: int) -> Stage:
    """The stage that labels with k colours."""
    return Stage(
        "label",
        predict_block,
        Predicted.merge,
        nothing=partial(Predicted, (0,) * k, ()),
        noted=Predicted,
    )


def label_photographs(job: Job, workload: Photographs, model: Model) -> dict[str, Any]:
    """Label and write all images of a job.

    Returns
    -------
    dict : attributes of the run.
    """
    marked, k = marked_tiled(job, workload.blocks), len(model.centroids)
    items = label_items(workload.blocks, job.rejected)
    sink = open_sink(job, items, [Layer("", k, model.palette)], marked)
    learnt = job.pool.broadcast(model)
    found: Predicted = label_blocks(job, predict_stage(k), items, sink, learnt)
    fidelity = {name: one for name, one in found.fidelity.items() if name not in job.rejected}
    return write_predicted(
        job,
        {"centroids": (model.centroids, ("cluster", "channel"))},
        model.palette,
        (np.array(found.counts, np.int64), math.fsum(found.inertia)),
        space=model.space,
        **model.transparency.record(),
        **write_fidelity(job.writer, "", fidelity),
    )


def predict_block(work: Work, sink: LabelSink, model: Model) -> Predicted:
    """Label one block of whole images, one tile, or the tiles of one shard; a task."""
    kept: dict[Piece, Pixels] = {}
    convert, k = model.transparency.convert, model.k

    def count(piece: Piece) -> None:
        pixels = decode_piece(piece, convert)
        counter.add(pixels.rgb, pixels.unclustered)
        if not work.in_shard:  # whose pixels are too many to keep
            kept[piece] = pixels

    def one(piece: Piece, labels: Taker) -> dict[str, Fidelity]:
        pixels = kept.get(piece) or decode_piece(piece, convert)
        of_piece = label_of(pixels.rgb)
        near = fidelity_of(piece, pixels.rgb, of_piece, model.palette, pixels.unclustered)
        labels.put(piece, 0, of_piece, pixels.unclustered)
        return {piece.source.name: near}

    with ColorCounter() as counter:
        _, rejected = each_piece(work.pieces, count)
        colors = counter.colors()
    pieces = work.pieces if work.in_shard else tuple(kept)
    if not pieces or (rejected and work.tile_of is not None):
        return Predicted((0,) * k, (), rejected)
    found, counts, inertia = model.label_colors(colors)
    with ColorLabels.borrowed(colors, found) as label_of:
        fidelity, lost = label_pieces(pieces, sink, one)
    if lost:
        return Predicted((0,) * k, (), lost)
    return Predicted(tuple(map(int, counts)), (float(inertia),), rejected, merged(fidelity))
