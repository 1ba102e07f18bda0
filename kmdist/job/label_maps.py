"""Where labels go: whole image, window or shard; and the pass that writes them."""

import hashlib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from kmdist.engine.passes import run_pass
from kmdist.errors import ImageError, KmdistError
from kmdist.filters.regions import REGION_BYTES, join_small_regions
from kmdist.images import ImageSource, Piece, Rejection
from kmdist.images.blocks import is_sharded
from kmdist.job.block_pass import BlockPass, LeftOut, Stage, writing_stage
from kmdist.job.job import Job
from kmdist.job.memory import Held, Step
from kmdist.job.pixels import decode_piece
from kmdist.job.work import Work, each_piece
from kmdist.store import LabelMap, RunWriter
from kmdist.store.format.layout import SHARD, label_dtype

T = TypeVar("T")

SHARD_BYTES = 3
"""A pixel of a shard beside its labels: mask, the next level of its pyramid, compressed chunks."""

WRITE_BYTES = 12
"""A pixel of saved labels while they are written: as saved, renamed, as they will be, pyramid."""
_JOINING_BYTES = REGION_BYTES + 9
"""A pixel of a whole map whose small regions are joined: as it was stored, as int32, as it will be,
as it is saved; which have a label."""


@dataclass(frozen=True)
class Layer:
    """The label maps of one set of clusters.

    Parameters
    ----------
    prefix : group of the run for this k; empty for a single k.
    palette : (k, 3) uint8 sRGB.
    attributes : of each image of a set that is its own.
    """

    prefix: str
    k: int
    palette: np.ndarray
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def described(self, source: ImageSource) -> dict[str, Any]:
        """What a writer is told of the map of an image."""
        return {**vars(self), "source": source.path, "grid": source.grid}


@dataclass(frozen=True)
class LabelSink:
    """Where the tasks of a pass put their labels; sent to each worker once.

    Parameters
    ----------
    layers : one a set of clusters.
    marked : images with pixels that are not clustered.
    maps : label maps that are written by window, one a layer, by image.
    min_region : pixels of the smallest region of a label map; 0: any.
    """

    layers: tuple[Layer, ...]
    marked: frozenset[str]
    writer: RunWriter
    maps: Mapping[str, tuple[LabelMap, ...]]
    min_region: int = 0

    def open(self, pieces: Sequence[Piece]) -> "Labels":
        """What takes the labels of one block."""
        first = pieces[0]
        return Labels(self, () if first.whole or not is_sharded(first.source) else pieces)

    def describe(self, piece: Piece) -> tuple[LabelMap, ...]:
        """Write the metadata of a piece's image, once a layer."""
        source = piece.source
        return tuple(
            self.writer.open_labels(
                source.name,
                (source.height, source.width),
                marked=source.name in self.marked,
                **layer.described(source),
            )
            for layer in self.layers
        )


class Labels:
    """Labels of one block on their way into a run.

    Parameters
    ----------
    tiles : of a shard, which has one writer: they are gathered and written at once.
    """

    def __init__(self, sink: LabelSink, tiles: Sequence[Piece]) -> None:
        self._sink = sink
        self._shards: list[np.ndarray] = []
        self._unclustered: np.ndarray | None = None
        if not tiles:
            return
        self._maps = sink.maps[tiles[0].source.name]
        self._origin = min(p.window.y0 for p in tiles), min(p.window.x0 for p in tiles)
        end = max(p.window.y1 for p in tiles), max(p.window.x1 for p in tiles)
        self._shape = end[0] - self._origin[0], end[1] - self._origin[1]
        self._shards = [np.empty(self._shape, label_dtype(one.k, False)) for one in self._maps]

    def put(
        self, piece: Piece, position: int, labels: np.ndarray, unclustered: np.ndarray | None
    ) -> None:
        """Take the labels of one piece for one layer.

        Parameters
        ----------
        labels : (h, w) integers. unclustered : (h, w) True where a pixel has no label, or None.
        """
        sink, source, window = self._sink, piece.source, piece.window
        if sink.min_region and piece.whole:
            labels = np.ascontiguousarray(labels, np.int32)
            valid = np.ones(labels.shape, bool) if unclustered is None else ~unclustered
            join_small_regions(labels, valid, sink.min_region, source.planes)
        if self._shards:
            y0, x0 = self._origin
            place = np.s_[window.y0 - y0 : window.y1 - y0, window.x0 - x0 : window.x1 - x0]
            self._shards[position][place] = labels
            if unclustered is not None:
                if self._unclustered is None:
                    self._unclustered = np.zeros(self._shape, bool)
                self._unclustered[place] = unclustered
        elif source.name in sink.maps:
            label_map = sink.maps[source.name][position]
            sink.writer.write_label_window(label_map, window.y0, window.x0, labels, unclustered)
        else:
            described = sink.layers[position].described(source)
            sink.writer.write_labels(source.name, labels, unclustered=unclustered, **described)

    def close(self) -> None:
        """Write the shard, if there is one."""
        for number, shard in enumerate(self._shards):
            label_map, (y0, x0) = self._maps[number], self._origin
            self._sink.writer.write_label_window(label_map, y0, x0, shard, self._unclustered)


def open_sink(
    job: Job,
    work: Sequence[Work],
    layers: Sequence[Layer],
    marked: frozenset[str],
    min_region: int = 0,
) -> LabelSink:
    """A sink for some blocks; the maps of images that are written by window are begun."""
    tiled = {one.tile_of: one.pieces[0] for one in work if one.tile_of is not None}
    sink = LabelSink(tuple(layers), marked, job.writer, {}, min_region)
    maps = {name: sink.describe(piece) for name, piece in tiled.items() if name is not None}
    return replace(sink, maps=maps)


@dataclass(frozen=True)
class KeptLabels:
    """In place of a sink: saves labels until it is known in which order their clusters come.

    Parameters
    ----------
    ks : clusters of each layer.
    """

    ks: tuple[int, ...]
    writer: RunWriter

    def open(self, _: Sequence[Piece]) -> "KeptLabels":
        """What takes the labels of one block."""
        return self

    def put(
        self, piece: Piece, position: int, labels: np.ndarray, unclustered: np.ndarray | None
    ) -> None:
        """Save the labels of one piece for one layer; arrays as of `Labels.put`."""
        k = self.ks[position]
        kept = labels.astype(np.min_scalar_type(k))
        if unclustered is not None:
            kept[unclustered] = k
        self.writer.save_state(f"{piece.state_name('labels')}-{position}", {"labels": kept})

    def close(self) -> None:
        """Nothing is left to be written."""


class Unwritten:
    """Takes labels that are only counted."""

    def put(self, *_: Any) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is left to be written."""


Taker = Labels | KeptLabels | Unwritten


def label_pieces(
    pieces: Sequence[Piece],
    sink: LabelSink | KeptLabels | None,
    one: Callable[[Piece, Taker], T],
) -> tuple[list[T], tuple[Rejection, ...]]:
    """Label whole images, one tile, or the tiles of a shard, and write or keep the labels.

    Parameters
    ----------
    sink : where labels go; None: nowhere.
    one : labels a piece, and puts its labels; it raises `ImageError` where it cannot be used.

    Returns
    -------
    What it returned of each piece, and the images that cannot be used.
    """
    labels = sink.open(pieces) if sink is not None else Unwritten()
    found, rejected = each_piece(pieces, lambda piece: one(piece, labels))
    if not rejected or pieces[0].whole:
        labels.close()
    return found, rejected


def write_block(work: Work, sink: LabelSink, orders: Sequence[np.ndarray]) -> LeftOut:
    """Write the saved labels of a block under their clusters' new names; a task."""
    labels = sink.open(work.pieces)
    for piece in work.pieces:
        for position, order in enumerate(orders):
            saved = sink.writer.load_state(f"{piece.state_name('labels')}-{position}")
            if saved is None:
                raise KmdistError(f"{piece.source.name}: its labels are gone; run with --overwrite")
            kept, new = saved["labels"], np.append(np.argsort(order), 0).astype(np.int32)
            unclustered = kept == len(order)
            labels.put(piece, position, new[kept], unclustered if unclustered.any() else None)
    labels.close()
    return LeftOut()


WRITE = writing_stage("write", write_block)


def label_items(
    work: Sequence[Work], rejected: Container[str], kept: dict[int, Any] | None = None
) -> list[Work]:
    """Blocks of the labelling pass: those there are, but all tiles of a shard together.

    A shard has one writer, and a tile may be smaller than a shard.

    Parameters
    ----------
    rejected : names of images that get no labels.
    kept : by block; tiles that are taken together are dropped from it.
    """
    groups: dict[Any, list[Work]] = {}
    for one in work:
        source, window = one.pieces[0].source, one.pieces[0].window
        key: Any = one.index
        if one.in_shard:
            plane, y0 = divmod(window.y0, source.plane_height)
            key = one.tile_of, plane, y0 // SHARD, window.x0 // SHARD
        groups.setdefault(key, []).append(one)
    items = []
    for group in groups.values():
        if kept and len(group) > 1:
            for one in group:
                kept.pop(one.index, None)
        pieces = tuple(piece for one in group for piece in one.pieces)
        items.append(Work(group[0].index, pieces).without(rejected))
    return [item for item in items if item.pieces]


def shard_bytes(work: Sequence[Work], ks: Sequence[int]) -> int:
    """Of the labels of the largest shard while it is written, with so many clusters each."""
    areas = [
        min(source.height, SHARD) * min(source.width, SHARD)
        for source in {one.pieces[0].source for one in work if one.in_shard}
    ]
    labels = sum(label_dtype(k, True).itemsize for k in ks)
    return max(areas, default=0) * (SHARD_BYTES + labels)


def write_steps(work: Sequence[Work], ks: Sequence[int], *, regions: bool = False) -> list[Step]:
    """What writes labels that were kept, of so many clusters each; it may join regions."""
    items, tiled = label_items(work, ()), tiles_of(work)
    pixel = _JOINING_BYTES if regions else WRITE_BYTES
    steps = [WRITE.step(items, Held(pixel=pixel, task=shard_bytes(work, ks)), reads=False)]
    if regions and tiled:
        images = [
            Work(tiles[0].index, tuple(piece for one in tiles for piece in one.pieces))
            for tiles in tiled.values()
        ]
        maps = [image for image in images for _ in ks]
        steps.append(Step("regions", Held(block=_JOINING_BYTES), maps, len(maps), reads=False))
    return steps


def kept_label_bytes(work: Sequence[Work], ks: Sequence[int]) -> int:
    """Of what `KeptLabels` saves."""
    itemsize = sum(np.min_scalar_type(k).itemsize for k in ks)
    return itemsize * sum(one.pixels for one in work)


def tiles_of(blocks: Sequence[Work]) -> dict[str, list[Work]]:
    """The blocks of each image larger than a block, by its name."""
    tiled: dict[str, list[Work]] = {}
    for work in blocks:
        if work.tile_of is not None:
            tiled.setdefault(work.tile_of, []).append(work)
    return tiled


def label_blocks(
    job: Job,
    stage: Stage,
    items: Sequence[Work],
    sink: LabelSink | KeptLabels | None,
    *arguments: Any,
    group: str = "",
    kept: dict[int, Any] | None = None,
) -> Any:
    """A pass of a stage whose task labels, and the pyramids of maps that are written by window.

    Parameters
    ----------
    sink : first argument of the task beside the block; None: nothing is written.
    """
    layers = sink.layers if isinstance(sink, LabelSink) else ()
    prefixes = [layer.prefix for layer in layers]
    passing = BlockPass(job, stage, group=group, prefixes=prefixes, kept=kept)
    result = passing.run(items, job.pool.broadcast(sink), *arguments)
    if not isinstance(sink, LabelSink):
        return result
    written = [m for name, maps in sink.maps.items() if name not in job.rejected for m in maps]
    if sink.min_region:
        with job.timed("regions"):
            run_pass(job.pool, _join_regions, written, job.writer, sink.min_region)
    _write_pyramids(job, written)
    return result


@dataclass(frozen=True)
class Marked:
    """Images that have transparent pixels."""

    names: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def merge(parts: Sequence["Marked"]) -> "Marked":
        """Those of several blocks."""
        return Marked(
            tuple(dict.fromkeys(name for part in parts for name in part.names)),
            tuple(one for part in parts for one in part.rejected),
        )


def has_transparent(work: Work) -> Marked:
    """The image of a tile if any pixel there is transparent; unreadable tiles are met later."""
    try:
        found = decode_piece(work.pieces[0]).unclustered is not None
    except ImageError:
        found = False
    return Marked(work.names if found else ())


MARK = Stage(
    "marked",
    has_transparent,
    Marked.merge,
    nothing=lambda rejected: Marked((), rejected),
    noted=Marked,
)
"""Finds images larger than a block with transparent pixels, before their maps are opened."""


def marked_tiled(job: Job, work: Sequence[Work]) -> frozenset[str]:
    """Images larger than a block with transparent pixels."""
    found: Marked = BlockPass(job, MARK).run(_tiled_with_alpha(work))
    return frozenset(found.names)


def mark_steps(work: Sequence[Work]) -> list[Step]:
    """The step of `marked_tiled`, if there is anything to look at."""
    with_alpha = _tiled_with_alpha(work)
    return [MARK.step(with_alpha)] if with_alpha else []


def _tiled_with_alpha(work: Sequence[Work]) -> list[Work]:
    return [w for w in work if w.tile_of is not None and w.pieces[0].source.channels == 4]


def _join_regions(label_map: LabelMap, writer: RunWriter, min_region: int) -> None:
    """Join the small regions of a whole map, which is held in memory.

    What is joined is saved before it is written, so that a resume never joins a map half joined.
    """
    name = f"regions-{hashlib.sha256(label_map.levels[0].key.encode()).hexdigest()[:16]}"
    saved = writer.load_state(name)
    if saved is None:
        stored = writer.read_labels(label_map)
        labels = stored.astype(np.int32)
        marked = stored == label_map.unclustered if label_map.unclustered is not None else None
        valid = np.ones(stored.shape, bool) if marked is None else ~marked
        labels[~valid] = 0
        join_small_regions(labels, valid, min_region, max(label_map.grid.planes, 1))
        joined = labels.astype(stored.dtype)
        joined[~valid] = stored[~valid]
        saved = {"labels": joined}
        writer.save_state(name, saved)
    joined = saved["labels"]
    unclustered = None if label_map.unclustered is None else joined == label_map.unclustered
    for y0, x0, y1, x1 in label_map.windows(0):
        part = np.s_[y0:y1, x0:x1]
        marks = None if unclustered is None else unclustered[part]
        writer.write_label_window(label_map, y0, x0, joined[part], marks)


def _write_pyramids(job: Job, maps: Sequence[LabelMap]) -> None:
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
