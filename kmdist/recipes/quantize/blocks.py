"""What a worker does with the pixels of one block: decode, count colours, look labels up.

Label maps are written there too, each chunk by one writer. Every function here is a task: it takes
plain data, returns plain data, and says which images it could not use instead of failing for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kmdist.images import Piece, Rejection
from kmdist.job.block_pass import Stage
from kmdist.job.label_maps import LabelSink, Taker, label_pieces
from kmdist.job.memory import DECODE_BYTES, LABEL_BYTES, Held
from kmdist.job.pixels import Pixels, decode_piece
from kmdist.job.work import Work, each_piece
from kmdist.recipes.quantize.fidelity import Fidelity, fidelity_of, merged
from kmdist.recipes.quantize.kernels.histogram import (
    N_CODES,
    TABLE_MEMORY_BYTES,
    ColorCounter,
    Colors,
    merge_colors,
)
from kmdist.recipes.quantize.kernels.label_table import ColorLabels
from kmdist.recipes.quantize.transparency import Transparency
from kmdist.recipes.quantize.weights import weighed

COUNT_FAN_IN, COUNT_AHEAD = 4, 2
"""Histograms merged by one task, and blocks in flight per thread: what waits is held in memory."""
COLOR_BYTES = 12
"""A distinct colour and its count."""
PHOTOGRAPHIC = 1 / 16
"""Distinct colours per pixel of a block of noisy photographs (Kodak 0.03, JPEG copies 0.06)."""


@dataclass(frozen=True)
class DecodedBlock:
    """The pixels of one block, as kept between passes, and the images that have none."""

    index: int
    pixels: tuple[Pixels, ...]
    rejected: tuple[Rejection, ...]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The pieces that have pixels."""
        return tuple(one.piece for one in self.pixels)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(one.nbytes for one in self.pixels)

    def __sizeof__(self) -> int:
        """What Dask accounts for when it keeps the block in a worker's memory."""
        return self.nbytes + 1024


@dataclass(frozen=True)
class Counted:
    """Distinct colours of some blocks, and what could not be counted.

    Parameters
    ----------
    marked : images with pixels that are not clustered.
    weighted : the colours as masks weigh them; empty without masks.
    """

    colors: Colors
    marked: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    weighted: Colors = field(default_factory=Colors.empty)


def decode_block(work: Work, transparency: Transparency) -> DecodedBlock:
    """Decode all pieces of a block, to be kept."""
    pixels, rejected = each_piece(
        work.pieces, lambda piece: weighed(decode_piece(piece, transparency.convert))
    )
    return DecodedBlock(work.index, tuple(pixels), rejected)


def count_block(block: Work | DecodedBlock, transparency: Transparency) -> Counted:
    """Count the distinct colours of one block; pieces that were not kept are read one at a time."""
    marked: list[str] = []
    weighted: list[Colors] = []
    kept = {} if isinstance(block, Work) else {one.piece: one for one in block.pixels}

    def count(piece: Piece) -> None:
        one = kept.get(piece) or weighed(decode_piece(piece, transparency.convert))
        if one.weights is not None:
            weighted.append(Colors.weighted(one.rgb, one.weights))
        counter.add(one.rgb, one.unclustered)
        if one.unclustered is not None and one.unclustered.any():
            marked.append(one.piece.source.name)

    with ColorCounter() as counter:
        _, rejected = each_piece(block.pieces, count)
        colors = counter.colors()
    if isinstance(block, DecodedBlock):
        rejected = block.rejected
    return Counted(colors, tuple(marked), rejected, merge_colors(weighted))


def merge_counted(parts: list[Counted]) -> Counted:
    """Join the counts of several blocks; integers, so exact in any order."""
    return Counted(
        merge_colors([part.colors for part in parts]),
        tuple(name for part in parts for name in part.marked),
        tuple(rejection for part in parts for rejection in part.rejected),
        merge_colors([part.weighted for part in parts]),
    )


def photographic_colors(pixels: int) -> int:
    """Distinct colours of so many pixels of photographs."""
    return int(PHOTOGRAPHIC * min(pixels, N_CODES))


COUNT = Stage(
    "count",
    count_block,
    merge_counted,
    nothing=lambda rejected: Counted(Colors.empty(), (), rejected),
    saved=Counted,
    fan_in=COUNT_FAN_IN,
    ahead=COUNT_AHEAD,
    held=Held(
        pixel=DECODE_BYTES,
        block=2 * COLOR_BYTES * PHOTOGRAPHIC,
        task=TABLE_MEMORY_BYTES,
        result=lambda pixels: COLOR_BYTES * photographic_colors(pixels),
    ),
)


@dataclass(frozen=True)
class Labelled:
    """What tasks say of the images that they have labelled.

    Parameters
    ----------
    fidelity : by name, one a layer.
    """

    fidelity: tuple[Mapping[str, Fidelity], ...] = ()
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def merge(parts: Sequence["Labelled"]) -> "Labelled":
        """Those of several blocks."""
        layers = zip(*(part.fidelity for part in parts if part.fidelity), strict=True)
        rejected = tuple(one for part in parts for one in part.rejected)
        return Labelled(tuple(map(merged, layers)), rejected)


def label_block(
    block: Work | DecodedBlock,
    sink: LabelSink,
    tables: Sequence[ColorLabels],
    transparency: Transparency,
) -> Labelled:
    """Label a block of whole images, one tile, or the tiles of a shard, and write it.

    Parameters
    ----------
    tables : labels of all colours, one a layer.
    """
    kept = {} if isinstance(block, Work) else {one.piece: one for one in block.pixels}

    def one(piece: Piece, labels: Taker) -> Labelled:
        pixels = kept.get(piece) or decode_piece(piece, transparency.convert)
        fidelity = []
        for position, table in enumerate(tables):
            of_layer, palette = table(pixels.rgb), sink.layers[position].palette
            near = fidelity_of(piece, pixels.rgb, of_layer, palette, pixels.unclustered)
            fidelity.append({piece.source.name: near})
            labels.put(piece, position, of_layer, pixels.unclustered)
        return Labelled(tuple(fidelity))

    # What was bad when it was decoded to be kept is left out already, and not to be said again.
    found, rejected = label_pieces(block.pieces, sink, one)
    return replace(Labelled.merge(found), rejected=rejected)


LABEL = Stage(
    "label",
    label_block,
    Labelled.merge,
    nothing=lambda rejected: Labelled((), rejected),
    noted=Labelled,
    counted="it is counted in the palette",
    held=Held(pixel=DECODE_BYTES + LABEL_BYTES),
)
