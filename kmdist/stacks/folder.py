"""Folders of images: grey, brought to one size; sub-folders are classes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kmdist.errors import ImageError, KmdistError
from kmdist.images import ImageSource, Rejection, find_images, probe
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


def open_folder(
    path: Path,
) -> tuple[FolderStack, np.ndarray | None, tuple[str, ...], str, list[Rejection]]:
    """The usable images of a folder.

    Returns
    -------
    stack : FolderStack
    classes : (n,) int64, or None where there are no sub-folders.
    class_names : of the sub-folders, sorted.
    note : how sizes were made equal; empty where they are.
    rejected : files that cannot be used.

    Raises
    ------
    KmdistError : no image can be used.
    """
    found, rejected = find_images([path])
    sources = []
    for one in found:
        try:
            source = probe(one)
        except ImageError as error:
            rejected.append(Rejection(one.name, error.code, error.reason))
            continue
        sources.append(source)
    if not sources:
        raise KmdistError(f"{path}: none of {len(found) + len(rejected)} files is a usable image")
    sizes = Counter((source.height, source.width) for source in sources)
    (height, width), most = max(sizes.items(), key=lambda item: (item[1], item[0]))
    if max(height, width) > _MAX_SIDE:
        raise KmdistError(
            f"{path}: images of {width} × {height} px; this is for small images of characters, "
            f"up to {_MAX_SIDE} px a side"
        )
    note = ""
    if len(sizes) > 1:
        note = (
            f"{len(sources) - most} of {len(sources)} images are not {width} × {height} px: they "
            "are scaled to fit, centred, the rest filled with their paper"
        )
    names = [source.name.split("/")[0] if "/" in source.name else "" for source in sources]
    class_names = tuple(sorted(set(names)))
    classes = None
    if len(class_names) > 1:
        number = {name: i for i, name in enumerate(class_names)}
        classes = np.array([number[name] for name in names], dtype=np.int64)
    else:
        class_names = ()
    return FolderStack(tuple(sources), height, width), classes, class_names, note, rejected
