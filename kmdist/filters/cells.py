"""Cells of 4 × 4 px: where those of a tile lie, magnitudes averaged over them, Gaussian windows.

Features live on a grid of `CELL` × `CELL` pixel cells anchored at the image's origin, so that a
cell means the same in every tiling; the last cells of an image whose sides are no multiples of 4
are smaller. Magnitudes are averaged over cells as soon as they exist, which makes everything after
them sixteen times smaller. Coordinates of boxes are (y0, x0, y1, x1), in pixels or in cells, always
of the whole image.

Windows, of magnitudes and of texton histograms, are separable sums over the cells that exist,
divided by the weights that fell on them, so that the image's edge needs no padding and a tile with
enough cells around it gives the same as the whole image, to the bit. Windows of colour photographs
end at edges: the weight of a cell falls with its difference in colour, so that what lies on the
other side of a border hardly counts (C. Tomasi, R. Manduchi, 1998; separable: T. Pham, L. van
Vliet, 2005).
"""

# mypy: disable-error-code="no-untyped-def"
import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kmdist.filters.tiles import Box, Piece, read_window

CELL = 4
"""Pixels along a side of a cell. A constant: with a variable the loops take twice as long."""


@njit(nogil=True, cache=True)
def average_pair(values, box, cells, cell_y, cell_x, first, second):
    """Mean |even columns| and mean |odd columns| of each cell, as two features.

    Parameters
    ----------
    values : (h, 2w) float32, C-contiguous: responses of two kernels, interleaved as in complex64.
    box : y0, x0, y1, x1: the part of the w columns and h rows to take.
    cells : (rows, columns, d) float32, C-contiguous, written from (cell_y, cell_x) on.
    first, second : which features; `second` -1: none.
    """
    y0, x0, y1, x1 = box
    width = x1 - x0
    full = width // CELL
    sums = np.empty(2 * width, np.float32)
    keep_second = second >= 0
    for cy in range((y1 - y0 + CELL - 1) // CELL):
        top = y0 + cy * CELL
        rows = min(CELL, y1 - top)
        if rows == CELL:
            a, b = values[top, 2 * x0 : 2 * x1], values[top + 1, 2 * x0 : 2 * x1]
            c, d = values[top + 2, 2 * x0 : 2 * x1], values[top + 3, 2 * x0 : 2 * x1]
            for i in range(len(sums)):
                sums[i] = (abs(a[i]) + abs(b[i])) + (abs(c[i]) + abs(d[i]))
        else:
            sums[:] = 0
            for y in range(top, y1):
                a = values[y, 2 * x0 : 2 * x1]
                for i in range(len(sums)):
                    sums[i] += abs(a[i])
        target = cells[cell_y + cy]
        scale = np.float32(1.0 / (rows * CELL))
        for cx in range(full):
            i = 2 * CELL * cx
            target[cell_x + cx, first] = scale * (
                (sums[i] + sums[i + 2]) + (sums[i + 4] + sums[i + 6])
            )
            if keep_second:
                target[cell_x + cx, second] = scale * (
                    (sums[i + 1] + sums[i + 3]) + (sums[i + 5] + sums[i + 7])
                )
        if full * CELL < width:
            scale = np.float32(1.0 / (rows * (width - full * CELL)))
            target[cell_x + full, first] = scale * sums[2 * CELL * full :: 2].sum()
            if keep_second:
                target[cell_x + full, second] = scale * sums[2 * CELL * full + 1 :: 2].sum()


@njit(nogil=True, cache=True)
def average_modulus(values, box, cells, cell_y, cell_x, feature):
    """Mean √(even² + odd²) of each cell, for the two parts of a quadrature pair.

    Parameters
    ----------
    values, box, cells, cell_y, cell_x : as for `average_pair`.
    feature : which feature of the cells.
    """
    y0, x0, y1, x1 = box
    width = x1 - x0
    full = width // CELL
    sums = np.empty(width, np.float32)
    for cy in range((y1 - y0 + CELL - 1) // CELL):
        top = y0 + cy * CELL
        rows = min(CELL, y1 - top)
        sums[:] = 0
        for y in range(top, top + rows):
            row = values[y, 2 * x0 : 2 * x1]
            for x in range(width):
                even, odd = row[2 * x], row[2 * x + 1]
                sums[x] += np.sqrt(even * even + odd * odd)
        target = cells[cell_y + cy]
        scale = np.float32(1.0 / (rows * CELL))
        for cx in range(full):
            x = CELL * cx
            target[cell_x + cx, feature] = scale * (
                (sums[x] + sums[x + 1]) + (sums[x + 2] + sums[x + 3])
            )
        if full * CELL < width:
            scale = np.float32(1.0 / (rows * (width - full * CELL)))
            target[cell_x + full, feature] = scale * sums[CELL * full :].sum()


def average_cells(piece: Piece, cells: NDArray[np.float32], *, quadrature: bool) -> None:
    """Write the mean magnitudes of a piece's two responses over cells of 4 × 4 px.

    Parameters
    ----------
    cells : (rows, columns, features) float32, C-contiguous, of the whole tile.
    quadrature : one feature for the pair, its modulus; else one for each kernel.
    """
    values = piece.buffer.view(np.float32)
    y, x = piece.rows.start // CELL, piece.columns.start // CELL
    if quadrature:
        average_modulus(values, piece.box, cells, y, x, piece.first // 2)
    else:
        average_pair(values, piece.box, cells, y, x, piece.first, piece.second)


def grid_shape(image_shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of cells in an image; the last of each may be smaller."""
    return -(-image_shape[0] // CELL), -(-image_shape[1] // CELL)


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
        return read_window(self.own, 1, self.shape)

    @property
    def source(self) -> Box:
        """Cells whose magnitudes are needed."""
        return read_window(self.own, self.reach, self.shape)

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


TRUNCATE = 3.0
"""Standard deviations that a window reaches."""


BAND_ROWS = 64
"""Rows of cells pooled at a time: what is half pooled stays small."""


def window_weights(sigma_px: float) -> NDArray[np.float32]:
    """Weights of cells −r … r for a Gaussian of `sigma_px` pixels over the pixels themselves.

    The mean over a cell of 4 pixels has itself a variance of (4² − 1)/12 px². Below that there is
    nothing to add: one weight of 1.
    """
    variance = sigma_px**2 - (CELL**2 - 1) / 12
    if variance <= 0:
        return np.ones(1, np.float32)
    sigma = math.sqrt(variance) / CELL
    radius = max(1, math.ceil(TRUNCATE * sigma))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    return (weights / weights.sum()).astype(np.float32)


def window_radius(sigma_px: float) -> int:
    """Cells that `window_weights` reaches to each side."""
    return len(window_weights(sigma_px)) // 2


def pool(
    cells: NDArray[np.float32],
    have: Box,
    want: Box,
    sigma_px: float,
    *,
    colors: NDArray[np.float32] | None = None,
    edge: float = 0.0,
) -> NDArray[np.float32]:
    """Gaussian mean of cells.

    Parameters
    ----------
    cells : (rows, columns, d) float32, for the cells of `have`.
    have, want : boxes of cells; `have` holds `want` and, within the image, `window_radius` more.
    sigma_px : standard deviation of the window in pixels.
    colors : (rows, columns, 3) float32 of the same cells, whose edges windows end at.
    edge : difference in colour at which a cell counts a quarter; 0: windows reach across edges.

    Returns
    -------
    (rows, columns, d) float32 for the cells of `want`.
    """
    weights = window_weights(sigma_px)
    rows, columns = within(want, have)
    if len(weights) == 1:
        return np.ascontiguousarray(cells[rows, columns])
    height, width, depth = cells.shape
    cells = np.ascontiguousarray(cells)
    out = np.empty((rows.stop - rows.start, columns.stop - columns.start, depth), np.float32)
    guide = None if colors is None or not edge else colors / np.float32(edge)
    for start in range(0, len(out), BAND_ROWS):
        band = out[start : start + BAND_ROWS]
        upright = np.empty((len(band), width, depth), np.float32)
        first = rows.start + start
        if guide is None:
            flat = cells.reshape(height, width * depth)
            _pool_down(flat, weights, first, upright.reshape(len(band), width * depth))
            _pool_across(upright, weights, columns.start, band)
        else:
            _pool_alike_down(cells, guide, weights, first, upright)
            _pool_alike_across(upright, guide[first:], weights, columns.start, band)
    return out


def texton_histograms(
    textons: NDArray[np.uint8], have: Box, want: Box, sigma_px: float, n_textons: int
) -> NDArray[np.float32]:
    """Square roots of the shares of each texton in a Gaussian window.

    The root makes Euclidean distance the Hellinger distance of histograms.

    Parameters
    ----------
    textons : (rows, columns) uint8 below `n_textons`, for the cells of `have`.
    have, want, sigma_px : as for `pool`.

    Returns
    -------
    (rows, columns, n_textons) float32 for the cells of `want`.
    """
    weights = window_weights(sigma_px)
    rows, columns = within(want, have)
    shape = (rows.stop - rows.start, columns.stop - columns.start, n_textons)
    shares = np.empty(shape, np.float32)
    for start in range(0, len(shares), BAND_ROWS):
        band = shares[start : start + BAND_ROWS]
        upright = np.zeros((len(band), textons.shape[1], n_textons), np.float32)
        _count_down(textons, weights, rows.start + start, upright)
        _pool_across(upright, weights, columns.start, band)
    return np.sqrt(shares, out=shares)


@njit(nogil=True, cache=True)
def _span(position, radius, length):
    """First and last neighbour that exist, and the norm's index range in the weights."""
    return max(0, position - radius), min(length - 1, position + radius)


@njit(nogil=True, cache=True)
def _pool_down(cells, weights, first, out):
    """Weighted mean over rows; 2,048 columns at a time, which the second-level cache holds."""
    radius = len(weights) // 2
    for x0 in range(0, cells.shape[1], 2048):
        x1 = min(x0 + 2048, cells.shape[1])
        for y in range(out.shape[0]):
            lowest, highest = _span(y + first, radius, cells.shape[0])
            target = out[y, x0:x1]
            target[:] = 0
            norm = np.float32(0)
            for source in range(lowest, highest + 1):
                weight = weights[source - y - first + radius]
                norm += weight
                row = cells[source, x0:x1]
                for i in range(x1 - x0):
                    target[i] += weight * row[i]
            scale = np.float32(1) / norm
            for i in range(x1 - x0):
                target[i] *= scale


@njit(nogil=True, cache=True)
def _pool_across(cells, weights, first, out):
    radius = len(weights) // 2
    depth = cells.shape[2]
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            lowest, highest = _span(x + first, radius, cells.shape[1])
            target = out[y, x]
            target[:] = 0
            norm = np.float32(0)
            for source in range(lowest, highest + 1):
                weight = weights[source - x - first + radius]
                norm += weight
                values = cells[y, source]
                for i in range(depth):
                    target[i] += weight * values[i]
            scale = np.float32(1) / norm
            for i in range(depth):
                target[i] *= scale


@njit(nogil=True, cache=True, inline="always")
def _likeness(a, b, c):
    """What a cell of another colour counts: 1 for no difference, 1/4 for one of 1."""
    fall = np.float32(1) + a * a + b * b + c * c
    return np.float32(1) / (fall * fall)


@njit(nogil=True, cache=True)
def _pool_alike_down(cells, guide, weights, first, out):
    """Mean over rows weighted with `_likeness`; 48 columns at a time, which the cache holds."""
    radius = len(weights) // 2
    norms = np.empty(48, np.float32)
    for x0 in range(0, cells.shape[1], 48):
        x1 = min(x0 + 48, cells.shape[1])
        for y in range(out.shape[0]):
            here = y + first
            lowest, highest = _span(here, radius, cells.shape[0])
            norms[:] = 0
            out[y, x0:x1] = 0
            for source in range(lowest, highest + 1):
                for x in range(x0, x1):
                    a = guide[source, x, 0] - guide[here, x, 0]
                    b = guide[source, x, 1] - guide[here, x, 1]
                    c = guide[source, x, 2] - guide[here, x, 2]
                    weight = weights[source - here + radius] * _likeness(a, b, c)
                    norms[x - x0] += weight
                    target, values = out[y, x], cells[source, x]
                    for i in range(cells.shape[2]):
                        target[i] += weight * values[i]
            for x in range(x0, x1):
                scale, target = np.float32(1) / norms[x - x0], out[y, x]
                for i in range(cells.shape[2]):
                    target[i] *= scale


@njit(nogil=True, cache=True)
def _pool_alike_across(cells, guide, weights, first, out):
    radius = len(weights) // 2
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            here = x + first
            lowest, highest = _span(here, radius, cells.shape[1])
            target = out[y, x]
            target[:] = 0
            norm = np.float32(0)
            for source in range(lowest, highest + 1):
                a = guide[y, source, 0] - guide[y, here, 0]
                b = guide[y, source, 1] - guide[y, here, 1]
                c = guide[y, source, 2] - guide[y, here, 2]
                weight = weights[source - here + radius] * _likeness(a, b, c)
                norm += weight
                values = cells[y, source]
                for i in range(cells.shape[2]):
                    target[i] += weight * values[i]
            scale = np.float32(1) / norm
            for i in range(cells.shape[2]):
                target[i] *= scale


@njit(nogil=True, cache=True)
def _count_down(textons, weights, first, out):
    radius = len(weights) // 2
    for y in range(out.shape[0]):
        lowest, highest = _span(y + first, radius, textons.shape[0])
        norm = np.float32(0)
        for source in range(lowest, highest + 1):
            norm += weights[source - y - first + radius]
        scale = np.float32(1) / norm
        for source in range(lowest, highest + 1):
            weight = weights[source - y - first + radius] * scale
            for x in range(out.shape[1]):
                out[y, x, textons[source, x]] += weight
