"""The labelling task: look every pixel up and write label maps, each chunk by one writer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kmdist.images import Rejection
from kmdist.job.block_pass import Codec, Stage, pack_rejected, unpack_rejected
from kmdist.job.label_maps import LabelSink
from kmdist.job.memory import DECODE_BYTES, LABEL_BYTES, Held
from kmdist.job.pixels import decode_pieces
from kmdist.job.work import Work
from kmdist.recipes.quantize.blocks import DecodedBlock
from kmdist.recipes.quantize.fidelity import Fidelity, fidelity_of, merged
from kmdist.recipes.quantize.kernels.label_table import ColorLabels
from kmdist.recipes.quantize.transparency import Transparency


@dataclass(frozen=True)
class Labelled:
    """What tasks say of the images that they have labelled.

    Parameters
    ----------
    fidelity : by name, one a layer.
    """

    fidelity: tuple[Mapping[str, Fidelity], ...] = ()
    rejected: tuple[Rejection, ...] = ()

    def record(self) -> list[Any]:
        """As JSON, for the manifest."""
        return [[list(one.items()) for one in self.fidelity], pack_rejected(self.rejected)]

    @staticmethod
    def of_record(record: Sequence[Any]) -> "Labelled":
        """From the manifest of an interrupted run."""
        layers, rejected = record
        fidelity = tuple({name: Fidelity(*sums) for name, sums in rows} for rows in layers)
        return Labelled(fidelity, unpack_rejected(rejected))

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
    labels = sink.open(block.pieces)
    rejected: list[Rejection] = []
    found: list[list[dict[str, Fidelity]]] = [[] for _ in tables]
    # What was bad when it was decoded to be kept is left out already, and not to be said again.
    convert = transparency.convert
    for one in decode_pieces(block, convert) if isinstance(block, Work) else block.pixels:
        if isinstance(one, Rejection):
            rejected.append(one)
            continue
        for position, table in enumerate(tables):
            of_layer, palette = table(one.rgb), sink.layers[position].palette
            assert palette is not None
            fidelity = fidelity_of(one.piece, one.rgb, of_layer, palette, one.unclustered)
            found[position].append({one.piece.source.name: fidelity})
            labels.put(one.piece, position, of_layer, one.unclustered)
    if not rejected:
        labels.close()
    return Labelled(tuple(map(merged, found)), tuple(rejected))


LABEL = Stage(
    "label",
    label_block,
    Labelled.merge,
    nothing=lambda rejected: Labelled((), rejected),
    noted=Codec(Labelled.record, Labelled.of_record),
    counted="it is counted in the palette",
    held=Held(pixel=DECODE_BYTES + LABEL_BYTES),
)
