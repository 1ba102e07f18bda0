"""Decoded pixels of pieces."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kmdist.errors import ImageError
from kmdist.images import Rejection, to_rgb8
from kmdist.job.work import Piece, Work, read_piece


@dataclass(frozen=True)
class Pixels:
    """One decoded piece.

    Parameters
    ----------
    rgb : (y, x, 3) uint8.
    unclustered : (y, x) bool, True where a pixel is transparent; None: nowhere.
    """

    piece: Piece
    rgb: np.ndarray
    unclustered: np.ndarray | None


def decode_piece(piece: Piece) -> Pixels:
    """Decode one piece to 8-bit RGB."""
    rgb, unclustered = to_rgb8(read_piece(piece))
    return Pixels(piece, rgb, unclustered)


def decode_pieces(work: Work) -> Iterator[Pixels | Rejection]:
    """Decode the pieces of a block, one at a time: a small image then stays in the cache."""
    for piece in work.pieces:
        try:
            yield decode_piece(piece)
        except ImageError as error:
            yield Rejection(piece.source.name, error.code, error.reason)
