"""Sprite sheets: one picture that holds many characters in cells of one size."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.images import Found, ImageSource, decode, probe
from kmdist.images.pixels import full_scale, over


@dataclass(frozen=True)
class SheetStack:
    """Cells of a sheet, row by row.

    Parameters
    ----------
    source : the picture.
    cell_height, cell_width : pixels.
    """

    source: ImageSource
    cell_height: int
    cell_width: int

    @property
    def columns(self) -> int:
        """Cells side by side."""
        return self.source.width // self.cell_width

    @property
    def shape(self) -> tuple[int, int, int]:
        """n, height, width."""
        rows = self.source.height // self.cell_height
        return rows * self.columns, self.cell_height, self.cell_width

    @property
    def dtype(self) -> str:
        """As `grey_image` gives it."""
        return "uint8" if self.source.dtype == "uint8" else "float32"

    def read(self, start: int, stop: int) -> np.ndarray:
        """Cells as (m, h, w)."""
        sheet = _sheet(self.source)
        rows, columns = self.shape[0] // self.columns, self.columns
        cells = sheet.reshape(rows, self.cell_height, columns, self.cell_width)
        flat = cells.transpose(0, 2, 1, 3)
        first, last = start // columns, -(-stop // columns)
        part = flat[first:last].reshape(-1, self.cell_height, self.cell_width)
        return np.ascontiguousarray(part[start - first * columns : stop - first * columns])

    def identity(self) -> Sequence[Any]:
        """Name, size and time of the file, and the cell."""
        source = self.source
        return [source.name, source.size_bytes, source.mtime_ns, self.cell_height, self.cell_width]


@lru_cache(maxsize=2)
def _sheet(source: ImageSource) -> np.ndarray:
    return grey_image(source)


def grey_image(source: ImageSource) -> np.ndarray:
    """A picture as (y, x) grey: uint8 as stored, deeper ones float32 in 0 … 1.

    Colours are weighted as Rec. 601 does. A picture with transparent pixels is laid over paper:
    white, or black where its ink is light.

    Raises
    ------
    KmdistError : it cannot be decoded; says why.
    """
    try:
        return decoded_grey(source)
    except ImageError as error:
        raise KmdistError(f"{source.name}: {error.reason} [{error.code}]") from error


def decoded_grey(source: ImageSource) -> np.ndarray:
    """As `grey_image`, but for the error.

    Raises
    ------
    ImageError : it cannot be decoded.
    """
    pixels = decode(source)
    if pixels.dtype == np.uint16:
        pixels = pixels.astype(np.float32) / np.float32(65535)
    if pixels.shape[2] == 1:
        grey = pixels[..., 0]
    else:
        weights = np.array([0.299, 0.587, 0.114])
        grey = pixels[..., :3] @ weights
        if pixels.shape[2] == 4:
            grey = _over_paper(grey, pixels[..., 3], full_scale(pixels.dtype))
    if pixels.dtype == np.uint8:
        return np.asarray(np.rint(grey), dtype=np.uint8)
    return np.asarray(grey, dtype=np.float32)


def _over_paper(grey: np.ndarray, alpha: np.ndarray, white: float) -> np.ndarray:
    """Grey as it shows on the paper that its ink stands out from: ink may lie in alpha alone."""
    if alpha.min() >= white:
        return grey
    opacity = alpha / white
    ink = float((grey * opacity).sum() / max(float(opacity.sum()), 1e-9))
    paper = 0.0 if ink > white / 2 else 1.0
    return white * over(np.stack([grey / white, opacity], axis=-1), paper)[..., 0]


def open_sheet(path: Path, cell: tuple[int, int]) -> SheetStack:
    """A sheet cut into cells.

    Parameters
    ----------
    cell : width, height in pixels, as ``--cell 20x20`` gives them.

    Raises
    ------
    UsageError : the sheet is not a whole number of cells. KmdistError : it cannot be read.
    """
    try:
        source = probe(Found(path.name, str(path)))
    except ImageError as error:
        raise KmdistError(f"{path}: {error.reason} [{error.code}]") from error
    width, height = cell
    if source.width % width or source.height % height:
        fits = [
            f"{side}x{side}"
            for side in range(4, min(source.width, source.height) + 1)
            if source.width % side == 0 and source.height % side == 0
        ]
        raise UsageError(
            f"{path}: {source.width} × {source.height} px is not a whole number of cells of "
            f"{width} × {height}; square cells that fit: {', '.join(fits[:8]) or 'none'}"
        )
    return SheetStack(source, height, width)
