"""Tasks of the passes over a collection that shares its clusters: sums, samples, fields.

Each takes plain data and returns plain data, names the images it could not use instead of
failing for all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np

from kmdist.filters.statistics import FeatureSums
from kmdist.images import Rejection
from kmdist.job.block_pass import Stage
from kmdist.job.work import Piece, Work, each_piece
from kmdist.recipes.texture.measuring import (
    Field,
    box_of,
    grid_of,
    measure,
    measure_textons,
    own_part,
    read_box,
    read_moduli,
    texton_map_of,
)
from kmdist.recipes.texture.model import Textons, Texture
from kmdist.recipes.texture.sampling import Sample, Sampling, field_rows, sampled_moduli
from kmdist.recipes.texture.tiles import Tiles
from kmdist.store import RunWriter


@dataclass(frozen=True)
class TextureWork(Work):
    """One block with the place of its images in the collection.

    Parameters
    ----------
    firsts : of each piece, the number of its image's first row.
    """

    firsts: tuple[int, ...]

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
    first = dict(zip(work.pieces, work.firsts, strict=True))
    fields, rejected = each_piece(
        work.pieces, lambda piece: (first[piece], measure_piece(piece, shared))
    )
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
    if textons is None:
        return measure(texture, piece)
    if piece.whole:
        moduli = read_moduli(texture, piece)
        found = texton_map_of(moduli, textons)
        return measure_textons(texture, piece, found, moduli.rgb, moduli.unclustered)
    box = box_of(piece.window)
    rgb, unclustered = np.empty((0, 0, 3), np.uint8), None
    if colors or piece.source.channels == 4:
        rgb, unclustered = own_part(piece, box, *read_box(piece, box))
    found = shared.tiles.texton_map(piece, grid_of(texture, piece), shared.writer)
    return measure_textons(texture, piece, found, rgb, unclustered)


def sum_moduli(work: TextureWork, shared: Measuring) -> Summed:
    """Sums and a sample of the moduli of one block, for textons."""

    def one(piece: Piece, first: int) -> Summed:
        moduli = read_moduli(shared.texture, piece)
        sums, sample = sampled_moduli(shared.texture, moduli, shared.sampling(first))
        return _summed(piece, sums, sample, moduli.unclustered)

    return _sum_pieces(work, one, no_moduli(shared.texture))


def sum_features(block: TextureWork | MeasuredBlock, shared: Measuring) -> Summed:
    """Sums and a sample of the features of one block."""
    texture, nothing = shared.texture, no_features(shared.texture)

    def of_field(field: Field, first: int) -> Summed:
        sums, sample = field_rows(texture, field, shared.sampling(first))
        return _summed(field.piece, sums, sample, field.unclustered)

    def one(piece: Piece, first: int) -> Summed:
        return of_field(measure_piece(piece, shared, colors=False), first)

    if isinstance(block, TextureWork):
        return _sum_pieces(block, one, nothing)
    parts = [of_field(field, first) for first, field in block.fields]
    return merge_summed([replace(nothing, rejected=block.rejected), *parts])


def _sum_pieces(work: TextureWork, one: Callable[[Piece, int], Summed], nothing: Summed) -> Summed:
    """Sum the pieces of a block one after another."""
    first = dict(zip(work.pieces, work.firsts, strict=True))
    parts, rejected = each_piece(work.pieces, lambda piece: one(piece, first[piece]))
    return merge_summed([replace(nothing, rejected=rejected), *parts])


def _summed(
    piece: Piece, sums: FeatureSums, sample: Sample, unclustered: np.ndarray | None
) -> Summed:
    return Summed(sums, sample, () if unclustered is None else (piece.source.name,))


def no_moduli(texture: Texture, rejected: tuple[Rejection, ...] = ()) -> Summed:
    """What the pass for textons finds in a block without images."""
    depth = texture.features.bank.n_features
    return Summed(None, Sample.joined([], depth, np.float32), (), rejected)


def no_features(texture: Texture, rejected: tuple[Rejection, ...] = ()) -> Summed:
    """What the features pass finds in a block without images."""
    dtype = np.uint8 if texture.is_tutorial else np.float32
    return Summed(None, Sample.joined([], texture.depth, dtype), (), rejected)


def merge_summed(parts: list[Summed]) -> Summed:
    """Join the sums of neighbouring blocks, in their order."""
    with_rows = [part.sums for part in parts if part.sums is not None]
    first = parts[0].sample.rows
    return Summed(
        FeatureSums.merge(with_rows) if with_rows else None,
        Sample.joined([part.sample for part in parts], first.shape[1], first.dtype),
        tuple(name for part in parts for name in part.marked),
        tuple(rejection for part in parts for rejection in part.rejected),
    )


def textons_stage(texture: Texture) -> Stage:
    """The stage that sums moduli, and samples them to fit textons."""
    nothing = partial(no_moduli, texture)
    return Stage("textons", sum_moduli, merge_summed, nothing, saved=Summed)


def features_stage(texture: Texture, *, keep: bool) -> Stage:
    """The stage that sums features, and samples them to fit clusters."""
    prepare = measure_block if keep else None
    nothing = partial(no_features, texture)
    return Stage("features", sum_features, merge_summed, nothing, saved=Summed, prepare=prepare)
