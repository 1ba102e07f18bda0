"""Gradient magnitudes by direction, pooled over a grid of overlapping cells."""

from functools import lru_cache

import numpy as np
from numba import njit

from kmdist.recipes.digits.features.normalising import intensities

DIRECTIONS = 16
"""Gradient directions over the full circle."""
CELLS = 7
"""Gaussian pooling cells along each side."""
POWER = 0.35
"""Exponent of pooled magnitudes: evens out the weight of thick and thin strokes."""

_LANES = 8
_FAST = {"contract", "nnan", "nsz", "reassoc"}


@lru_cache(maxsize=8)
def _pooling(size: int, cells: int) -> np.ndarray:
    """(size, lanes) float32: the weight of each pixel in each cell, padded to whole vectors.

    The standard deviation is 0.6 of a cell, so that neighbours overlap.
    """
    sigma_px = 0.6 * size / cells
    centres = (np.arange(cells) + 0.5) * size / cells - 0.5
    weights = np.exp(-((np.arange(size)[:, None] - centres) ** 2) / (2.0 * sigma_px**2))
    padded = np.zeros((size, -(-cells // _LANES) * _LANES), np.float32)
    padded[:, :cells] = weights / weights.sum(axis=0)
    padded.setflags(write=False)
    return padded


@njit(nogil=True, cache=True, fastmath=_FAST)
def _polar(above, here, below, directions, magnitude, sector):  # type: ignore[no-untyped-def]
    """Sobel magnitude and direction, in units of the sector, of a row padded by one pixel.

    Branch-free, so that it vectorises; the arc tangent is a polynomial with an error below 1e-5
    (Hastings, 1955).
    """
    one, half = np.float32(1.0), np.float32(0.5)
    for j in range(magnitude.size):
        a, b, c = above[j], above[j + 1], above[j + 2]
        d, e = here[j], here[j + 2]
        f, g, h = below[j], below[j + 1], below[j + 2]
        gx = (c - a) + (e - d) + (e - d) + (h - f)
        gy = (f - a) + (g - b) + (g - b) + (h - c)
        magnitude[j] = np.sqrt(gx * gx + gy * gy)
        ax, ay = abs(gx), abs(gy)
        ratio = min(ax, ay) / max(max(ax, ay), np.float32(1e-20))
        square = ratio * ratio
        turn = (np.float32(0.0208351) * square - np.float32(0.0851330)) * square
        turn = ((turn + np.float32(0.1801410)) * square - np.float32(0.3302995)) * square
        turn = (turn + np.float32(0.9998660)) * ratio * np.float32(0.5 / np.pi)
        turn = np.float32(0.25) - turn if ay > ax else turn
        turn = half - turn if gx < 0 else turn
        turn = one - turn if gy < 0 else turn
        sector[j] = turn * directions


@njit(nogil=True, cache=True, fastmath=_FAST)
def _scatter(magnitude, sector, weights, columns):  # type: ignore[no-untyped-def]
    """Share each pixel between its two directions and, down its column, among the cells."""
    directions = columns.shape[0]
    for j in range(magnitude.size):
        m = magnitude[j]
        if m < np.float32(1e-6):
            continue
        low = int(sector[j])
        far = m * (sector[j] - np.float32(low))
        low = low % directions
        high = low + 1 if low + 1 < directions else 0
        near = m - far
        for lane in range(weights.size):
            columns[low, j, lane] += near * weights[lane]
            columns[high, j, lane] += far * weights[lane]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _gradient_maps(images, pooling, cells, directions, out):  # type: ignore[no-untyped-def]
    n, h, w = images.shape
    lanes = pooling.shape[1]
    padded = np.empty((h + 2, w + 2), np.float32)
    columns = np.empty((directions, w, lanes), np.float32)
    pooled = np.empty(lanes, np.float32)
    magnitude, sector = np.empty(w, np.float32), np.empty(w, np.float32)
    for k in range(n):
        padded[1:-1, 1:-1] = images[k]
        padded[0, 1:-1], padded[-1, 1:-1] = images[k, 0], images[k, -1]
        padded[:, 0], padded[:, -1] = padded[:, 1], padded[:, -2]
        columns[:] = 0.0
        for i in range(h):
            _polar(padded[i], padded[i + 1], padded[i + 2], directions, magnitude, sector)
            _scatter(magnitude, sector, pooling[i], columns)
        for q in range(directions):
            for cell in range(cells):
                pooled[:] = 0.0
                for j in range(w):
                    weight = pooling[j, cell]
                    for lane in range(lanes):
                        pooled[lane] += weight * columns[q, j, lane]
                for lane in range(cells):
                    out[k, (q * cells + lane) * cells + cell] = pooled[lane]


def gradient_maps(
    images: np.ndarray,
    *,
    directions: int = DIRECTIONS,
    cells: int = CELLS,
    power: float = POWER,
) -> np.ndarray:
    """Pooled gradient magnitudes by direction.

    Sobel gradients, each shared linearly between the two nearest of `directions` over the full
    circle, pooled by overlapping Gaussians on a grid of `cells` × `cells`, raised to `power`
    (after Liu et al., 2004; Dalal and Triggs, 2005).

    Parameters
    ----------
    images : (n, s, s), square, usually from `normalise`.

    Returns
    -------
    (n, directions · cells²) float32 ≥ 0, in the order direction, row, column.

    Raises
    ------
    ValueError : images that are not square, or smaller than the grid.
    """
    pixels = np.ascontiguousarray(intensities(images))
    size = pixels.shape[1]
    if pixels.shape[2] != size or size < cells:
        raise ValueError(
            f"images of {pixels.shape[2]}×{size} px; expected squares of at least {cells} px"
        )
    out = np.empty((len(pixels), directions * cells * cells), np.float32)
    if len(pixels):
        _gradient_maps(pixels, _pooling(size, cells), cells, directions, out)
    return out if power == 1.0 else np.power(out, np.float32(power), out=out)


def hog(images: np.ndarray, *, directions: int = 9, cell_px: int = 7) -> np.ndarray:
    """scikit-image's histogram of oriented gradients, for comparison with `gradient_maps`.

    Returns
    -------
    (n, features) float32
    """
    from skimage.feature import hog as one

    pixels = intensities(images)
    rows = [
        one(image, directions, (cell_px, cell_px), (2, 2), block_norm="L2-Hys") for image in pixels
    ]
    return np.asarray(rows, dtype=np.float32)
