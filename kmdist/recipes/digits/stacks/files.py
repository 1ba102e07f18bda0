"""Stacks of image files: a sheet of many characters, or a folder with one a file.

Both are grey; files of a folder are brought to one size, and its sub-folders are classes.
"""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kmdist.engine.passes import ThreadPool, usable_cores
from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.images import (
    EVERYTHING,
    Choice,
    Found,
    ImageSource,
    Piece,
    Rejection,
    Window,
    find_images,
    probe,
)
from kmdist.images.pixels import full_scale, over
from kmdist.images.reading.image import MAX_PIXELS
from kmdist.job.photographs import probe_all
from kmdist.job.progress import watch_nothing
from kmdist.job.work import read_piece
from kmdist.recipes.digits.stacks.stack import Stack, Usable, no_file
from kmdist.urls import is_url


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
        """As `decoded_grey` gives it."""
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
    try:
        return decoded_grey(source)
    except ImageError as error:
        raise KmdistError(f"{source.name}: {error.reason} [{error.code}]") from error


def decoded_grey(source: ImageSource) -> np.ndarray:
    """A picture as (y, x) grey: uint8 as stored, deeper ones float32 in 0 … 1.

    Colours are weighted as Rec. 601 does. A picture with transparent pixels is laid over paper:
    white, or black where its ink is light.

    Raises
    ------
    ImageError : it cannot be decoded.
    """
    pixels = read_piece(Piece(source, Window(0, 0, source.height, source.width)))
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


_MAX_SIDE = 4096


@dataclass(frozen=True)
class FolderStack:
    """Images of a folder, by name.

    Parameters
    ----------
    sources : one an image.
    height, width : that all are brought to.
    dtype : likewise: uint8 where all images are, else float32.
    """

    sources: tuple[ImageSource, ...]
    height: int
    width: int
    dtype: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """n, height, width."""
        return len(self.sources), self.height, self.width

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files, as `ImageSource` has them."""
        return tuple(source.name for source in self.sources)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the files are, in full."""
        return tuple(
            source.path if is_url(source.path) else os.path.abspath(source.path)
            for source in self.sources
        )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images as (m, h, w).

        Raises
        ------
        KmdistError : one cannot be decoded; names it.
        """
        found = self.read_usable(start, stop)
        for one in found.rejected:
            raise KmdistError(f"{one.image}: {one.reason} [{one.code}]")
        return found.images

    def read_usable(self, start: int, stop: int) -> Usable:
        """As `read`, without those that cannot be decoded."""
        images = np.empty((stop - start, self.height, self.width), self.dtype)
        kept: list[int] = []
        rejected: list[Rejection] = []
        for number, source in enumerate(self.sources[start:stop]):
            try:
                grey = decoded_grey(source)
            except ImageError as error:
                rejected.append(Rejection(source.name, error.code, error.reason))
                continue
            if grey.dtype == np.uint8 and self.dtype != "uint8":
                grey = grey.astype(np.float32) / np.float32(255)
            images[len(kept)] = fit_into(grey, self.height, self.width)
            kept.append(number)
        return Usable(images[: len(kept)], np.array(kept, dtype=np.int64), tuple(rejected))

    def some(self, numbers: Sequence[int] | np.ndarray) -> "FolderStack":
        """A stack of some of the images, in this order."""
        return replace(self, sources=tuple(self.sources[i] for i in numbers))

    def identity(self) -> Sequence[Any]:
        """Names, sizes and times of the files."""
        return [[s.name, s.size_bytes, s.mtime_ns] for s in self.sources]


def fit_into(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale to fit, keeping the aspect ratio, centred on paper of the border's median value."""
    if grey.shape == (height, width):
        return grey
    factor = min(height / grey.shape[0], width / grey.shape[1])
    h = min(height, max(1, round(grey.shape[0] * factor)))
    w = min(width, max(1, round(grey.shape[1] * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    out = np.full((height, width), np.median(border)).astype(grey.dtype)
    top, left = (height - h) // 2, (width - w) // 2
    out[top : top + h, left : left + w] = cv2.resize(grey, (w, h), interpolation=way)
    return out


def open_files(
    inputs: Sequence[str | Path | Found],
    size: tuple[int, int] | None = None,
    choice: Choice = EVERYTHING,
) -> Stack:
    """The usable images of folders and files.

    Only headers are read, on threads of this process. A file whose pixels turn out to be damaged
    is left out where a block of them is read first, see `FolderStack.read_usable`.

    Parameters
    ----------
    inputs, choice : see `kmdist.images.find_images`. Sub-folders of one folder are classes.
    size : width and height that all are brought to; None: the most frequent.

    Raises
    ------
    NoUsableImageError : no file has the header of a usable image.
    KmdistError : they are larger than characters are.
    """
    found, lost = find_images(inputs, choice)
    with closing(ThreadPool(min(8, usable_cores()), memory_bytes=1)) as pool:
        sources, unusable = probe_all(pool, found, MAX_PIXELS, watch_nothing)
    rejected = [*lost, *unusable]
    named = ", ".join(str(one.path if isinstance(one, Found) else one) for one in inputs[:3])
    if not sources:
        raise no_file(named, rejected)
    sizes = Counter((source.height, source.width) for source in sources)
    common = max(sizes.items(), key=lambda item: (item[1], item[0]))[0]
    height, width = common if size is None else (size[1], size[0])
    if max(height, width) > _MAX_SIDE:
        raise KmdistError(
            f"{named}: images of {width} × {height} px; this is for small images of characters, "
            f"up to {_MAX_SIDE} px a side"
        )
    note, others = "", len(sources) - sizes[height, width]
    if others:
        note = (
            f"{others} of {len(sources)} images are not {width} × {height} px: they "
            "are scaled to fit, centred, the rest filled with their paper"
        )
    classes: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    if len(inputs) == 1 and not isinstance(inputs[0], Found):
        classes, class_names = classes_by_folder([source.name for source in sources])
    dtype = "uint8" if all(source.dtype == "uint8" for source in sources) else "float32"
    stack = FolderStack(tuple(sources), height, width, dtype)
    return Stack(stack, classes, class_names, named, note, rejected)


def classes_by_folder(names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Numbers and names of the sub-folders; None where there is one alone."""
    folders = [name.split("/")[0] if "/" in name else "" for name in names]
    class_names = tuple(sorted(set(folders)))
    if len(class_names) < 2:
        return None, ()
    number = {name: i for i, name in enumerate(class_names)}
    return np.array([number[folder] for folder in folders], dtype=np.int64), class_names
