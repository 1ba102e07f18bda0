"""Draw the kernels of a filter bank."""

from pathlib import Path

import numpy as np
from PIL import Image

from kmdist.filters import FilterBank
from kmdist.pictures import drawing
from kmdist.pictures.output_files import check_picture_path

SCALE = 2
"""Screen pixels a kernel's pixel."""
GAP_PX = 6


def draw_bank(bank: FilterBank, path: str | Path) -> Path:
    """Draw every kernel, each stretched to its own largest magnitude, grey for 0.

    The Leung-Malik bank takes 8 columns: three of edges, three of bars, a row an angle, then the
    Gaussians and Laplacians; others 12.

    Returns
    -------
    Path : what was written.

    Raises
    ------
    UsageError : the path is no picture, or cannot be written to.
    """
    path = check_picture_path(path)
    columns = 8 if len(bank) == 48 else 12
    order = _sheet_order(len(bank))
    side = bank.size * SCALE
    rows = -(-len(bank) // columns)
    sheet = np.full(
        (rows * (side + GAP_PX) + GAP_PX, columns * (side + GAP_PX) + GAP_PX), 255, np.uint8
    )
    for place, kernel in enumerate(order):
        y = GAP_PX + (place // columns) * (side + GAP_PX)
        x = GAP_PX + (place % columns) * (side + GAP_PX)
        sheet[y : y + side, x : x + side] = _picture(bank.kernels[kernel])
    drawing.save(Image.fromarray(sheet).convert("RGB"), path)
    return path


def _sheet_order(n: int) -> list[int]:
    """Kernels by row: for 48, angle by angle the edges and bars of three scales, two round ones."""
    if n != 48:
        return list(range(n))
    order = []
    for angle in range(6):
        order += [kind * 18 + scale * 6 + angle for kind in (0, 1) for scale in range(3)]
        order += [36 + 2 * angle, 37 + 2 * angle]
    return order


def _picture(kernel: np.ndarray) -> np.ndarray:
    largest = np.abs(kernel).max()
    grey = np.rint(127.5 + 127.5 * kernel / (largest if largest > 0 else 1)).astype(np.uint8)
    return np.repeat(np.repeat(grey, SCALE, 0), SCALE, 1)
