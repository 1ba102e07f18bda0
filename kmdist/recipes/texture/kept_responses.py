"""Filter responses written beside the labels: ``images/NAME/responses`` (row, column, filter)."""

import numpy as np

from kmdist.filters import tile_responses, with_halo
from kmdist.filters.grey import grey
from kmdist.filters.tiles import Box, read_window
from kmdist.filters.tutorial import BANK as TUTORIAL_BANK
from kmdist.images import Window, to_rgb
from kmdist.job.block_pass import writing_stage
from kmdist.job.block_results import LeftOut
from kmdist.job.work import Piece, Work, each_piece, read_piece
from kmdist.recipes.texture.measuring import box_of, shape_of
from kmdist.recipes.texture.model import Texture
from kmdist.store import RunWriter

CHUNK_PX = 256
"""Side of a chunk: all filters of 256² px, 12.6 MB before compression."""


def write_responses(writer: RunWriter, piece: Piece, texture: Texture) -> None:
    """Write the responses of a preset's bank to one image or tile; values 0 … 1 in, float32 out.

    Names of dimensions are not y and x: the label pyramid below has y and x of other sizes.
    """
    bank = TUTORIAL_BANK if texture.is_tutorial else texture.features.bank
    shape = shape_of(piece)
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
    rgb = to_rgb(read_piece(Piece(piece.source, Window(*read))))[0]
    values = grey(rgb, white=255)
    for window in _chunks(box):
        padded = with_halo(values, window, bank.halo, origin=read[:2], image_shape=shape)
        writer.write_region(spec, (window[0], window[1], 0), tile_responses(padded, bank))


def write_block_responses(work: Work, texture: Texture, writer: RunWriter) -> LeftOut:
    """Write the responses of all pieces of a block; a task."""
    _, rejected = each_piece(work.pieces, lambda piece: write_responses(writer, piece, texture))
    return LeftOut(rejected)


RESPONSES = writing_stage(
    "responses", write_block_responses, counted="its texture counts in the fit"
)


def _chunks(box: Box) -> list[Box]:
    y0, x0, y1, x1 = box
    return [
        (y, x, min(y + CHUNK_PX, y1), min(x + CHUNK_PX, x1))
        for y in range(y0, y1, CHUNK_PX)
        for x in range(x0, x1, CHUNK_PX)
    ]
