"""The labelling task: look every pixel up and write label maps, each chunk by one writer."""

from collections.abc import Sequence

from kmdist.images import Rejection
from kmdist.job.block_pass import LeftOut, writing_stage
from kmdist.job.label_maps import LabelSink
from kmdist.job.memory import DECODE_BYTES, LABEL_BYTES, Held
from kmdist.job.pixels import decode_pieces
from kmdist.job.work import Work
from kmdist.recipes.quantize.blocks import DecodedBlock
from kmdist.recipes.quantize.kernels.label_table import ColorLabels
from kmdist.recipes.quantize.transparency import Transparency


def label_block(
    block: Work | DecodedBlock,
    sink: LabelSink,
    tables: Sequence[ColorLabels],
    transparency: Transparency,
) -> LeftOut:
    """Label a block of whole images, one tile, or the tiles of a shard, and write it.

    Parameters
    ----------
    tables : labels of all colours, one a layer.
    """
    labels = sink.open(block.pieces)
    rejected: list[Rejection] = []
    # What was bad when it was decoded to be kept is left out already, and not to be said again.
    convert = transparency.convert
    for one in decode_pieces(block, convert) if isinstance(block, Work) else block.pixels:
        if isinstance(one, Rejection):
            rejected.append(one)
            continue
        for position, table in enumerate(tables):
            labels.put(one.piece, position, table(one.rgb), one.unclustered)
    left_out = LeftOut(tuple(rejected))
    if not rejected:
        labels.close()
    return left_out


LABEL = writing_stage(
    "label",
    label_block,
    counted="it is counted in the palette",
    held=Held(pixel=DECODE_BYTES + LABEL_BYTES),
)
