"""Tasks of the passes over a collection that shares its clusters: sums, samples, fields.

Each takes plain data and returns plain data, names the images it could not use instead of
failing for all. What tiles of large images have found, and responses that are kept, lie in the run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np

from kmdist.errors import KmdistError
from kmdist.filters import grey, read_window, tile_responses, with_halo
from kmdist.filters.cells import TileGrid, cells_of, within
from kmdist.filters.features import features_of_textons, tile_textons
from kmdist.filters.statistics import FeatureSums
from kmdist.filters.tiles import Box
from kmdist.images import Piece, Rejection, Window
from kmdist.job.block_pass import LeftOut, Stage, writing_stage
from kmdist.job.work import Work, each_piece
from kmdist.recipes.texture.measuring import (
    Field,
    Sample,
    Sampling,
    box_of,
    field_rows,
    grid_of,
    measure,
    own_part,
    read_box,
    read_moduli,
    sampled_moduli,
    shape_of,
)
from kmdist.recipes.texture.model import Textons, Texture
from kmdist.store import RunWriter

T = TypeVar("T")

COUNTED = "its texture counts in the fit"


@dataclass(frozen=True)
class TextureWork(Work):
    """One block with the place of its images in the collection.

    Parameters
    ----------
    firsts : of each piece, the number of its image's first row.
    """

    firsts: tuple[int, ...]

    def each(self, one: Callable[[Piece, int], T]) -> tuple[list[T], tuple[Rejection, ...]]:
        """What a function makes of each piece and its first number; see `each_piece`."""
        first = dict(zip(self.pieces, self.firsts, strict=True))
        return each_piece(self.pieces, lambda piece: one(piece, first[piece]))

    def _part(self, chosen: Sequence[int]) -> Self:
        return replace(super()._part(chosen), firsts=tuple(self.firsts[i] for i in chosen))


@dataclass(frozen=True)
class Summed:
    """Sums over the rows of some blocks, and a sample of the rows.

    Parameters
    ----------
    sums : None where there was no row.
    sample : of the rows, in the order of the blocks.
    marked : images with pixels that are not clustered.
    """

    sums: FeatureSums | None
    sample: Sample
    marked: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def of(field: Field, sums: FeatureSums, sample: Sample) -> "Summed":
        """Those of one field."""
        marked = () if field.unclustered is None else (field.piece.source.name,)
        return Summed(sums, sample, marked)

    @staticmethod
    def nothing(depth: int, dtype: Any, rejected: tuple[Rejection, ...] = ()) -> "Summed":
        """Of a block without images, whose rows would have so many numbers of a type."""
        return Summed(None, Sample.joined([], depth, dtype), (), rejected)

    @staticmethod
    def merge(parts: list["Summed"]) -> "Summed":
        """Those of neighbouring blocks, in their order."""
        with_rows = [part.sums for part in parts if part.sums is not None]
        first = parts[0].sample.rows
        return Summed(
            FeatureSums.merge(with_rows) if with_rows else None,
            Sample.joined([part.sample for part in parts], first.shape[1], first.dtype),
            tuple(name for part in parts for name in part.marked),
            tuple(rejection for part in parts for rejection in part.rejected),
        )


UNIT_PX = 1024
"""Tiles are multiples of this, but at the image's edge."""


@dataclass(frozen=True)
class Tiles:
    """Tiles of images that are read by tile.

    Parameters
    ----------
    windows : for each image, the tile at each square of `UNIT_PX`: (row, column) → window.
    """

    windows: Mapping[str, Mapping[tuple[int, int], Window]]

    @staticmethod
    def of(work: Iterable[Work]) -> "Tiles":
        """The tiles among the pieces of some blocks."""
        found: dict[str, dict[tuple[int, int], Window]] = {}
        for one in work:
            for piece in one.pieces:
                if not piece.whole:
                    squares = found.setdefault(piece.source.name, {})
                    window = piece.window
                    squares.update((square, window) for square in _squares(window))
        return Tiles(found)

    def texton_map(self, piece: Piece, grid: TileGrid, writer: RunWriter) -> np.ndarray:
        """Textons of the cells that a tile's windows reach, from its own map and its neighbours'.

        Returns
        -------
        (rows, columns) uint8 for the cells of ``grid.source``.

        Raises
        ------
        KmdistError : a map is gone.
        """
        y0, x0, y1, x1 = grid.source
        name = piece.source.name
        squares = self.windows[name]
        needed = dict.fromkeys(squares[square] for square in _squares(Window(*grid.source_window)))
        found = np.empty((y1 - y0, x1 - x0), np.uint8)
        for window in needed:
            state = writer.load_state(Piece(piece.source, window).state_name("textons"))
            if state is None:
                raise KmdistError(f"{name}: the textons of a tile are gone; run with --overwrite")
            have = cells_of((window.y0, window.x0, window.y1, window.x1))
            common = (max(y0, have[0]), max(x0, have[1]), min(y1, have[2]), min(x1, have[3]))
            found[within(common, grid.source)] = state["textons"][within(common, have)]
        return found


def _squares(window: Window) -> list[tuple[int, int]]:
    return [
        (row, column)
        for row in range(window.y0 // UNIT_PX, -(-window.y1 // UNIT_PX))
        for column in range(window.x0 // UNIT_PX, -(-window.x1 // UNIT_PX))
    ]


def save_texton_maps(work: Work, textons: Textons, texture: Texture, writer: RunWriter) -> LeftOut:
    """Find the textons of a tile's own cells and save them, 1/16 byte a pixel; a task."""

    def one(piece: Piece) -> None:
        found = tile_textons(read_moduli(texture, piece).values, textons.scorer)
        writer.save_state(piece.state_name("textons"), {"textons": found})

    return LeftOut(each_piece(work.pieces, one)[1])


MAP = writing_stage("maps", save_texton_maps)


@dataclass(frozen=True)
class Measuring:
    """How the tasks of a pass measure and sample.

    Parameters
    ----------
    fraction : share of the rows to sample.
    writer : reads the textons of tiles.
    tiles : of images that are read by tile.
    textons : that were fitted, where there are any.
    """

    texture: Texture
    fraction: float
    seed: int
    writer: RunWriter
    tiles: Tiles
    textons: Textons | None = None

    def sampling(self, first: int) -> Sampling:
        """For an image whose first row has this number."""
        return Sampling(self.fraction, self.seed, first)


@dataclass(frozen=True)
class MeasuredBlock:
    """The fields of one block, as kept between passes, and the images that have none.

    Parameters
    ----------
    fields : with the numbers of their images' first rows.
    """

    fields: tuple[tuple[int, Field], ...]
    rejected: tuple[Rejection, ...]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The pieces that have fields."""
        return tuple(field.piece for _, field in self.fields)

    def __sizeof__(self) -> int:
        """What Dask accounts for when it keeps the block in a worker's memory."""
        return sum(one.nbytes for _, one in self.fields) + 1024


def measure_block(work: TextureWork, shared: Measuring) -> MeasuredBlock:
    """Measure all pieces of a block."""
    fields, rejected = work.each(lambda piece, first: (first, measure_piece(piece, shared)))
    return MeasuredBlock(tuple(fields), rejected)


def measure_piece(piece: Piece, shared: Measuring, *, colors: bool = True) -> Field:
    """Read and measure one piece; textons of tiles are those that `save_texton_maps` saved.

    Parameters
    ----------
    colors : whether the pixels of the field are wanted; where they are not, a tile of known
        textons need not be read.

    Raises
    ------
    ImageError : the file cannot be used.
    """
    texture, textons = shared.texture, shared.textons
    if textons is None or piece.whole:
        return measure(texture, piece, textons)
    box = box_of(piece.window)
    rgb, unclustered = np.empty((0, 0, 3), np.uint8), None
    if colors or piece.source.channels == 4:
        rgb, unclustered = own_part(piece, box, *read_box(piece, box))
    grid = grid_of(texture, piece)
    found = shared.tiles.texton_map(piece, grid, shared.writer)
    return Field(piece, features_of_textons(found, grid, texture.features), rgb, unclustered)


def sum_moduli(work: TextureWork, shared: Measuring) -> Summed:
    """Sums and a sample of the moduli of one block, for textons."""
    texture = shared.texture

    def one(piece: Piece, first: int) -> Summed:
        moduli = read_moduli(texture, piece)
        return Summed.of(moduli, *sampled_moduli(texture, moduli, shared.sampling(first)))

    parts, rejected = work.each(one)
    nothing = Summed.nothing(texture.features.bank.n_features, np.float32, rejected)
    return Summed.merge([nothing, *parts])


def sum_features(block: TextureWork | MeasuredBlock, shared: Measuring) -> Summed:
    """Sums and a sample of the features of one block."""
    texture = shared.texture

    def of_field(field: Field, first: int) -> Summed:
        return Summed.of(field, *field_rows(texture, field, shared.sampling(first)))

    def one(piece: Piece, first: int) -> Summed:
        return of_field(measure_piece(piece, shared, colors=False), first)

    if isinstance(block, TextureWork):
        parts, rejected = block.each(one)
    else:
        parts, rejected = [of_field(field, first) for first, field in block.fields], block.rejected
    return Summed.merge([Summed.nothing(texture.depth, texture.dtype, rejected), *parts])


def textons_stage(texture: Texture) -> Stage:
    """The stage that sums moduli, and samples them to fit textons."""
    nothing = partial(Summed.nothing, texture.features.bank.n_features, np.float32)
    return Stage("textons", sum_moduli, Summed.merge, nothing, saved=Summed)


def features_stage(texture: Texture, *, keep: bool) -> Stage:
    """The stage that sums features, and samples them to fit clusters."""
    prepare = measure_block if keep else None
    nothing = partial(Summed.nothing, texture.depth, texture.dtype)
    return Stage("features", sum_features, Summed.merge, nothing, saved=Summed, prepare=prepare)


CHUNK_PX = 256
"""Side of a chunk: all filters of 256² px, 12.6 MB before compression."""


def write_responses(writer: RunWriter, piece: Piece, texture: Texture) -> None:
    """Write the responses of a preset's bank to one image or tile; values 0 … 1 in, float32 out.

    They are ``images/NAME/responses``. Names of dimensions are not y and x: the label pyramid below
    has y and x of other sizes.
    """
    bank, shape = texture.bank, shape_of(piece)
    spec = writer.create_array(
        f"{writer.image_group(piece.source.name)}/responses",
        (*shape, len(bank)),
        np.float32,
        chunks=(CHUNK_PX, CHUNK_PX, len(bank)),
        dimension_names=("row", "column", "filter"),
        attributes={"filters": list(bank.names)},
    )
    box = box_of(piece.window)
    read = read_window(box, bank.halo, shape)
    values = grey(read_box(piece, read)[0], white=255)
    for window in _chunks(box):
        padded = with_halo(values, window, bank.halo, origin=read[:2], image_shape=shape)
        writer.write_region(spec, (window[0], window[1], 0), tile_responses(padded, bank))


def write_block_responses(work: Work, texture: Texture, writer: RunWriter) -> LeftOut:
    """Write the responses of all pieces of a block; a task."""
    _, rejected = each_piece(work.pieces, lambda piece: write_responses(writer, piece, texture))
    return LeftOut(rejected)


RESPONSES = writing_stage("responses", write_block_responses, counted=COUNTED)


def _chunks(box: Box) -> list[Box]:
    y0, x0, y1, x1 = box
    return [
        (y, x, min(y + CHUNK_PX, y1), min(x + CHUNK_PX, x1))
        for y in range(y0, y1, CHUNK_PX)
        for x in range(x0, x1, CHUNK_PX)
    ]
