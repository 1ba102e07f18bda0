"""Stacks that are arrays: ``.npy``, ``.npz``, Zarr, IDX files, and scikit-learn's bundled digits.

IDX is LeCun's format of MNIST, gzipped or not, with labels found beside the images: four bytes of
magic (two zeros, a type code, the number of axes), one big-endian uint32 an axis, then the values.

The values of an array say what white is, not the type that stores them: digits of 0 … 255 come as
bytes, and just as often as int64 or floating point from a data frame.
"""

import os
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.images.finding.files import file_status, open_regular
from kmdist.images.reading.numpy_files import members_of, open_numpy
from kmdist.recipes.digits.stacks.stack import (
    Status,
    require_finite,
    require_same,
    require_whole,
)

BLOCK_IMAGES = 4096
"""Images to read at a time when the values of all are asked for."""

_WHITES = (1.0, 255.0, 65_535.0)
_EXACT = {1.0: "uint8", 255.0: "uint8", 65_535.0: "uint16"}
_ROUNDING = 1 + 0.5 / 255
"""Floating point values may exceed white by what still rounds to it."""


@dataclass(frozen=True)
class Levels:
    """How values become grey levels.

    Parameters
    ----------
    dtype : of the levels: ``uint8`` or ``uint16`` where all values are whole, else ``float32`` in
        0 … 1.
    white : the value that is white: 1, 255 or 65,535.
    """

    dtype: str
    white: float

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values as levels of `dtype`."""
        if self.dtype == "float32":
            unit = values.astype(np.float32) / np.float32(self.white)
            return np.minimum(unit, np.float32(1), out=unit)
        levels = values.astype(self.dtype, copy=False)
        return levels * np.uint8(255) if self.white == 1 else levels


def levels_of(name: str, blocks: Iterable[np.ndarray]) -> Levels:
    """What the values of some images mean, read until that is certain.

    Of bytes the first block that holds more than 0 and 1 says it, of other types all do. NaN and
    infinity are left to the reader of the images, who can say where they are.

    Raises
    ------
    UsageError : values below 0 or above 65,535.
    """
    lowest, highest, whole = 0.0, 0.0, True
    for values in blocks:
        found = values
        if found.dtype.kind == "f":
            found = found[np.isfinite(found)]
            whole = whole and bool((found == np.rint(found)).all())
        if found.size:
            lowest = min(lowest, float(found.min()))
            highest = max(highest, float(found.max()))
        settled = {"uint8": 1, "uint16": 255}.get(values.dtype.name)
        if settled is not None and highest > settled:
            break
    slack = 1.0 if whole else _ROUNDING
    if lowest < 0 or highest > _WHITES[-1] * slack:
        raise UsageError(
            f"{name}: values from {lowest:g} to {highest:g}; grey levels lie in 0 … 1, 0 … 255 or "
            "0 … 65,535: shift and scale them"
        )
    white = next(one for one in _WHITES if highest <= one * slack)
    return Levels(_EXACT[white] if whole else "float32", white)


SAMPLE = "sample:digits"
MAX_PIXELS = 1 << 24
"""Of one image of a stack; of all images together where hardly any chunk is stored."""
_IMAGE_KEYS = ("images", "x", "X", "x_train", "data", "arr_0")
_CLASS_KEYS = ("labels", "classes", "y", "Y", "y_train", "target", "arr_1")


@dataclass(frozen=True)
class ArrayStack:
    """Images of an array on disk.

    Parameters
    ----------
    path : file or Zarr folder. kind : ``npy``, ``npz``, ``idx`` or ``zarr``.
    key : member of an ``.npz`` or Zarr group; empty for none.
    shape : n, height, width.
    levels : what its values mean.
    status : `file_status` when it was opened; of a Zarr array that of its tree.
    """

    path: str
    kind: str
    key: str
    shape: tuple[int, int, int]
    levels: Levels
    status: Status

    @property
    def dtype(self) -> str:
        """Of the grey levels."""
        return self.levels.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images as (m, h, w).

        Raises
        ------
        KmdistError : NaN or infinity, fewer images than before, or the file has changed.
        """
        try:
            found = np.array(_array(self.path, self.kind, self.key, self.status)[start:stop])
        except Exception as error:  # codecs and stores fail in ways of their own
            raise _unreadable(self.path, error) from error
        if self.kind != "zarr":  # of which each chunk is asked as it is read
            require_same(self.path, self.status)
        images = require_whole(self.path, found, stop - start)
        require_finite(self.path, images, start)
        return self.levels.of(images)

    def identity(self) -> Sequence[Any]:
        """Name, size and time of the file, or of all files of a Zarr array."""
        size_bytes, mtime_ns, _ = self.status
        key = () if self.kind == "idx" else (self.key,)
        return [Path(self.path).name, *key, size_bytes, mtime_ns]


@dataclass(frozen=True)
class SampleStack:
    """scikit-learn's 1,797 digits of 8 × 8 px (Alpaydin, Kaynak, UCI, 1998), as uint8: the
    sixteen grey levels spread over 0 … 255."""

    shape: tuple[int, int, int] = (1797, 8, 8)
    dtype: str = "uint8"

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


def _status_of(path: str, kind: str) -> Status:
    if kind != "zarr":
        return file_status(path)
    from kmdist.store.zarr_trees import tree_status

    tree = tree_status(path)
    return tree.size_bytes, tree.mtime_ns, tree.ctime_ns


@lru_cache(maxsize=4)
def _array(path: str, kind: str, key: str, status: Status) -> Any:
    """An array, opened once while its file stays as it is.

    The map of a file that has become shorter ends the process where it is read.
    """
    if kind != "zarr":
        require_same(path, status)
        return open_idx(Path(path), check=False) if kind == "idx" else open_numpy(path, key)
    from kmdist.store.zarr_trees import open_guarded, require_stored, tree_status

    array = open_guarded(path, key, status[2])
    require_stored(array, tree_status(path).files, MAX_PIXELS)
    return array


def open_array(path: Path) -> tuple[ArrayStack, np.ndarray | None]:
    """Images of an array on disk, and their classes where the file or group holds them.

    Raises
    ------
    UsageError : no array with three axes. KmdistError : the file cannot be read.
    """
    kind = "zarr" if path.is_dir() else path.suffix.lower()[1:]
    try:
        status = _status_of(str(path), kind)
        key, class_key = _keys(path, kind)
        array = _array(str(path), kind, key, status)
        classes = _array(str(path), kind, class_key, status)[...] if class_key else None
    except Exception as error:  # zarr, zipfile and NumPy fail in ways of their own on broken bytes
        raise _unreadable(path, error) from error
    shape = tuple(array.shape)
    if len(shape) == 3 and not (min(shape) >= 1 and shape[1] * shape[2] <= MAX_PIXELS):
        raise UsageError(
            f"{path}: an array of shape {shape}; expected images (n, height, width) of 1 to "
            f"{MAX_PIXELS:,} px"
        )
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
    stack = _array_stack(str(path), kind, key, array, status)
    return stack, None if classes is None else np.asarray(classes)


def _array_stack(path: str, kind: str, key: str, array: Any, status: Status) -> ArrayStack:
    """Images of an array (n, h, w), of which all are read to see what their values mean."""
    n, height, width = array.shape
    blocks = (np.asarray(array[i : min(i + BLOCK_IMAGES, n)]) for i in range(0, n, BLOCK_IMAGES))
    levels = levels_of(path, blocks)
    return ArrayStack(path, kind, key, (n, height, width), levels, status)


def _unreadable(path: str | Path, error: Exception) -> KmdistError:
    if isinstance(error, MemoryError) or type(error) in (KmdistError, UsageError):
        raise error
    said = getattr(error, "reason", None) or " ".join(str(error).split())[:200]
    return KmdistError(f"{path}: cannot be read: {said or type(error).__name__}")


def _keys(path: Path, kind: str) -> tuple[str, str]:
    """Names of the images and of the classes; empty where there are none."""
    if kind == "npy":
        return "", ""
    if kind == "npz":
        names = members_of(str(path))
    else:
        from kmdist.store.zarr_trees import open_guarded

        node = open_guarded(path)
        if not hasattr(node, "array_keys"):
            return "", ""
        names = sorted(node.array_keys())
    images = next((name for name in _IMAGE_KEYS if name in names), "")
    if not images:
        raise UsageError(
            f"{path} holds {', '.join(names) or 'no arrays'}; the images must be named one of "
            f"{', '.join(_IMAGE_KEYS)}"
        )
    return images, next((name for name in _CLASS_KEYS if name in names), "")


_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_SPACING = 4 << 20
"""Bytes of content between the places from which decompression can go on, 32 kB of memory each."""
_IMAGES, _LABELS = "images-idx3", "labels-idx1"


@dataclass(frozen=True)
class IdxFile:
    """The header of one IDX file.

    Parameters
    ----------
    path : the file. zipped : whether it is gzipped.
    type : NumPy type of the values as stored.
    shape : size of each axis.
    status : `file_status` when it was opened.
    """

    path: str
    zipped: bool
    type: str
    shape: tuple[int, ...]
    status: Status

    def __getitem__(self, entries: slice) -> np.ndarray:
        """Entries along the first axis, in native byte order."""
        start, stop, _ = entries.indices(self.shape[0])
        dtype = np.dtype(self.type)
        entry = int(np.prod(self.shape[1:], dtype=np.int64)) * dtype.itemsize
        first = 4 + 4 * len(self.shape) + start * entry
        data = _read(self.path, self.zipped, first, (stop - start) * entry)
        require_same(self.path, self.status)
        usable = len(data) // max(entry, 1) * entry
        values = np.frombuffer(data[:usable], dtype).reshape(-1, *self.shape[1:])
        return values.astype(dtype.newbyteorder("="), copy=False)


def is_idx(path: Path) -> bool:
    """Whether a file is to be read as IDX: by its name, or by its first bytes."""
    if any(part in _plain_name(path) for part in (_IMAGES, _LABELS)):
        return True
    try:
        with open_regular(str(path)) as file:
            start = file.read(4)
    except (OSError, ImageError):
        return False
    return start[:2] == _GZIP_MAGIC or (
        len(start) == 4 and start[:2] == b"\0\0" and start[2] in _TYPES and 1 <= start[3] <= 4
    )


def open_idx(path: Path, *, check: bool = True) -> IdxFile:
    """Read the header, and check that the file is as long as it says.

    Raises
    ------
    KmdistError : wrong magic, truncated, corrupt gzip, or too long.
    """
    try:
        status = file_status(str(path))
        with open_regular(str(path)) as file:
            zipped = file.read(2) == _GZIP_MAGIC
    except (OSError, ImageError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    start = _read(str(path), zipped, 0, 4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or not start[3]:
        raise KmdistError(
            f"{path}: not an IDX file: its first bytes are {start.hex(' ') or 'missing'}; images "
            "begin with 00 00 08 03, labels with 00 00 08 01"
        )
    n_axes = start[3]
    sizes = _read(str(path), zipped, 4, 4 * n_axes)
    if len(sizes) < 4 * n_axes:
        raise KmdistError(f"{path}: truncated: it ends within its header")
    found = IdxFile(
        str(path), zipped, _TYPES[start[2]], struct.unpack(f">{n_axes}I", sizes), status
    )
    if check:
        _require_size(found)
    return found


def _require_size(found: IdxFile) -> None:
    expected = (
        4
        + 4 * len(found.shape)
        + int(np.prod(found.shape, dtype=np.int64) * np.dtype(found.type).itemsize)
    )
    path = found.path
    size = _content_size(path) if found.zipped else os.stat(path).st_size
    if size != expected:
        kind = "truncated" if size < expected else "too long"
        shape = " × ".join(map(str, found.shape))
        raise KmdistError(
            f"{path}: {kind}{' gzip' if found.zipped else ''}: its header says {shape} values, "
            f"{expected:,} bytes in all, and it has {size:,}; download it again"
        )


def _read(path: str, zipped: bool, start: int, n_bytes: int) -> bytes:
    if zipped:
        try:
            return bytes(_gzip_file(path).pread(n_bytes, start))
        except OSError as error:
            raise _damaged(path, error) from error
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(n_bytes)


def _content_size(path: str) -> int:
    """Bytes that a gzip file holds, after all of it was read and its checksums compared."""
    file = _gzip_file(path)
    try:
        file.build_full_index()
        return int(file.seek(0, os.SEEK_END))
    except OSError as error:
        raise _damaged(path, error) from error


def _gzip_file(path: str) -> Any:
    """The file, with the index that this process has made of it, while it stays as it is."""
    return _indexed(path, file_status(path))


@lru_cache(maxsize=8)
def _indexed(path: str, status: Status) -> Any:
    from indexed_gzip import IndexedGzipFile

    return IndexedGzipFile(path, spacing=_SPACING)


def _damaged(path: str, error: OSError) -> KmdistError:
    return KmdistError(f"{path}: not valid gzip ({error}); download it again")


def images_of(path: Path) -> ArrayStack:
    """The images of an IDX file.

    Raises
    ------
    KmdistError : see `open_idx`. UsageError : it holds labels, or anything but (n, h, w).
    """
    found = open_idx(path)
    if len(found.shape) != 3:
        hint = "; these are labels, name the file of images" if len(found.shape) == 1 else ""
        raise UsageError(
            f"{path}: an IDX file with {len(found.shape)} axes; images have 3 (magic "
            f"00 00 08 03){hint}"
        )
    if not all(found.shape):
        raise UsageError(f"{path}: an IDX file of shape {found.shape}: it holds no images")
    return _array_stack(str(path), "idx", "", found, found.status)


def labels_of(path: Path) -> np.ndarray:
    """The labels of an IDX file, (n,) int64."""
    found = open_idx(path)
    if len(found.shape) != 1:
        raise UsageError(
            f"{path}: an IDX file with {len(found.shape)} axes; labels have 1 (magic 00 00 08 01)"
        )
    return found[:].astype(np.int64)


def labels_beside(path: Path) -> Path | None:
    """Where the labels of an images file lie, by MNIST's naming, gzipped or not."""
    wanted = _plain_name(path).replace(_IMAGES, _LABELS)
    if wanted == _plain_name(path):
        return None
    within = path.parent.name == path.name
    folders = (path.parent, path.parent.parent) if within else (path.parent,)
    return next((one for folder in folders for one in _named_files(folder, wanted)), None)


def images_within(folder: Path) -> Path | None:
    """The images file that a folder is there for, or None.

    Raises
    ------
    UsageError : there are several.
    """
    found = {_plain_name(path): path for path in reversed(_named_files(folder, _IMAGES))}
    if len(found) > 1:
        listed = ", ".join(sorted(path.name for path in found.values()))
        raise UsageError(f"{folder} holds several IDX files of images, {listed}: name one of them")
    return next(iter(found.values()), None)


def _named_files(folder: Path, part: str) -> list[Path]:
    """Files whose plain names hold a part, also where each lies in a folder of its own name.

    Kaggle unpacks every file into a folder that is called as the file is.
    """
    named = sorted(path for path in folder.iterdir() if part in _plain_name(path))
    nested = [path / path.name if path.is_dir() else path for path in named]
    return [path for path in nested if path.is_file()]


def _plain_name(path: Path) -> str:
    """A name as MNIST's own archive has it: lower case, dashes, not gzipped."""
    return re.sub("[._]", "-", path.name.lower().removesuffix(".gz"))
