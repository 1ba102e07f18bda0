"""Palettes in files: GIMP ``.gpl``, JSON and NumPy, and those of runs."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kmdist.errors import UsageError
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


def read_palette(path: str | Path) -> np.ndarray:
    """Read initial colours.

    Parameters
    ----------
    path : a ``.gpl``, ``.json`` or ``.npy`` file, or a run.

    Returns
    -------
    (k, 3) float64, 0 … 255 sRGB.

    Raises
    ------
    UsageError : no such file, or it holds no palette.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(
            f"--init {str(path)!r}: neither random, k-means++ nor a file; a palette is .gpl, "
            ".json, .npy or a run"
        )
    try:
        colors = np.asarray(_read(path), dtype=np.float64)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(f"--init {path}: holds no palette ({error})") from error
    if colors.ndim != 2 or colors.shape[1] != 3 or not len(colors):
        raise UsageError(f"--init {path}: a palette is (k, 3) sRGB, found shape {colors.shape}")
    if not np.isfinite(colors).all() or colors.min() < 0 or colors.max() > 255:
        raise UsageError(f"--init {path}: colours must lie in 0 … 255")
    return colors


def _read(path: Path) -> object:
    if path.is_dir():
        from kmdist.store import open_run

        return open_run(path).palette
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".json":
        return [entry["rgb"] for entry in json.loads(path.read_text("utf-8"))["palette"]]
    rows = []
    for line in path.read_text("utf-8").splitlines():
        words = line.split()
        if len(words) >= 3 and all(word.isdigit() for word in words[:3]):
            rows.append([int(word) for word in words[:3]])
    return rows
