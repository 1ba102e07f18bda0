"""The labelling pass: look every pixel up and write label maps, each chunk by one writer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.engine.passes import LostBlockError, run_pass
from kmdist.errors import ImageError, KmdistError
from kmdist.images import ImageSource, Rejection
from kmdist.job.job import Job, Piece, Work
from kmdist.recipes.quantize.blocks import DecodedBlock, Pixels, decode_piece
from kmdist.recipes.quantize.kernels.label_table import apply_table
from kmdist.store import LabelMap, RunWriter

LOST = "lost"
"""Code of images whose block killed its workers."""

SHARDED_SIDE_PX = 16_384
SHARD_PX = 8_192


@dataclass(frozen=True)
class Layer:
    """One palette's labels.

    Parameters
    ----------
    prefix : group of the run for this k; empty for a single k.
    table : (2²⁴,) uint8 or uint16 label of each colour code; see `label_table`.
    palette : (k, 3) uint8 sRGB.
    """

    prefix: str
    k: int
    table: np.ndarray
    palette: np.ndarray


@dataclass(frozen=True)
class Labelling:
    """What a labelling pass needs besides pixels; sent to each worker once.

    Parameters
    ----------
    layers : one a palette.
    marked : images with pixels that are not clustered.
    """

    layers: tuple[Layer, ...]
    marked: frozenset[str]


@dataclass(frozen=True)
class LabelItem:
    """One task of the pass: a block of whole images, one tile, or the tiles of one shard.

    Parameters
    ----------
    index : of the item in the pass, for the manifest.
    work : what to decode if `kept` is None.
    kept : future of the decoded block, or None.
    """

    index: int
    work: Work
    kept: Any = None


def is_sharded(source: ImageSource) -> bool:
    """Whether the label map of an image is stored in shards."""
    return max(source.width, source.height) > SHARDED_SIDE_PX


def label_items(
    work: Sequence[Work], kept: Mapping[int, Any], rejected: Mapping[str, Rejection]
) -> list[LabelItem]:
    """Tasks of the labelling pass: blocks, but all tiles of a shard together.

    A shard has one writer, and a tile may be smaller than a shard.
    """
    groups: dict[Any, list[Work]] = {}
    for one in work:
        first = one.pieces[0]
        if is_sharded(first.source) and not first.whole:
            window = first.window
            key: Any = (first.source.name, window.y0 // SHARD_PX, window.x0 // SHARD_PX)
        else:
            key = one.index
        groups.setdefault(key, []).append(one)
    items = []
    for index, group in enumerate(groups.values()):
        pieces = tuple(p for one in group for p in one.pieces if p.source.name not in rejected)
        if not pieces:
            continue
        future = kept.get(group[0].index) if len(group) == 1 else None
        items.append(LabelItem(index, Work(group[0].index, pieces), future))
    return items


def lost_images(work: Work, error: BaseException, more: str = "") -> tuple[Rejection, ...]:
    """Rejections of the images of a block that killed its workers; any other error is raised.

    Parameters
    ----------
    more : to be said besides.
    """
    if not isinstance(error, LostBlockError):
        raise error
    names = dict.fromkeys(piece.source.name for piece in work.pieces)
    return tuple(Rejection(name, LOST, f"{error.args[0]}{more}") for name in names)


def remove_lost(job: Job, items: Sequence[LabelItem], prefixes: Sequence[str]) -> None:
    """Remove what killed workers wrote of images that are given up, once no task writes more."""
    names = dict.fromkeys(piece.source.name for item in items for piece in item.work.pieces)
    for name in names:
        rejection = job.rejected.get(name)
        if rejection is not None and rejection.code == LOST:
            for prefix in prefixes:
                job.writer.remove_labels(name, prefix)


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


def open_tiled(
    job: Job, items: Sequence[LabelItem], labelling: Labelling
) -> dict[str, tuple[LabelMap, ...]]:
    """Begin the label maps of images that are written by window, one a layer."""
    tiled = {p.source.name: p.source for i in items for p in i.work.pieces if not p.whole}
    return {
        name: tuple(
            job.writer.open_labels(
                name,
                (source.height, source.width),
                k=layer.k,
                marked=name in labelling.marked,
                palette=layer.palette,
                source=source.path,
                prefix=layer.prefix,
            )
            for layer in labelling.layers
        )
        for name, source in tiled.items()
    }


def write_pyramids(job: Job, maps: Sequence[LabelMap]) -> None:
    """Make the pyramids of maps that were written by window, level after level."""
    deepest = max((len(one.levels) for one in maps), default=0)
    with job.timed("pyramid"):
        for level in range(1, deepest):
            windows = [
                (one, window)
                for one in maps
                if level < len(one.levels)
                for window in one.windows(level)
            ]
            run_pass(job.pool, _write_pyramid_window, windows, job.writer, level)


def _write_pyramid_window(
    item: tuple[LabelMap, tuple[int, int, int, int]], writer: RunWriter, level: int
) -> None:
    writer.write_pyramid_window(item[0], level, item[1])
