"""Decoded pixels of pieces."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from kmdist.errors import ImageError
from kmdist.images import Rejection, to_rgb8
from kmdist.job.work import Piece, Work, read_piece

Convert = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""Makes 8-bit colours and a mask of decoded pixels, as `kmdist.images.to_rgb8`."""


@dataclass(frozen=True)
class Pixels:
    """One decoded piece.

    Parameters
    ----------
    rgb : (y, x, 3) uint8; with alpha (y, x, 4).
    unclustered : (y, x) bool, True where a pixel is transparent; None: nowhere.
    """

    piece: Piece
    rgb: np.ndarray
    unclustered: np.ndarray | None


def decode_piece(piece: Piece, convert: Convert = to_rgb8) -> Pixels:
    """Decode one piece to 8-bit colours."""
    rgb, unclustered = convert(read_piece(piece))
    return Pixels(piece, rgb, unclustered)


def decode_pieces(work: Work, convert: Convert = to_rgb8) -> Iterator[Pixels | Rejection]:
    """Decode the pieces of a block, one at a time: a small image then stays in the cache."""
    for piece in work.pieces:
        try:
            yield decode_piece(piece, convert)
        except ImageError as error:
            yield Rejection(piece.source.name, error.code, error.reason)
