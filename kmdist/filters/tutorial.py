"""The walk-through's features, as it has them, for comparison only.

48 responses of the popular port's bank, stored in 8 bits by OpenCV: values below 0 become 0 and
those above 255 become 255. So half of every edge is lost, the Gaussians (which sum to 3.5 … 14)
saturate, and the fine filters' responses round to a few grey levels. Rows are pixels, not cells,
and nothing is pooled: k-means groups pixels by brightness. Adjusted Rand index about 0.1 where
`kmdist.filters.features.TEXTONS` reaches 0.9.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.filters.banks import leung_malik
from kmdist.filters.cell_labels import Scorer, nearest
from kmdist.filters.tiles import TUTORIAL_GREY, Box, grey, pieces, read_window, with_halo

BANK = leung_malik(variant="tutorial")


def reading_window(window: Box, image_shape: tuple[int, int]) -> Box:
    """The pixels that `tile_rows` needs for a window."""
    return read_window(window, BANK.halo, image_shape)


def _eight_bit_grey(pixels: NDArray[Any]) -> NDArray[np.float32]:
    return np.rint(grey(pixels, TUTORIAL_GREY))


def tile_rows(pixels: NDArray[Any], window: Box, image_shape: tuple[int, int]) -> NDArray[np.uint8]:
    """8-bit responses of a tile: (height, width, 48) uint8.

    Parameters
    ----------
    pixels : (h, w[, c]) of `reading_window`, uint8 or float32, 0 … 255.
    window : the tile in pixels, any.
    image_shape : rows and columns of the image.
    """
    read = reading_window(window, image_shape)
    padded = with_halo(pixels, window, BANK.halo, origin=read[:2], image_shape=image_shape)
    rows = np.empty((window[2] - window[0], window[3] - window[1], len(BANK)), np.uint8)
    for piece in pieces(padded, BANK, prepare=_eight_bit_grey):
        here = (piece.rows, piece.columns)
        rows[(*here, piece.first)] = np.clip(np.rint(piece.values.real), 0, 255)
        rows[(*here, piece.second)] = np.clip(np.rint(piece.values.imag), 0, 255)
    return rows


def label_rows(rows: NDArray[np.uint8], scorer: Scorer) -> NDArray[np.unsignedinteger]:
    """Nearest centroid of each pixel: (h, w, 48) → (h, w), a few rows of pixels at a time."""
    step = max(1, (1 << 18) // max(1, rows.shape[1]))
    parts = [
        nearest(scorer.scores(rows[start : start + step].astype(np.float32)))
        for start in range(0, len(rows), step)
    ]
    return np.concatenate(parts)
