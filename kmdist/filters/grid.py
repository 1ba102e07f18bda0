"""Where a tile's cells lie, and what has to be read for them.

Features live on a grid of `CELL` × `CELL` pixel cells anchored at the image's origin, so that a
cell means the same in every tiling. Coordinates of boxes are (y0, x0, y1, x1), in pixels or in
cells, always of the whole image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kmdist.filters.cells import CELL
from kmdist.filters.tiles import Box, read_window


def grid_shape(image_shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of cells in an image; the last of each may be smaller."""
    return -(-image_shape[0] // CELL), -(-image_shape[1] // CELL)


def grown(box: Box, radius: int, shape: tuple[int, int]) -> Box:
    """A box with `radius` more on each side, as far as there is something."""
    return read_window(box, radius, shape)


def within(inner: Box, outer: Box) -> tuple[slice, slice]:
    """Slices that cut the box `inner` out of an array that covers `outer`."""
    return (
        slice(inner[0] - outer[0], inner[2] - outer[0]),
        slice(inner[1] - outer[1], inner[3] - outer[1]),
    )


@dataclass(frozen=True)
class TileGrid:
    """One tile of an image: its cells, the cells around it that count, the pixels to read.

    Filters work on pieces whose place follows from the size of the image alone, each computed
    whole or not at all, so that a response has the same bits in every tiling.

    Parameters
    ----------
    window : the tile in pixels; it begins at multiples of 4 and ends at such or at the image's
        edge.
    image_shape : rows and columns of the image.
    reach : cells that are needed to each side of the tile's own; 0 for no more than these.
    halo : pixels that filters reach to each side.
    piece : height and width of the pieces, multiples of 4.

    Raises
    ------
    ValueError : a window that cuts cells, is empty, or leaves the image.
    """

    window: Box
    image_shape: tuple[int, int]
    reach: int
    halo: int
    piece: tuple[int, int] = (CELL, CELL)

    def __post_init__(self) -> None:
        y0, x0, y1, x1 = self.window
        height, width = self.image_shape
        inside = 0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width
        starts = y0 % CELL == 0 and x0 % CELL == 0
        ends = (y1 % CELL == 0 or y1 == height) and (x1 % CELL == 0 or x1 == width)
        if not (inside and starts and ends):
            raise ValueError(
                f"window: expected a part of an image of {height} × {width} px that begins and "
                f"ends at multiples of {CELL} px or at its edge, got {self.window}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Cells of the whole image."""
        return grid_shape(self.image_shape)

    @property
    def own(self) -> Box:
        """The tile's own cells: each cell of the image belongs to one tile."""
        return cells_of(self.window)

    @property
    def labelled(self) -> Box:
        """Own cells and one around them, between which pixels interpolate."""
        return grown(self.own, 1, self.shape)

    @property
    def source(self) -> Box:
        """Cells whose magnitudes are needed."""
        return grown(self.own, self.reach, self.shape)

    @property
    def source_window(self) -> Box:
        """Pixels of the source cells."""
        y0, x0, y1, x1 = self.source
        height, width = self.image_shape
        return y0 * CELL, x0 * CELL, min(y1 * CELL, height), min(x1 * CELL, width)

    @property
    def filtered(self) -> Box:
        """Pixels of the pieces that hold the source cells."""
        y0, x0, y1, x1 = self.source_window
        tall, wide = self.piece
        height, width = self.image_shape
        return (
            y0 // tall * tall,
            x0 // wide * wide,
            min(-(-y1 // tall) * tall, height),
            min(-(-x1 // wide) * wide, width),
        )

    @property
    def read(self) -> Box:
        """Pixels to read: the pieces with the filters' halo, within the image."""
        return read_window(self.filtered, self.halo, self.image_shape)


def cells_of(window: Box) -> Box:
    """The cells of a window that does not cut any."""
    y0, x0, y1, x1 = window
    return y0 // CELL, x0 // CELL, -(-y1 // CELL), -(-x1 // CELL)


def sampled_cells(
    own: Box, shape: tuple[int, int], fraction: float, seed: int, *, first: int = 0
) -> NDArray[np.bool_]:
    """Which of a tile's own cells belong to a sample of a share of all cells.

    A Philox stream of the seed, indexed by the cell's number in the image (row by row) plus
    `first`, decides for each cell by itself: the sample is the same for every tiling.

    Parameters
    ----------
    own : the tile's cells; see `TileGrid`.
    shape : rows and columns of cells in the image.
    fraction : share of cells, 0 … 1; 1 takes all.
    seed : non-negative.
    first : number of the image's first cell in a collection.

    Returns
    -------
    (rows, columns) bool.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction: expected 0 … 1, got {fraction}")
    y0, x0, y1, x1 = own
    if fraction == 1:
        return np.ones((y1 - y0, x1 - x0), np.bool_)
    chosen = np.empty((y1 - y0, x1 - x0), np.bool_)
    limit = np.uint64(int(fraction * 2**53))
    for row in range(y0, y1):
        start = first + row * shape[1] + x0
        stream = np.random.Philox(key=seed).advance(start // 4)  # four draws a counter
        draws = stream.random_raw(x1 - x0 + start % 4)[start % 4 :]
        chosen[row - y0] = (draws >> np.uint64(11)) < limit
    return chosen
