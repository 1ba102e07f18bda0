"""Stacks that are arrays: ``.npy``, ``.npz``, Zarr, and scikit-learn's bundled digits."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from kmdist.errors import KmdistError, UsageError
from kmdist.recipes.digits.stacks.stack import require_whole

SAMPLE = "sample:digits"
_IMAGE_KEYS = ("images", "x", "X", "x_train", "data", "arr_0")
_CLASS_KEYS = ("labels", "classes", "y", "Y", "y_train", "target", "arr_1")


@dataclass(frozen=True)
class ArrayStack:
    """Images of an array on disk.

    Parameters
    ----------
    path : file or Zarr folder. kind : ``npy``, ``npz`` or ``zarr``.
    key : member of an ``.npz`` or Zarr group; empty for none.
    sizes : n, height, width.
    stored : type of the array.
    """

    path: str
    kind: str
    key: str
    sizes: tuple[int, int, int]
    stored: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """n, height, width."""
        return self.sizes

    @property
    def dtype(self) -> str:
        """uint8 and uint16 as they are, bool as uint8, the rest as float32."""
        return {"uint8": "uint8", "uint16": "uint16", "bool": "uint8"}.get(self.stored, "float32")

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images as (m, h, w).

        Raises
        ------
        KmdistError : NaN or infinity, or fewer images than before.
        """
        images = require_whole(
            self.path, np.asarray(_array(self.path, self.kind, self.key)[start:stop]), stop - start
        )
        if self.stored == "bool":
            return images.astype(np.uint8) * np.uint8(255)
        with np.errstate(over="ignore"):  # what is too large becomes infinity, which is refused
            images = images.astype(self.dtype, copy=False)
        if self.dtype == "float32" and not np.isfinite(images).all():
            bad = start + int(np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))[0])
            raise KmdistError(
                f"{self.path}: image {bad:,} holds NaN or infinity, or values beyond float32"
            )
        return images

    def identity(self) -> Sequence[Any]:
        """Name, size and time of the file, or of a Zarr array's metadata."""
        path = Path(self.path)
        if path.is_dir():
            names = [path / self.key / name for name in ("zarr.json", ".zarray")]
            path = next((name for name in names if name.is_file()), path)
        status = os.stat(path)
        return [Path(self.path).name, self.key, status.st_size, status.st_mtime_ns]


@dataclass(frozen=True)
class SampleStack:
    """scikit-learn's 1,797 digits of 8 × 8 px (Alpaydin, Kaynak, UCI, 1998), as uint8."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """n, height, width."""
        return 1797, 8, 8

    @property
    def dtype(self) -> str:
        """uint8: the sixteen grey levels spread over 0 … 255."""
        return "uint8"

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images as (m, 8, 8)."""
        return _sample()[0][start:stop]

    def identity(self) -> Sequence[Any]:
        """Its name: the data are always the same."""
        return [SAMPLE]


@lru_cache(maxsize=1)
def _sample() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    return np.rint(bundled.images * (255 / 16)).astype(np.uint8), bundled.target.astype(np.int64)


def sample_stack() -> tuple[SampleStack, np.ndarray]:
    """The bundled digits and their classes."""
    return SampleStack(), _sample()[1]


def _array(path: str, kind: str, key: str) -> Any:
    status = os.stat(path)
    return _opened(path, kind, key, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=4)
def _opened(path: str, kind: str, key: str, _: tuple[int, ...]) -> Any:
    """An array, opened once while its file stays as it is.

    The map of a file that has become shorter ends the process where it is read.
    """
    if kind == "npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    if kind == "npz":
        with np.load(path, allow_pickle=False) as members:
            return members[key]
    import zarr

    node: Any = zarr.open(path, mode="r")
    return node[key] if key else node


def open_array(path: Path) -> tuple[ArrayStack, np.ndarray | None]:
    """Images of an array on disk, and their classes where the file or group holds them.

    Raises
    ------
    UsageError : no array with three axes. KmdistError : the file cannot be read.
    """
    kind = "zarr" if path.is_dir() else path.suffix.lower()[1:]
    try:
        key, class_key = _keys(path, kind)
        array = _array(str(path), kind, key)
        classes = _array(str(path), kind, class_key)[...] if class_key else None
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise KmdistError(f"{path}: cannot be read: {error}") from error
    shape = tuple(array.shape)
    if len(shape) != 3:
        hint = ""
        if len(shape) == 4 and 1 in (shape[1], shape[3]):
            hint = "; drop the axis of length 1"
        elif len(shape) == 4:
            hint = "; convert colours to grey first"
        elif len(shape) == 2:
            hint = "; reshape the rows to height × width"
        raise UsageError(f"{path}: an array of shape {shape}; expected (n, height, width){hint}")
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{path}: an array of {array.dtype}; expected real numbers")
    stack = ArrayStack(str(path), kind, key, (shape[0], shape[1], shape[2]), str(array.dtype))
    return stack, None if classes is None else np.asarray(classes)


def _keys(path: Path, kind: str) -> tuple[str, str]:
    """Names of the images and of the classes; empty where there are none."""
    if kind == "npy":
        return "", ""
    if kind == "npz":
        with np.load(path, allow_pickle=False) as members:
            names = list(members)
    else:
        import zarr

        node = zarr.open(path, mode="r")
        if not isinstance(node, zarr.Group):
            return "", ""
        names = sorted(node.array_keys())
    images = next((name for name in _IMAGE_KEYS if name in names), "")
    if not images:
        raise UsageError(
            f"{path} holds {', '.join(names) or 'no arrays'}; the images must be named one of "
            f"{', '.join(_IMAGE_KEYS)}"
        )
    return images, next((name for name in _CLASS_KEYS if name in names), "")
