"""Gaussian windows over cells: of magnitudes, and of texton histograms (numba).

Both are separable sums over the cells that exist, divided by the weights that fell on them, so
that the image's edge needs no padding and a tile with enough cells around it gives the same as
the whole image, to the bit.
"""

# mypy: disable-error-code="no-untyped-def"
import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kmdist.filters.cells import CELL
from kmdist.filters.grid import within
from kmdist.filters.tiles import Box

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


def pool(cells: NDArray[np.float32], have: Box, want: Box, sigma_px: float) -> NDArray[np.float32]:
    """Gaussian mean of cells.

    Parameters
    ----------
    cells : (rows, columns, d) float32, for the cells of `have`.
    have, want : boxes of cells; `have` holds `want` and, within the image, `window_radius` more.
    sigma_px : standard deviation of the window in pixels.

    Returns
    -------
    (rows, columns, d) float32 for the cells of `want`.
    """
    weights = window_weights(sigma_px)
    rows, columns = within(want, have)
    if len(weights) == 1:
        return np.ascontiguousarray(cells[rows, columns])
    height, width, depth = cells.shape
    flat = np.ascontiguousarray(cells).reshape(height, width * depth)
    out = np.empty((rows.stop - rows.start, columns.stop - columns.start, depth), np.float32)
    for start in range(0, len(out), BAND_ROWS):
        band = out[start : start + BAND_ROWS]
        upright = np.empty((len(band), width, depth), np.float32)
        _pool_down(flat, weights, rows.start + start, upright.reshape(len(band), width * depth))
        _pool_across(upright, weights, columns.start, band)
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
