"""Image files: grey, brought to one size; sub-folders of one folder are classes."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from kmdist.errors import ImageError, KmdistError
from kmdist.images import Found, ImageSource, Rejection, find_images, probe
from kmdist.recipes.digits.stacks.sheet import decoded_grey, grey_image
from kmdist.recipes.digits.stacks.stack import NoImagesError, Usable
from kmdist.urls import is_url

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
        images = np.empty((stop - start, self.height, self.width), self.dtype)
        for image, source in zip(images, self.sources[start:stop], strict=True):
            image[:] = self._fitted(grey_image(source))
        return images

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
            images[len(kept)] = self._fitted(grey)
            kept.append(number)
        return Usable(images[: len(kept)], np.array(kept, dtype=np.int64), tuple(rejected))

    def _fitted(self, grey: np.ndarray) -> np.ndarray:
        if grey.dtype == np.uint8 and self.dtype != "uint8":
            grey = grey.astype(np.float32) / np.float32(255)
        return fit_into(grey, self.height, self.width)

    def some(self, numbers: Sequence[int] | np.ndarray) -> "FolderStack":
        """A stack of some of the images, in this order."""
        return replace(self, sources=tuple(self.sources[i] for i in numbers))

    def part(self, start: int, stop: int) -> "FolderStack":
        """A stack of some of the images: what a task needs to carry."""
        return replace(self, sources=self.sources[start:stop])

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


class Files(NamedTuple):
    """What `open_files` finds.

    Parameters
    ----------
    stack : of the usable images.
    classes : (n,) int64, or None where there are no sub-folders.
    class_names : of the sub-folders, sorted.
    note : how sizes were made equal; empty where they are.
    rejected : files whose headers show that they cannot be used.
    """

    stack: FolderStack
    classes: np.ndarray | None
    class_names: tuple[str, ...]
    note: str
    rejected: list[Rejection]


def open_files(inputs: Sequence[str | Path | Found], size: tuple[int, int] | None = None) -> Files:
    """The usable images of folders and files.

    Only headers are read, on threads of this process. A file whose pixels turn out to be damaged
    is left out where a block of them is read first, see `FolderStack.read_usable`.

    Parameters
    ----------
    inputs : see `kmdist.images.find_images`. Sub-folders are classes where it is one folder.
    size : width and height that all are brought to; None: the most frequent.

    Raises
    ------
    NoImagesError : no file has the header of a usable image.
    KmdistError : they are larger than characters are.
    """
    found, rejected = find_images(inputs)
    sources = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for probed in threads.map(_probed, found):
            if isinstance(probed, Rejection):
                rejected.append(probed)
            else:
                sources.append(probed)
    named = ", ".join(str(one.path if isinstance(one, Found) else one) for one in inputs[:3])
    if not sources:
        raise NoImagesError(named, rejected)
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
    return Files(stack, classes, class_names, note, rejected)


def _probed(found: Found) -> ImageSource | Rejection:
    try:
        return probe(found)
    except ImageError as error:
        return Rejection(found.name, error.code, error.reason)


def classes_by_folder(names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Numbers and names of the sub-folders; None where there is one alone."""
    folders = [name.split("/")[0] if "/" in name else "" for name in names]
    class_names = tuple(sorted(set(folders)))
    if len(class_names) < 2:
        return None, ()
    number = {name: i for i, name in enumerate(class_names)}
    return np.array([number[folder] for folder in folders], dtype=np.int64), class_names
