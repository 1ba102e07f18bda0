"""Image files: grey, brought to one size; sub-folders of one folder are classes."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from kmdist.errors import ImageError, KmdistError
from kmdist.images import Found, ImageSource, Rejection, decode, find_images, probe
from kmdist.stacks.sheet import grey_image

_MAX_SIDE = 4096


@dataclass(frozen=True)
class FolderStack:
    """Images of a folder, by name.

    Parameters
    ----------
    sources : one an image.
    height, width : that all are brought to.
    """

    sources: tuple[ImageSource, ...]
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """n, height, width."""
        return len(self.sources), self.height, self.width

    @property
    def dtype(self) -> str:
        """uint8 where all images are, else float32."""
        return "uint8" if all(s.dtype == "uint8" for s in self.sources) else "float32"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files, as `ImageSource` has them."""
        return tuple(source.name for source in self.sources)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images as (m, h, w)."""
        images = np.empty((stop - start, self.height, self.width), self.dtype)
        for image, source in zip(images, self.sources[start:stop], strict=True):
            grey = grey_image(source)
            if grey.dtype == np.uint8 and self.dtype != "uint8":
                grey = grey.astype(np.float32) / np.float32(255)
            image[:] = fit_into(grey, self.height, self.width)
        return images

    def part(self, start: int, stop: int) -> "FolderStack":
        """A stack of some of the images: what a task needs to carry."""
        return FolderStack(self.sources[start:stop], self.height, self.width)

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


class NoImagesError(KmdistError):
    """No file is a usable image.

    Attributes
    ----------
    rejections : why, file by file.
    """

    def __init__(self, message: str, rejections: Sequence[Rejection]) -> None:
        super().__init__(message)
        self.rejections = tuple(rejections)


class Files(NamedTuple):
    """What `open_files` finds.

    Parameters
    ----------
    stack : of the usable images.
    classes : (n,) int64, or None where there are no sub-folders.
    class_names : of the sub-folders, sorted.
    note : how sizes were made equal; empty where they are.
    rejected : files that cannot be used.
    """

    stack: FolderStack
    classes: np.ndarray | None
    class_names: tuple[str, ...]
    note: str
    rejected: list[Rejection]


def open_files(inputs: Sequence[str | Path | Found], size: tuple[int, int] | None = None) -> Files:
    """The usable images of folders and files.

    Every file is decoded once, on the threads of this process: one that is damaged is left out
    here, and does not stop a pass over a block of good ones.

    Parameters
    ----------
    inputs : see `kmdist.images.find_images`. Sub-folders are classes where it is one folder.
    size : width and height that all are brought to; None: the most frequent.

    Raises
    ------
    NoImagesError : no image can be used. KmdistError : they are larger than characters are.
    """
    found, rejected = find_images(inputs)
    sources = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for checked in threads.map(_checked, found):
            if isinstance(checked, Rejection):
                rejected.append(checked)
            else:
                sources.append(checked)
    named = ", ".join(str(one.path if isinstance(one, Found) else one) for one in inputs[:3])
    if not sources:
        listed = "".join(f"\n  {r.image}: {r.reason} [{r.code}]" for r in rejected[:20])
        raise NoImagesError(f"{named}: no file is a usable image{listed}", rejected)
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
        classes, class_names = _classes(sources)
    return Files(FolderStack(tuple(sources), height, width), classes, class_names, note, rejected)


def _checked(found: Found) -> ImageSource | Rejection:
    try:
        source = probe(found)
        decode(source)
    except ImageError as error:
        return Rejection(found.name, error.code, error.reason)
    return source


def _classes(sources: Sequence[ImageSource]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Numbers and names of the sub-folders; None where there is one alone."""
    names = [source.name.split("/")[0] if "/" in source.name else "" for source in sources]
    class_names = tuple(sorted(set(names)))
    if len(class_names) < 2:
        return None, ()
    number = {name: i for i, name in enumerate(class_names)}
    return np.array([number[name] for name in names], dtype=np.int64), class_names
