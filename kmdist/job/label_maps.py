"""Where labels go: whole image, window or shard; and what is removed again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.engine.passes import LostBlockError, run_pass
from kmdist.errors import ImageError
from kmdist.images import ImageSource, Rejection
from kmdist.job.job import Job
from kmdist.job.pixels import decode_piece
from kmdist.job.work import Work
from kmdist.store import LabelMap, RunWriter

MARKED_PASS = "marked"
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


def marked_tiled(job: Job, items: Sequence[LabelItem]) -> frozenset[str]:
    """Images larger than a block with transparent pixels: known before their maps are opened."""
    with_alpha = [
        replace(item.work, pieces=(piece,))
        for item in items
        for piece in item.work.pieces
        if not piece.whole and piece.source.channels == 4
    ]
    saved = job.writer.done(MARKED_PASS)
    if saved:
        return frozenset(saved[0])
    marked: set[str] = set()

    def found(position: int, transparent: bool) -> None:
        if transparent:
            marked.add(with_alpha[position].pieces[0].source.name)

    run_pass(job.pool, has_transparent, with_alpha, on_done=found)
    job.writer.mark_done(MARKED_PASS, 0, sorted(marked))
    return frozenset(marked)


def has_transparent(work: Work) -> bool:
    """Whether any pixel of a tile is transparent; unreadable tiles are met again later."""
    try:
        return decode_piece(work.pieces[0]).unclustered is not None
    except ImageError:
        return False


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
