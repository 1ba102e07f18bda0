"""Palettes as files that other programs open."""

import json
import struct
from pathlib import Path

import numpy as np

from kmdist.errors import shown
from kmdist.images.color import hex_color, to_space
from kmdist.pictures.options import Sort
from kmdist.pictures.output_files import replacing, write_text
from kmdist.pictures.png import PngWriter

_GREY = 0.02
"""Chroma in Oklab below which a colour has no hue to sort by."""

STRIP_SIDE_PX = 32
"""Side of a colour's square in a palette strip."""


def write_palette(
    base: Path, name: str, palette: np.ndarray, counts: np.ndarray | None, sort: Sort = "share"
) -> None:
    """Write a palette in every format, as files whose names differ by their suffixes.

    Parameters
    ----------
    base : path without suffix.
    palette : (k, 3) uint8 sRGB; or (k, 4) with alpha, which JSON, CSS and PNG have.
    counts : (k,) pixels of each colour, or None.
    """
    order = palette_order(palette, sort)
    shares = np.zeros(len(palette), np.int64) if counts is None else counts
    colors = palette[order]
    write_json(_with(base, "json"), colors, shares[order], order)
    write_gpl(_with(base, "gpl"), name, colors)
    write_css(_with(base, "css"), colors, order)
    write_ase(_with(base, "ase"), colors)
    write_aco(_with(base, "aco"), colors)
    write_strip(_with(base, "png"), colors)


def _with(base: Path, suffix: str) -> Path:
    return base.with_name(f"{base.name}.{suffix}")


def palette_order(palette: np.ndarray, sort: Sort) -> np.ndarray:
    """Places of the colours: by share as they are; from dark to light; from red through the hues.

    Hue and lightness are those of Oklab (Ottosson, 2020); greys come after the hues.
    """
    if sort == "share":
        return np.arange(len(palette))
    light, a, b = to_space(np.ascontiguousarray(palette[:, :3]), "oklab").T
    if sort == "lightness":
        return np.argsort(light, kind="stable")
    is_grey = np.hypot(a, b) < _GREY
    return np.lexsort((light, np.where(is_grey, 0, np.arctan2(b, a) % (2 * np.pi)), is_grey))


def write_gpl(path: Path, name: str, palette: np.ndarray) -> None:
    """Write a GIMP palette (GIMP developer documentation, ``GIMP Palette`` version 2).

    Parameters
    ----------
    palette : (k, 3) uint8 sRGB; or (k, 4), whose alpha such a file cannot hold.
    """
    name = shown(" ".join(name.split()))
    lines = ["GIMP Palette", f"Name: {name}", "Columns: 16", "#"]
    lines += [
        f"{r:3d} {g:3d} {b:3d}\t{hex_color((r, g, b))}" for r, g, b in palette[:, :3].tolist()
    ]
    write_text(path, "\n".join(lines) + "\n")


def write_json(path: Path, palette: np.ndarray, counts: np.ndarray, labels: np.ndarray) -> None:
    """Write a palette with the share of each colour, and its label."""
    total = max(int(counts.sum()), 1)
    entries = []
    for color, n, label in zip(palette.tolist(), counts.tolist(), labels.tolist(), strict=True):
        entry = {"hex": hex_color(color), "rgb": color[:3], "count": n, "share": n / total}
        alpha = {"alpha": color[3]} if len(color) == 4 else {}
        entries.append({**entry, **alpha, "label": label})
    write_text(path, json.dumps({"palette": entries}, indent=1) + "\n")


def write_css(path: Path, palette: np.ndarray, labels: np.ndarray) -> None:
    """Write custom properties ``--color-LABEL`` of a style sheet."""
    pairs = zip(labels.tolist(), palette.tolist(), strict=True)
    lines = [f"  --color-{label}: {hex_color(color)};" for label, color in pairs]
    write_text(path, "\n".join([":root {", *lines, "}"]) + "\n")


def write_ase(path: Path, palette: np.ndarray) -> None:
    """Write an Adobe Swatch Exchange file of global RGB colours, named by their codes."""
    blocks = []
    for color in palette[:, :3].tolist():
        red, green, blue = (value / 255 for value in color)
        body = _name(hex_color(color), ">H") + b"RGB " + struct.pack(">3fH", red, green, blue, 0)
        blocks.append(struct.pack(">HI", 1, len(body)) + body)
    with replacing(path) as file:
        file.write(b"ASEF" + struct.pack(">HHI", 1, 0, len(blocks)) + b"".join(blocks))


def write_aco(path: Path, palette: np.ndarray) -> None:
    """Write a Photoshop colour swatch file: version 1, then version 2 with names (Adobe, 2019)."""
    colors = palette[:, :3].tolist()
    values = [struct.pack(">5H", 0, *(257 * value for value in color), 0) for color in colors]
    names = [_name(hex_color(color), ">I") for color in colors]
    named = [value + name for value, name in zip(values, names, strict=True)]
    with replacing(path) as file:
        for version, entries in ((1, values), (2, named)):
            file.write(struct.pack(">2H", version, len(colors)) + b"".join(entries))


def _name(text: str, length: str) -> bytes:
    """A name in UTF-16 after the number of its characters, of which the last is 0."""
    return struct.pack(length, len(text) + 1) + f"{text}\0".encode("utf-16-be")


def write_strip(path: Path, palette: np.ndarray) -> None:
    """Write a palette as a PNG of squares, 16 to a row; the last row is filled up transparent.

    Parameters
    ----------
    palette : (k, 3) uint8 sRGB; or (k, 4) with alpha.
    """
    columns = min(len(palette), 16)
    rows = -(-len(palette) // columns)
    indices = np.arange(rows * columns).clip(max=len(palette)).reshape(rows, columns)
    ragged = rows * columns > len(palette)
    squares = np.ones((STRIP_SIDE_PX, STRIP_SIDE_PX), np.int64)
    if ragged:
        rest = np.zeros((1, 4), np.uint8)
        if palette.shape[1] == 3:
            palette = np.pad(palette, ((0, 0), (0, 1)), constant_values=255)
        palette = np.concatenate([palette, rest])
    picture, indexed = np.kron(indices, squares), len(palette) <= 256
    with replacing(path) as file:
        writer = PngWriter(
            file,
            columns * STRIP_SIDE_PX,
            rows * STRIP_SIDE_PX,
            palette=palette if indexed else None,
            channels=palette.shape[1],
        )
        writer.write_rows(picture.astype(np.uint8) if indexed else palette[picture])
        writer.close()
