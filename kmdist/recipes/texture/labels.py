"""The labelling pass of texture clusters: measure what was not kept, label, write or save.

The textons of tiles of large images are found once, saved, and read by later passes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from kmdist.images import Piece, Rejection
from kmdist.job.block_pass import BlockPass, Stage
from kmdist.job.image_fits import write_predicted
from kmdist.job.job import Job
from kmdist.job.label_maps import (
    KeptLabels,
    LabelSink,
    Layer,
    Taker,
    label_blocks,
    label_items,
    label_pieces,
    marked_tiled,
    open_sink,
)
from kmdist.job.memory import LABEL_BYTES, Held
from kmdist.job.photographs import Photographs
from kmdist.job.work import Work
from kmdist.recipes.texture.blocks import (
    COUNTED,
    MAP,
    MeasuredBlock,
    Measuring,
    Tiles,
    measure_piece,
)
from kmdist.recipes.texture.measuring import Field, color_sums, label_field, row_inertia
from kmdist.recipes.texture.model import SPACE, Textons, Texture, TextureModel


@dataclass(frozen=True)
class Labelled:
    """What tasks say of their pieces.

    Parameters
    ----------
    sums : one (k, 4) int64 a model, see `color_sums`.
    inertia : of each block, one a model; to be added exactly, so that the total does not depend
        on how the blocks were shared out.
    """

    sums: tuple[np.ndarray, ...]
    inertia: tuple[tuple[float, ...], ...] = ()
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def nothing(ks: Sequence[int], rejected: tuple[Rejection, ...]) -> "Labelled":
        """Of a block without images, where models have so many clusters."""
        return Labelled(tuple(np.zeros((k, 4), np.int64) for k in ks), (), rejected)

    @staticmethod
    def merge(parts: Sequence["Labelled"]) -> "Labelled":
        """What several blocks have."""
        return Labelled(
            tuple(sum(same[1:], same[0]) for same in zip(*(p.sums for p in parts), strict=True)),
            tuple(one for part in parts for one in part.inertia),
            tuple(one for part in parts for one in part.rejected),
        )


def label_stage(ks: Sequence[int], counted: str = "") -> Stage:
    """The stage that labels with models of so many clusters each."""
    return Stage(
        "label",
        label_block,
        Labelled.merge,
        nothing=partial(Labelled.nothing, ks),
        noted=Labelled,
        counted=counted,
        held=Held(pixel=LABEL_BYTES + max(*ks, 1) / 4),
    )


def label_textures(
    job: Job,
    items: Sequence[Work],
    models: Sequence[TextureModel],
    sink: LabelSink | KeptLabels | None,
    *,
    group: str = "",
    kept: dict[int, Any] | None = None,
) -> list[tuple[np.ndarray, float]]:
    """Label everything that an interrupted run has not.

    Parameters
    ----------
    items : the blocks to label, of `label_items`.
    models : one a layer of the sink; all measure the same.
    sink : labels are kept, or none written, of images that the fit has counted.
    kept : see `kmdist.job.block_pass`.

    Returns
    -------
    list : for each model its colour sums (k, 4) and inertia over all pieces.

    Raises
    ------
    KmdistError : an image cannot be read any more.
    """
    counted, model = "" if isinstance(sink, LabelSink) else COUNTED, models[0]
    stage = label_stage([len(one.centroids) for one in models], counted)
    measuring = Measuring(model.texture, 1.0, 0, job.writer, Tiles.of(items), model.textons)
    shared = job.pool.broadcast((measuring, tuple(models)))
    found: Labelled = label_blocks(job, stage, items, sink, shared, group=group, kept=kept)
    return [
        (sums, math.fsum(one[position] for one in found.inertia))
        for position, sums in enumerate(found.sums)
    ]


def label_block(
    block: Work | MeasuredBlock,
    sink: LabelSink | KeptLabels | None,
    shared: tuple[Measuring, Sequence[TextureModel]],
) -> Labelled:
    """Label one block of whole images, one tile, or the tiles of one shard; a task."""
    measuring, models = shared
    fields = {}
    if isinstance(block, MeasuredBlock):
        fields = {field.piece: field for _, field in block.fields}
    nothing = Labelled.nothing([len(one.centroids) for one in models], ())

    def one(piece: Piece, labels: Taker) -> Labelled:
        return _label(fields.get(piece) or measure_piece(piece, measuring), models, labels)

    found, rejected = label_pieces(block.pieces, sink, one)
    if rejected and not block.pieces[0].whole:
        return replace(nothing, rejected=rejected)
    total = Labelled.merge([nothing, *found])
    inertia = tuple(sum(same) for same in zip(*total.inertia, strict=True))
    return Labelled(total.sums, (inertia,) if inertia else (), rejected)


def _label(field: Field, models: Sequence[TextureModel], labels: Taker) -> Labelled:
    """Label one field with every model."""
    sums, inertia = [], []
    for position, model in enumerate(models):
        found, rows = label_field(model.texture, field, model.scorer)
        sums.append(color_sums(field, found, len(model.centroids)))
        inertia.append(row_inertia(model.texture, field, rows, model.projection, model.centroids))
        labels.put(field.piece, position, found, field.unclustered)
    return Labelled(tuple(sums), (tuple(inertia),))


def map_textons(
    job: Job, work: Sequence[Work], textons: Textons, texture: Texture, group: str = ""
) -> None:
    """Find the textons of all tiles of large images: one more pass over these.

    Images of which a tile cannot be read are rejected.
    """
    tiled = [one for one in work if one.tile_of is not None]
    shared = job.pool.broadcast(textons)
    BlockPass(job, MAP, group=group).run(tiled, shared, texture, job.writer)


def label_photographs(
    job: Job, workload: Photographs, model: TextureModel, palette: np.ndarray
) -> dict[str, Any]:
    """Label and write all images of a job.

    Parameters
    ----------
    palette : (k, 3) uint8 colours of the model's clusters.

    Returns
    -------
    dict : attributes of the run.
    """
    blocks = workload.blocks
    marked = marked_tiled(job, blocks)
    if model.textons is not None:
        work = [one for one in blocks if one.tile_of not in job.rejected]
        map_textons(job, work, model.textons, model.texture)
    items = label_items(blocks, job.rejected)
    sink = open_sink(job, items, [Layer("", len(palette), palette)], marked)
    ((sums, inertia),) = label_textures(job, items, [model], sink)
    totals, features = (sums[:, 3], inertia), model.texture.record()
    return write_predicted(job, model.arrays(), palette, totals, space=SPACE, features=features)
