"""Normalise small images of single characters, and describe them by pooled gradient directions.

Every function maps images to images or images to rows, one image at a time, so results do not
depend on how a stack is cut into blocks. Typical use, per block::

    upright = normalise(block)                          # (n, 28, 28) float32
    features = gradient_maps(upright)                   # (n, 784) float32

followed by `kmdist.engine.components` over all blocks. Intensities are light ink on dark paper.
"""

from functools import lru_cache

import cv2
import numpy as np
from numba import njit

import kmdist.kernel_cache  # noqa: F401  before kernels are decorated

SIZE_PX = 28
"""Side of a normalised image."""
BOX_PX = 24.0
"""Extent of the ink in a normalised image: four standard deviations along its longer side."""

_MAX_SHEAR = 1.0


def intensities(images: np.ndarray) -> np.ndarray:
    """Images as float32 in 0 … 1: integers divided by the largest value of their type.

    Parameters
    ----------
    images : (n, h, w) uint8, uint16, bool or floating point, the last unchanged.

    Returns
    -------
    (n, h, w) float32; a new array unless `images` is one already.

    Raises
    ------
    ValueError : not three axes, or another type.
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise ValueError(f"images have shape {images.shape}; expected (n, height, width)")
    if images.dtype == np.bool_:
        return images.astype(np.float32)
    if images.dtype in (np.uint8, np.uint16):
        return images.astype(np.float32) * np.float32(1.0 / np.iinfo(images.dtype).max)
    if np.issubdtype(images.dtype, np.floating):
        return images.astype(np.float32, copy=False)
    raise ValueError(f"images are {images.dtype}; expected uint8, uint16, bool or floating point")


@njit(nogil=True, cache=True)
def _frame(image):  # type: ignore[no-untyped-def]
    """Mass, centre of mass and second central moments of one image, in float64."""
    h, w = image.shape
    mass = sx = sy = sxx = sxy = syy = 0.0
    for i in range(h):
        m0 = m1 = m2 = 0.0
        for j in range(w):
            value = np.float64(image[i, j])
            m0 += value
            m1 += value * j
            m2 += value * j * j
        mass += m0
        sx += m1
        sxx += m2
        sy += m0 * i
        syy += m0 * i * i
        sxy += m1 * i
    if mass <= 0.0:
        return mass, 0.0, 0.0, 0.0, 0.0, 0.0
    cx, cy = sx / mass, sy / mass
    return mass, cx, cy, sxx / mass - cx * cx, sxy / mass - cx * cy, syy / mass - cy * cy


@njit(nogil=True, cache=True)
def _affine(image, size, box):  # type: ignore[no-untyped-def]
    """Scale x, scale y, shear and centre of the map from normalised to original pixels."""
    mass, cx, cy, xx, xy, yy = _frame(image)
    yy = max(yy, 0.5)
    shear = min(max(xy / yy, -_MAX_SHEAR), _MAX_SHEAR)
    xx = max(xx - 2.0 * shear * xy + shear * shear * yy, 0.1)
    height, width = 4.0 * np.sqrt(yy), 4.0 * np.sqrt(xx)
    ratio = min(height, width) / max(height, width)
    narrow = box * np.sqrt(np.sin(0.5 * np.pi * ratio))
    if height >= width:
        return mass, width / narrow, height / box, shear, cx, cy
    return mass, width / box, height / narrow, shear, cx, cy


@njit(nogil=True, cache=True)
def _cubic(t):  # type: ignore[no-untyped-def]
    """Weights of the four samples around a point `t` past the second (Keys, 1981; a = −0.75)."""
    a = -0.75
    u = 1.0 - t
    first = ((a * (t + 1.0) - 5.0 * a) * (t + 1.0) + 8.0 * a) * (t + 1.0) - 4.0 * a
    second = ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    third = ((a + 2.0) * u - (a + 3.0)) * u * u + 1.0
    return first, second, third, 1.0 - first - second - third


@njit(nogil=True, cache=True)
def _normalise(images, box, out):  # type: ignore[no-untyped-def]
    """The vertical scale does not depend on x: each output row is one blend of four input rows,
    sampled along x; 8 multiplications a pixel where a general affine map takes 16 and gathers."""
    h, w = images.shape[1:]
    size = out.shape[1]
    centre = (size - 1) / 2.0
    padding = 4
    row = np.zeros(w + 2 * padding, np.float32)
    for n in range(len(images)):
        image, result = images[n], out[n]
        mass, scale_x, scale_y, shear, cx, cy = _affine(image, size, box)
        if mass <= 0.0:
            result[:] = 0.0
            continue
        for i in range(size):
            dy = scale_y * (i - centre)
            y = cy + dy
            top = int(np.floor(y))
            if top < -2 or top > h:
                result[i] = 0.0
                continue
            row[:] = 0.0
            weights = _cubic(y - top)
            for tap in range(4):
                source = top - 1 + tap
                if 0 <= source < h:
                    weight = np.float32(weights[tap])
                    for j in range(w):
                        row[padding + j] += weight * image[source, j]
            start = cx + shear * dy - scale_x * centre
            for j in range(size):
                x = start + scale_x * j
                left = int(np.floor(x))
                value = np.float32(0.0)
                if -3 < left < w + 1:
                    a, b, c, d = _cubic(np.float32(x - left))
                    at = left + padding
                    value = row[at - 1] * np.float32(a) + row[at] * np.float32(b)
                    value += row[at + 1] * np.float32(c) + row[at + 2] * np.float32(d)
                result[i, j] = min(max(value, np.float32(0.0)), np.float32(1.0))


def normalise(images: np.ndarray) -> np.ndarray:
    """Shear each image upright about its centre of mass, centre it and scale it, in one map.

    The shear makes the covariance of x and y zero; sides are taken as four standard deviations
    of the ink, the longer scaled to `BOX_PX`, the shorter by the aspect-ratio rule √sin(πr/2) (Liu,
    Nakashima, Sako, Fujisawa, Pattern Recognition 37, 2004). Cubic interpolation.

    Parameters
    ----------
    images : (n, h, w), see `intensities`.

    Returns
    -------
    (n, `SIZE_PX`, `SIZE_PX`) float32 in 0 … 1; an image without ink stays blank.
    """
    pixels = np.ascontiguousarray(intensities(images))
    out = np.empty((len(pixels), SIZE_PX, SIZE_PX), np.float32)
    if pixels.size:
        _normalise(pixels, BOX_PX, out)
    return out


def deskew_tutorial(images: np.ndarray) -> np.ndarray:
    """Deskew as OpenCV's tutorial on handwritten digits does.

    skew = mu11 / mu02 of ``cv2.moments``, the affine map [[1, skew, −0.6·h·skew], [0, 1, 0]]
    applied inversely with cubic interpolation; images with \\|mu02\\| ≤ 0.01 stay as they are. The
    tutorial's translation of −0.6 h, not −0.5 h, shifts slanted digits sideways.

    Parameters
    ----------
    images : (n, h, w) uint8, uint16 or float32.

    Returns
    -------
    (n, h, w) of the same type.
    """
    out = np.ascontiguousarray(images).copy()
    height, width = out.shape[1:]
    for image in out:
        moments = cv2.moments(image)
        if abs(moments["mu02"]) <= 1e-2:
            continue
        skew = moments["mu11"] / moments["mu02"]
        matrix = np.array([[1.0, skew, -0.6 * height * skew], [0.0, 1.0, 0.0]], np.float32)
        image[:] = cv2.warpAffine(
            image, matrix, (width, height), flags=cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC
        )
    return out


DIRECTIONS = 16
"""Gradient directions over the full circle."""
CELLS = 7
"""Gaussian pooling cells along each side."""
POWER = 0.35
"""Exponent of pooled magnitudes: evens out the weight of thick and thin strokes."""

_LANES = 8
_FAST = {"contract", "nnan", "nsz", "reassoc"}


@lru_cache(maxsize=8)
def _pooling(size: int) -> np.ndarray:
    """(size, lanes) float32: the weight of each pixel in each cell, padded to whole vectors.

    The standard deviation is 0.6 of a cell, so that neighbours overlap.
    """
    sigma_px = 0.6 * size / CELLS
    centres = (np.arange(CELLS) + 0.5) * size / CELLS - 0.5
    weights = np.exp(-((np.arange(size)[:, None] - centres) ** 2) / (2.0 * sigma_px**2))
    padded = np.zeros((size, -(-CELLS // _LANES) * _LANES), np.float32)
    padded[:, :CELLS] = weights / weights.sum(axis=0)
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


def gradient_maps(images: np.ndarray) -> np.ndarray:
    """Pooled gradient magnitudes by direction.

    Sobel gradients, each shared linearly between the two nearest of `DIRECTIONS` over the full
    circle, pooled by overlapping Gaussians on a grid of `CELLS` × `CELLS`, raised to `POWER`
    (after Liu et al., 2004; Dalal and Triggs, 2005).

    Parameters
    ----------
    images : (n, s, s), square, usually from `normalise`.

    Returns
    -------
    (n, `DIRECTIONS` · `CELLS`²) float32 ≥ 0, in the order direction, row, column.

    Raises
    ------
    ValueError : images that are not square, or smaller than the grid.
    """
    pixels = np.ascontiguousarray(intensities(images))
    size = pixels.shape[1]
    if pixels.shape[2] != size or size < CELLS:
        raise ValueError(
            f"images of {pixels.shape[2]}×{size} px; expected squares of at least {CELLS} px"
        )
    out = np.empty((len(pixels), DIRECTIONS * CELLS**2), np.float32)
    if len(pixels):
        _gradient_maps(pixels, _pooling(size), CELLS, DIRECTIONS, out)
    return np.power(out, np.float32(POWER), out=out)
