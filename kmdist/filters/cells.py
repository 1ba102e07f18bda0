"""Inner loops on responses: the product of spectra, and magnitudes averaged over cells (numba).

A **cell** is a square of 4 × 4 pixels aligned to the image's origin; the last cells of an image
whose sides are no multiples of 4 are smaller. Magnitudes are averaged over cells as soon as
they exist, which makes everything after them sixteen times smaller.
"""

# mypy: disable-error-code="no-untyped-def"
import numpy as np
from numba import njit

CELL = 4
"""Pixels along a side of a cell. A constant: with a variable the loops take twice as long."""


@njit(nogil=True, cache=True)
def multiply(spectrum, factors, out):
    """``out = spectrum * factors``: (h, w) complex64 by float32 or complex64.

    NumPy would convert float32 factors to complex64 first.
    """
    for y in range(spectrum.shape[0]):
        row, factor, target = spectrum[y], factors[y], out[y]
        for x in range(spectrum.shape[1]):
            target[x] = row[x] * factor[x]


@njit(nogil=True, cache=True)
def average_pair(values, first, second):
    """Mean |even columns| and mean |odd columns| of each cell.

    Parameters
    ----------
    values : (h, 2w) float32: responses of two kernels, interleaved as in complex64.
    first, second : (⌈h/4⌉, ⌈w/4⌉) float32, written; may be strided.
    """
    height, width = values.shape[0], values.shape[1] // 2
    full = width // CELL
    sums = np.empty(2 * width, np.float32)
    for cy in range(first.shape[0]):
        y0 = cy * CELL
        rows = min(CELL, height - y0)
        if rows == CELL:
            a, b, c, d = values[y0], values[y0 + 1], values[y0 + 2], values[y0 + 3]
            for i in range(2 * width):
                sums[i] = (abs(a[i]) + abs(b[i])) + (abs(c[i]) + abs(d[i]))
        else:
            sums[:] = 0
            for y in range(y0, height):
                for i in range(2 * width):
                    sums[i] += abs(values[y, i])
        scale = np.float32(1.0 / (rows * CELL))
        for cx in range(full):
            i = 2 * CELL * cx
            first[cy, cx] = scale * ((sums[i] + sums[i + 2]) + (sums[i + 4] + sums[i + 6]))
            second[cy, cx] = scale * ((sums[i + 1] + sums[i + 3]) + (sums[i + 5] + sums[i + 7]))
        if full < first.shape[1]:
            scale = np.float32(1.0 / (rows * (width - full * CELL)))
            first[cy, full] = scale * sums[2 * CELL * full :: 2].sum()
            second[cy, full] = scale * sums[2 * CELL * full + 1 :: 2].sum()


@njit(nogil=True, cache=True)
def average_modulus(values, cells):
    """Mean √(even² + odd²) of each cell, for the two parts of a quadrature pair.

    Parameters
    ----------
    values : (h, 2w) float32: even and odd response, interleaved as in complex64.
    cells : (⌈h/4⌉, ⌈w/4⌉) float32, written; may be strided.
    """
    height, width = values.shape[0], values.shape[1] // 2
    full = width // CELL
    sums = np.empty(width, np.float32)
    for cy in range(cells.shape[0]):
        y0 = cy * CELL
        rows = min(CELL, height - y0)
        sums[:] = 0
        for y in range(y0, y0 + rows):
            row = values[y]
            for x in range(width):
                even, odd = row[2 * x], row[2 * x + 1]
                sums[x] += np.sqrt(even * even + odd * odd)
        scale = np.float32(1.0 / (rows * CELL))
        for cx in range(full):
            x = CELL * cx
            cells[cy, cx] = scale * ((sums[x] + sums[x + 1]) + (sums[x + 2] + sums[x + 3]))
        if full < cells.shape[1]:
            scale = np.float32(1.0 / (rows * (width - full * CELL)))
            cells[cy, full] = scale * sums[CELL * full :].sum()
