"""Palettes in files: GIMP ``.gpl``, JSON and NumPy, and those of runs."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kmdist.pictures.output_files import replacing, write_text
from kmdist.pictures.png import PngWriter

STRIP_SIDE_PX = 32
"""Side of a colour's square in a palette strip."""


def hex_color(color: Sequence[int]) -> str:
    """``#rrggbb`` of a colour (red, green, blue)."""
    return "#" + "".join(f"{int(value):02x}" for value in color)


def write_gpl(path: Path, name: str, palette: np.ndarray) -> None:
    """Write a GIMP palette (GIMP developer documentation, ``GIMP Palette`` version 2).

    Parameters
    ----------
    palette : (k, 3) uint8 sRGB.
    """
    name = " ".join(name.split())
    lines = ["GIMP Palette", f"Name: {name}", "Columns: 16", "#"]
    lines += [f"{r:3d} {g:3d} {b:3d}\t{hex_color((r, g, b))}" for r, g, b in palette.tolist()]
    write_text(path, "\n".join(lines) + "\n")


def write_json(path: Path, palette: np.ndarray, counts: np.ndarray) -> None:
    """Write a palette with the share of each colour."""
    total = max(int(counts.sum()), 1)
    entries = [
        {"hex": hex_color(color), "rgb": color, "count": int(n), "share": int(n) / total}
        for color, n in zip(palette.tolist(), counts, strict=True)
    ]
    write_text(path, json.dumps({"palette": entries}, indent=1) + "\n")


def write_strip(path: Path, palette: np.ndarray) -> None:
    """Write a palette as a PNG of squares, 16 to a row; the last row is filled up transparent.

    Parameters
    ----------
    palette : (k, 3) uint8 sRGB.
    """
    columns = min(len(palette), 16)
    rows = -(-len(palette) // columns)
    indices = np.arange(rows * columns).clip(max=len(palette)).reshape(rows, columns)
    ragged = rows * columns > len(palette)
    squares = np.ones((STRIP_SIDE_PX, STRIP_SIDE_PX), np.int64)
    if ragged:
        palette = np.concatenate([palette, np.zeros((1, 3), np.uint8)])
    picture = np.kron(indices, squares)
    with replacing(path) as file:
        writer = PngWriter(
            file,
            columns * STRIP_SIDE_PX,
            rows * STRIP_SIDE_PX,
            palette=palette if len(palette) <= 256 else None,
            transparent=len(palette) - 1 if ragged and len(palette) <= 256 else None,
        )
        indexed = len(palette) <= 256
        writer.write_rows(picture.astype(np.uint8) if indexed else palette[picture])
        writer.close()
