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
    """``out = spectrum * factors``: (h, w) complex by real or complex, all C-contiguous.

    NumPy would convert real factors to complex first.
    """
    for y in range(factors.shape[0]):
        row, factor, target = spectrum[y], factors[y], out[y]
        for x in range(len(factor)):
            target[x] = row[x] * factor[x]


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
