"""The labelling pass of shared texture clusters: measure what was not kept, label, write.

Colours of clusters are the mean colours of their pixels, known only when all are labelled; the
metadata of the label maps is then written again with them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.errors import ImageError, KmdistError
from kmdist.images import Rejection
from kmdist.job.job import Job
from kmdist.job.label_maps import (
    LOST,
    LabelItem,
    Labelling,
    Layer,
    is_sharded,
    label_items,
    lost_images,
    open_tiled,
    remove_lost,
    write_pyramids,
)
from kmdist.job.work import Piece, Work
from kmdist.recipes.texture.blocks import MeasuredBlock, measure_piece
from kmdist.recipes.texture.field_labels import color_sums, label_field, mean_colors, row_inertia
from kmdist.recipes.texture.measuring import Field
from kmdist.recipes.texture.model import TextureModel
from kmdist.recipes.texture.shards import Shard
from kmdist.recipes.texture.tiles import Tiles
from kmdist.store import LabelMap, RunWriter


@dataclass(frozen=True)
class TextureLayer:
    """One k's model and how it was fitted.

    Parameters
    ----------
    k : number of clusters asked for; 0 where it was chosen.
    prefix : group of the run for this k.
    palette : (k, 3) uint8 colours of an earlier run's clusters; None: those that the labelled
        pixels have.
    """

    k: int
    prefix: str
    model: TextureModel
    palette: np.ndarray | None = None


@dataclass(frozen=True)
class Shared:
    """What labelling takes besides pixels; sent to each worker once.

    Parameters
    ----------
    layers : one a k; all measure the same.
    maps : label maps that are written by window, one a layer, by image.
    tiles : of images that are read by tile.
    write : write label maps, not only count.
    """

    layers: tuple[TextureLayer, ...]
    maps: Mapping[str, tuple[LabelMap, ...]]
    tiles: Tiles
    writer: RunWriter
    write: bool = True


@dataclass(frozen=True)
class Labelled:
    """What a task says of its pieces.

    Parameters
    ----------
    sums : one (k, 4) int64 a layer, see `color_sums`.
    inertia : one a layer.
    """

    sums: tuple[np.ndarray, ...]
    inertia: tuple[float, ...]
    rejected: tuple[Rejection, ...] = ()

    def record(self) -> list[Any]:
        """As JSON, for the manifest."""
        rejected = [[r.image, r.code, r.reason] for r in self.rejected]
        return [[one.tolist() for one in self.sums], list(self.inertia), rejected]

    @staticmethod
    def of_record(record: Sequence[Any]) -> "Labelled":
        """From the manifest of an interrupted run."""
        sums, inertia, rejected = record
        arrays = tuple(np.array(one, np.int64).reshape(-1, 4) for one in sums)
        return Labelled(arrays, tuple(inertia), tuple(Rejection(*row) for row in rejected))


def label_textures(
    job: Job,
    work: Sequence[Work],
    kept: Mapping[int, Any],
    layers: Sequence[TextureLayer],
    marked: frozenset[str],
    name: str = "",
    *,
    read_before: bool = True,
    write: bool = True,
) -> list[tuple[np.ndarray, float]]:
    """Label and write everything that an interrupted run has not.

    Parameters
    ----------
    work : the blocks to label.
    kept : futures of their `MeasuredBlock`, by block.
    name : of the group, for the manifest.
    read_before : the images were read in an earlier pass, so that failing now is an error.
    write : write label maps; False: find colours and inertia alone.

    Returns
    -------
    list : for each layer its colour sums (k, 4) and inertia over all pieces.

    Raises
    ------
    KmdistError : an image cannot be read any more.
    """
    items = label_items(work, kept, job.rejected)
    maps = {}
    if write:
        maps = _open_maps(job, items, layers, marked, [layer.palette for layer in layers])
    results = _label_all(
        job,
        items,
        Shared(tuple(layers), maps, Tiles.of(work), job.writer, write),
        name,
        read_before=read_before,
    )
    remove_lost(job, items, [layer.prefix for layer in layers] if write else [])
    spoilt = {image for image in maps if image in job.rejected}
    for image in spoilt:
        for layer in layers:
            job.writer.remove_labels(image, layer.prefix)
    used = [r for item, r in results if item.work.pieces[0].source.name not in spoilt]
    write_pyramids(job, [m for image in maps if image not in spoilt for m in maps[image]])
    totals = []
    for position, layer in enumerate(layers):
        sums = np.zeros((len(layer.model.centroids), 4), np.int64)
        for result in used:
            sums += result.sums[position]
        # Exactly rounded, so that it does not depend on how the pixels were shared out.
        totals.append((sums, math.fsum(r.inertia[position] for r in used)))
    if write and layers[0].palette is None:
        palettes = [mean_colors(sums) for sums, _ in totals]
        _color_maps(job, items, layers, marked, palettes)
    return totals


def _open_maps(
    job: Job,
    items: Sequence[LabelItem],
    layers: Sequence[TextureLayer],
    marked: frozenset[str],
    palettes: Sequence[Any],
) -> dict[str, tuple[LabelMap, ...]]:
    plain = tuple(
        Layer(layer.prefix, len(layer.model.centroids), np.empty(0, np.uint8), palette)
        for layer, palette in zip(layers, palettes, strict=True)
    )
    return open_tiled(job, items, Labelling(plain, marked))


def _color_maps(
    job: Job,
    items: Sequence[LabelItem],
    layers: Sequence[TextureLayer],
    marked: frozenset[str],
    palettes: Sequence[np.ndarray],
) -> None:
    """Write the metadata of all label maps again, with the colours of their clusters."""
    with job.timed("colours"):
        _open_maps(job, items, layers, marked, palettes)
        for item in items:
            for piece in item.work.pieces:
                source = piece.source
                if not piece.whole or source.name in job.rejected:
                    continue
                for layer, palette in zip(layers, palettes, strict=True):
                    job.writer.open_labels(
                        source.name,
                        (source.height, source.width),
                        k=len(palette),
                        marked=source.name in marked,
                        palette=palette,
                        source=source.path,
                        prefix=layer.prefix,
                    )


def _label_all(
    job: Job, items: Sequence[LabelItem], shared: Shared, name: str, *, read_before: bool
) -> list[tuple[LabelItem, Labelled]]:
    """Results of all items, in their order, those of an interrupted run among them."""
    pass_name = f"label{name}"
    results = {i: Labelled.of_record(r) for i, r in job.writer.done(pass_name).items()}
    for result in results.values():
        job.reject(result.rejected)
    todo = [item for item in items if item.index not in results]

    def finished(position: int, result: Labelled) -> None:
        gone = [rejection for rejection in result.rejected if rejection.code != LOST]
        if gone and read_before:
            first = gone[0]
            raise KmdistError(
                f"{first.image}: {first.reason} [{first.code}]; it was read in an earlier pass. "
                "Restore it and go on with --resume, or run again without it"
            )
        results[todo[position].index] = result
        job.reject(result.rejected)
        job.writer.mark_done(pass_name, todo[position].index, result.record())

    def lost(position: int, error: BaseException) -> Labelled:
        more = "; its texture counts in the fit" if read_before else ""
        return _nothing(shared, lost_images(todo[position].work, error, more))

    job.over_blocks(
        "label",
        label_texture_item,
        [[item.work, item.kept] for item in todo],
        job.pool.broadcast(shared),
        pixels=[item.work.pixels for item in todo],
        done_before=len(items) - len(todo),
        on_done=finished,
        on_failure=lost,
    )
    return [(item, results[item.index]) for item in items]


def _nothing(shared: Shared, rejected: Sequence[Rejection]) -> Labelled:
    sums = tuple(np.zeros((len(one.model.centroids), 4), np.int64) for one in shared.layers)
    return Labelled(sums, (0.0,) * len(sums), tuple(rejected))


def label_texture_item(item: list[Any], shared: Shared) -> Labelled:
    """Label one block of whole images, one tile, or the tiles of one shard; a task."""
    work, measured = item
    total = _nothing(shared, ())
    rejected: list[Rejection] = []
    fields = {}
    if isinstance(measured, MeasuredBlock):
        fields = {one.piece: one for _, one in measured.fields}
    first = work.pieces[0]
    sharded = shared.write and is_sharded(first.source) and not first.whole
    shard = Shard(work.pieces, shared.maps[first.source.name]) if sharded else None
    for piece in work.pieces:
        try:
            field = fields.get(piece) or _measure(piece, shared)
        except ImageError as error:
            rejected.append(Rejection(piece.source.name, error.code, error.reason))
            if not piece.whole:
                return _nothing(shared, rejected)
            continue
        labelled = _label(field, shared, shard)
        total = Labelled(
            tuple(a + b for a, b in zip(total.sums, labelled.sums, strict=True)),
            tuple(a + b for a, b in zip(total.inertia, labelled.inertia, strict=True)),
        )
    if shard is not None:
        shard.write(shared.writer)
    return Labelled(total.sums, total.inertia, tuple(rejected))


def _measure(piece: Piece, shared: Shared) -> Field:
    model = shared.layers[0].model
    return measure_piece(piece, model.textons, model.texture, shared.tiles, shared.writer)


def _label(field: Field, shared: Shared, shard: Shard | None) -> Labelled:
    """Label one field with every layer, and write it or put it into its shard."""
    piece, source = field.piece, field.piece.source
    sums, inertia = [], []
    for position, layer in enumerate(shared.layers):
        model = layer.model
        k = len(model.centroids)
        labels, rows = label_field(model.texture, field, model.scorer)
        sums.append(color_sums(field, labels, k))
        inertia.append(row_inertia(model.texture, field, rows, model.projection, model.centroids))
        if not shared.write:
            continue
        if shard is not None:
            shard.put(position, field, labels)
        elif piece.whole and source.name not in shared.maps:
            shared.writer.write_labels(
                source.name,
                labels,
                k=k,
                unclustered=field.unclustered,
                palette=layer.palette,
                source=source.path,
                prefix=layer.prefix,
            )
        else:
            window = piece.window
            label_map = shared.maps[source.name][position]
            shared.writer.write_label_window(
                label_map, window.y0, window.x0, labels, field.unclustered
            )
    return Labelled(tuple(sums), tuple(inertia))
