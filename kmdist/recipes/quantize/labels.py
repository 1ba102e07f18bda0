"""The labelling pass: look every pixel up and write label maps, each chunk by one writer."""

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
    is_sharded,
    lost_images,
    open_tiled,
    remove_lost,
    write_pyramids,
)
from kmdist.job.pixels import Pixels, decode_piece
from kmdist.job.work import Piece
from kmdist.recipes.quantize.blocks import DecodedBlock
from kmdist.recipes.quantize.kernels.label_table import apply_table
from kmdist.store import LabelMap, RunWriter


def label_pass(
    job: Job, items: Sequence[LabelItem], labelling: Labelling, *, name: str = ""
) -> None:
    """Label and write everything that an interrupted run has not, pyramids of tiles included.

    Images of a block that killed its workers are rejected and get no label maps; the palette has
    counted their pixels.

    Raises
    ------
    KmdistError : an image that was counted cannot be read any more.
    """
    pass_name = f"label{name}"
    done = job.writer.done(pass_name)
    for record in done.values():
        job.reject([Rejection(*row) for row in record or ()])
    maps = open_tiled(job, items, labelling)
    shared = job.pool.broadcast((labelling, maps, job.writer))
    todo = [item for item in items if item.index not in done]

    def finished(position: int, failed: Sequence[Rejection]) -> None:
        gone = [rejection for rejection in failed if rejection.code != LOST]
        if gone:
            raise KmdistError(
                f"{gone[0].image}: {gone[0].reason} [{gone[0].code}]; it was read in the first "
                "pass. Restore it and go on with --resume, or run again without it"
            )
        job.reject(failed)
        record = [[r.image, r.code, r.reason] for r in failed] or None
        job.writer.mark_done(pass_name, todo[position].index, record)

    def lost(position: int, error: BaseException) -> Sequence[Rejection]:
        return lost_images(todo[position].work, error, "; it is counted in the palette")

    job.over_blocks(
        "label",
        label_item,
        _Submitted(todo),
        shared,
        pixels=[item.work.pixels for item in todo],
        done_before=len(items) - len(todo),
        on_done=finished,
        on_failure=lost,
    )
    remove_lost(job, items, [layer.prefix for layer in labelling.layers])
    kept = [name for name in maps if name not in job.rejected]
    write_pyramids(job, [one for name in kept for one in maps[name]])


@dataclass(frozen=True)
class _Submitted(Sequence[Any]):
    """Items as tasks receive them: a list, so that the kept future in it becomes its pixels."""

    items: Sequence[LabelItem]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: Any) -> Any:
        item = self.items[position]
        return [item.work, item.kept]


def label_item(
    item: list[Any], shared: tuple[Labelling, Mapping[str, tuple[LabelMap, ...]], RunWriter]
) -> list[Rejection]:
    """Label one block or shard and write it; returns the images that could not be read."""
    work, decoded = item
    labelling, maps, writer = shared
    if isinstance(decoded, DecodedBlock):
        wanted = {piece.source.name for piece in work.pieces}
        for pixels in decoded.pixels:
            if pixels.piece.source.name in wanted:
                label_piece(pixels, labelling, maps, writer)
        return []
    name = work.pieces[0].source.name
    try:
        if is_sharded(work.pieces[0].source) and not work.pieces[0].whole:
            label_shard(work.pieces, labelling, maps, writer)
            return []
        for piece in work.pieces:
            name = piece.source.name
            label_piece(decode_piece(piece), labelling, maps, writer)
    except ImageError as error:
        return [Rejection(name, error.code, error.reason)]
    return []


def label_piece(
    pixels: Pixels,
    labelling: Labelling,
    maps: Mapping[str, tuple[LabelMap, ...]],
    writer: RunWriter,
) -> None:
    """Label one decoded piece with every palette, and write it."""
    piece = pixels.piece
    name = piece.source.name
    for position, layer in enumerate(labelling.layers):
        labels = apply_table(pixels.rgb, layer.table)
        if piece.whole and name not in maps:
            writer.write_labels(
                name,
                labels,
                k=layer.k,
                unclustered=pixels.unclustered,
                palette=layer.palette,
                source=piece.source.path,
                prefix=layer.prefix,
            )
        else:
            window = piece.window
            writer.write_label_window(
                maps[name][position], window.y0, window.x0, labels, pixels.unclustered
            )


def label_shard(
    pieces: Sequence[Piece],
    labelling: Labelling,
    maps: Mapping[str, tuple[LabelMap, ...]],
    writer: RunWriter,
) -> None:
    """Label the tiles of one shard, and write the shard at once."""
    y0, x0 = min(p.window.y0 for p in pieces), min(p.window.x0 for p in pieces)
    y1, x1 = max(p.window.y1 for p in pieces), max(p.window.x1 for p in pieces)
    shards = [np.empty((y1 - y0, x1 - x0), layer.table.dtype) for layer in labelling.layers]
    unclustered: np.ndarray | None = None
    for piece in pieces:
        pixels = decode_piece(piece)
        window = piece.window
        place = np.s_[window.y0 - y0 : window.y1 - y0, window.x0 - x0 : window.x1 - x0]
        for layer, shard in zip(labelling.layers, shards, strict=True):
            shard[place] = apply_table(pixels.rgb, layer.table)
        if pixels.unclustered is not None:
            if unclustered is None:
                unclustered = np.zeros((y1 - y0, x1 - x0), bool)
            unclustered[place] = pixels.unclustered
    name = pieces[0].source.name
    for position, shard in enumerate(shards):
        writer.write_label_window(maps[name][position], y0, x0, shard, unclustered)
