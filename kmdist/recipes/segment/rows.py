"""Rows of images of any channels: pixels with data counted, their rows kept or read anew."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kmdist.engine.kernels.frame import Moments, merge_moments, moments
from kmdist.engine.rows import Loader, Places, Rows
from kmdist.images import ImageSource, Piece, Rejection
from kmdist.job.block_pass import BlockPass, Stage
from kmdist.job.job import Job, NoUsableImageError
from kmdist.job.resumable_fit import kept_rows
from kmdist.job.work import Work, each_piece, read_piece
from kmdist.recipes.segment.model import Scaling
from kmdist.recipes.segment.rasters import read_raster
from kmdist.recipes.segment.scaling import Channels


@dataclass(frozen=True)
class Counted:
    """What the first pass finds in some blocks.

    Parameters
    ----------
    valid : pixels with data, by image. marked : images with pixels without any.
    moments : of the values of each block, by its index, where they were asked for.
    by_row : pixels with data in each row of a tile, by image, with the tile's first row and
        column.
    """

    valid: Mapping[str, int]
    marked: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    by_row: tuple[tuple[str, int, int, tuple[int, ...]], ...] = ()
    moments: Mapping[int, Moments] = field(default_factory=dict)

    @staticmethod
    def merge(parts: Sequence["Counted"]) -> "Counted":
        """Those of several blocks."""
        valid: dict[str, int] = {}
        for part in parts:
            for name, n in part.valid.items():
                valid[name] = valid.get(name, 0) + n
        return Counted(
            valid,
            tuple(dict.fromkeys(name for part in parts for name in part.marked)),
            tuple(one for part in parts for one in part.rejected),
            tuple(one for part in parts for one in part.by_row),
            {index: found for part in parts for index, found in part.moments.items()},
        )

    def places(self, items: Sequence[Work]) -> list[Places]:
        """Where the rows of blocks stand: image by image, row by row of pixels, whatever the tiles.

        So random numbers belong to pixels with data, by their order in the image.
        """
        names = sorted({name for work in items for name in work.names})
        before = dict(zip(names, np.cumsum([0, *(self.valid[n] for n in names)]), strict=False))
        tiles: dict[str, list[tuple[int, int, np.ndarray]]] = {}
        for name, y, x, counts in self.by_row:
            if name in before:
                tiles.setdefault(name, []).append((y, x, np.array(counts, np.int64)))
        starts = {
            (name, y, x): before[name] + found
            for name, listed in tiles.items()
            for (y, x), found in _row_starts(listed).items()
        }
        lengths = {(name, y, x): np.array(counts) for name, y, x, counts in self.by_row}
        places = []
        for work in items:
            keys = [(p.source.name, p.window.y0, p.window.x0) for p in work.pieces if not p.whole]
            names = [piece.source.name for piece in work.pieces if piece.whole]
            places.append(
                Places(
                    _joined([before[name] for name in names], [starts[key] for key in keys]),
                    _joined([self.valid[name] for name in names], [lengths[key] for key in keys]),
                )
            )
        return places


def _joined(numbers: Sequence[int], arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.array(numbers, np.int64), *arrays])


def _row_starts(
    tiles: Sequence[tuple[int, int, np.ndarray]],
) -> dict[tuple[int, int], np.ndarray]:
    """Of the tiles of an image, at (y, x): pixels with data before each of their rows."""
    height = max(y + len(counts) for y, _, counts in tiles)
    totals = np.zeros(height + 1, np.int64)
    for y, _, counts in tiles:
        totals[y + 1 : y + 1 + len(counts)] += counts
    before = np.cumsum(totals)[:-1]
    starts = {}
    for y, x, counts in sorted(tiles, key=lambda tile: tile[:2][::-1]):
        starts[y, x] = before[y : y + len(counts)].copy()
        before[y : y + len(counts)] += counts
    return starts


def read_valid(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """Values (h, w, c) of a piece, and which pixels have data (h, w)."""
    values, valid = read_piece(piece, read_raster)
    return values, valid


def with_data(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(n, c) values of the pixels that have data; not copied where all have."""
    rows = values.reshape(-1, values.shape[2])
    return rows if valid.all() else np.compress(valid.ravel(), rows, axis=0)


def count_block(work: Work, dtype: np.dtype | None = None) -> Counted:
    """Count pixels with data; a task.

    Parameters
    ----------
    dtype : of rows whose moments are wanted besides; None: they are not.
    """
    found: list[Moments] = []
    valid: dict[str, int] = {}
    marked, by_row = [], []

    def count(piece: Piece) -> None:
        name = piece.source.name
        values, there = read_valid(piece)
        if dtype is not None:
            found.append(moments(np.ascontiguousarray(with_data(values, there), dtype)))
        rows = np.count_nonzero(there, axis=1)
        valid[name] = int(rows.sum())
        if not piece.whole:
            by_row.append((name, piece.window.y0, piece.window.x0, tuple(rows.tolist())))
        if valid[name] < there.size:
            marked.append(name)

    _, rejected = each_piece(work.pieces, count)
    of_block = {work.index: _of_one_block(found)} if found else {}
    return Counted(valid, tuple(marked), rejected, tuple(by_row), of_block)


def _of_one_block(parts: Sequence[Moments]) -> Moments:
    """Of rows that follow one another in a block."""
    merged = merge_moments(list(parts))
    return replace(merged, lengths=(merged.n_rows,), counted=(merged.n_counted,))


COUNT = Stage(
    "count",
    count_block,
    Counted.merge,
    nothing=lambda rejected: Counted({}, (), rejected),
    noted=Counted,
)


MEASURE = replace(COUNT, noted=None)
"""Takes moments besides, which a manifest does not hold."""


def load_rows(item: tuple[Work, Scaling]) -> np.ndarray:
    """(n, c) scaled rows of the pixels of a block that have data."""
    work, scaling = item
    parts = []
    for piece in work.pieces:
        values, valid = read_valid(piece)
        parts.append(scaling.rows(with_data(values, valid)))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def channels_of(sources: Sequence[ImageSource]) -> Channels:
    """The channels of some images, whose names are equal, and the types of their rows.

    Rows are of the type of all images, or of one in which no scaled value is rounded away.
    """
    common = np.result_type(*[np.dtype(source.dtype) for source in sources])
    exact = common.itemsize <= 2 and common.kind in "ui"
    single = exact or common in (np.float32, np.float16)
    scaled = np.dtype(np.float32 if single else np.float64)
    side = max(max(source.width, source.plane_height) for source in sources)
    names: tuple[str, ...] = sources[0].names  # type: ignore[attr-defined]
    return Channels(names, common if exact else scaled, scaled, side)


def count_pixels(
    job: Job, blocks: Sequence[Work], group: str = "", *, dtype: np.dtype | None = None
) -> tuple[list[Work], Counted]:
    """The first pass: images that cannot be read, or hold no data, are left out.

    Parameters
    ----------
    dtype : see `count_block`.

    Raises
    ------
    NoUsableImageError : no image has a pixel with data.
    """
    arguments = [] if dtype is None else [dtype]
    passing = BlockPass(job, MEASURE if arguments else COUNT, group=group)
    found: Counted = passing.run(blocks, *arguments)
    empty = [name for name, n in found.valid.items() if not n and name not in job.rejected]
    job.reject([Rejection(name, "no_data", "none of its pixels has data") for name in empty])
    return without_rejected(blocks, job), found


def rows_under(job: Job, items: Sequence[Work], counted: Counted) -> Callable[[Scaling], Rows]:
    """Rows of all pixels with data by their scaling, read anew in every pass."""
    places = counted.places(items)
    known = [counted.moments.get(work.index) for work in items]
    whole = all(name not in job.rejected or not n for name, n in counted.valid.items())
    merged = merge_moments([m for m in known if m is not None]) if whole and all(known) else None

    def rows_of(scaling: Scaling) -> Rows:
        sources = [Loader(load_rows, (work, scaling)) for work in items]
        found = merged if scaling.plain else None
        return Rows(job.pool, sources, scaling.dtype, kept=False, places=places, moments=found)

    return rows_of


def keep_rows(
    job: Job, items: list[Work], counted: Counted, scaling: Scaling, group: str
) -> tuple[list[Work], Rows]:
    """Rows of all pixels with data, kept where they were read.

    Returns
    -------
    items : the blocks that have rows: without images that killed the workers which were to keep
        theirs.
    rows : of these.
    """

    def without(items: Sequence[Work], _: object) -> list[Work]:
        return without_rejected(items, job)

    left, sources = kept_rows(job, items, without, load_rows, scaling, group)
    with job.timed("rows"):
        places = counted.places(left)
        return list(left), Rows(job.pool, sources, scaling.dtype, kept=True, places=places)


def without_rejected(items: Sequence[Work], job: Job) -> list[Work]:
    """The blocks without images that were left out.

    Raises
    ------
    NoUsableImageError : none is left.
    """
    left = [work.without(job.rejected) for work in items]
    left = [work for work in left if work.pieces]
    if not left:
        listed = [f"  {r.image}: {r.reason} [{r.code}]" for r in list(job.rejected.values())[:20]]
        raise NoUsableImageError(
            "\n".join(["no image has a pixel that can be clustered:", *listed]),
            job.rejected.values(),
        )
    return left
