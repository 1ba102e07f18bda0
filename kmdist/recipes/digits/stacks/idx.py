"""IDX files (LeCun's MNIST format), gzipped or not, with labels found beside the images.

Four bytes of magic (two zeros, a type code, the number of axes), one big-endian uint32 an axis,
then the values.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import KmdistError, UsageError
from kmdist.recipes.digits.stacks.stack import require_whole

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_SPACING = 4 << 20
"""Bytes of content between the places from which decompression can go on, 32 kB of memory each."""
_PAIRS = (("images-idx3", "labels-idx1"), ("images.idx3", "labels.idx1"))


@dataclass(frozen=True)
class IdxFile:
    """The header of one IDX file.

    Parameters
    ----------
    path : the file. zipped : whether it is gzipped.
    type : NumPy type of the values as stored.
    shape : size of each axis.
    """

    path: str
    zipped: bool
    type: str
    shape: tuple[int, ...]

    def values(self, start: int, stop: int) -> np.ndarray:
        """Entries along the first axis, in native byte order."""
        dtype = np.dtype(self.type)
        entry = int(np.prod(self.shape[1:], dtype=np.int64)) * dtype.itemsize
        first = 4 + 4 * len(self.shape) + start * entry
        data = _read(self.path, self.zipped, first, (stop - start) * entry)
        usable = len(data) // max(entry, 1) * entry
        values = np.frombuffer(data[:usable], dtype).reshape(-1, *self.shape[1:])
        return values.astype(dtype.newbyteorder("="), copy=False)


def is_idx(path: Path) -> bool:
    """Whether a file is to be read as IDX: by its name, or by its first bytes."""
    name = path.name.lower()
    if any(part in name for pair in _PAIRS for part in pair):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
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
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP_MAGIC
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
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
    found = IdxFile(str(path), zipped, _TYPES[start[2]], struct.unpack(f">{n_axes}I", sizes))
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
    status = os.stat(path)
    return _indexed(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _indexed(path: str, size_bytes: int, mtime_ns: int) -> Any:
    from indexed_gzip import IndexedGzipFile

    return IndexedGzipFile(path, spacing=_SPACING)


def _damaged(path: str, error: OSError) -> KmdistError:
    return KmdistError(f"{path}: not valid gzip ({error}); download it again")


@dataclass(frozen=True)
class IdxStack:
    """Images of an IDX file."""

    file: IdxFile

    @property
    def shape(self) -> tuple[int, int, int]:
        """n, height, width."""
        n, height, width = self.file.shape
        return n, height, width

    @property
    def dtype(self) -> str:
        """uint8 as it is; other types as float32."""
        return "uint8" if self.file.type == ">u1" else "float32"

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images as (m, h, w)."""
        images = require_whole(self.file.path, self.file.values(start, stop), stop - start)
        return images.astype(self.dtype, copy=False)

    def identity(self) -> Sequence[Any]:
        """Name, size and time of the file."""
        status = os.stat(self.file.path)
        return [Path(self.file.path).name, status.st_size, status.st_mtime_ns]


def images_of(path: Path) -> IdxStack:
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
    return IdxStack(found)


def labels_of(path: Path) -> np.ndarray:
    """The labels of an IDX file, (n,) int64."""
    found = open_idx(path)
    if len(found.shape) != 1:
        raise UsageError(
            f"{path}: an IDX file with {len(found.shape)} axes; labels have 1 (magic 00 00 08 01)"
        )
    return found.values(0, found.shape[0]).astype(np.int64)


def labels_beside(path: Path) -> Path | None:
    """Where the labels of an images file lie, by MNIST's naming, gzipped or not."""
    for images, labels in _PAIRS:
        if images not in path.name:
            continue
        name = path.name.replace(images, labels)
        bare = name.removesuffix(".gz")
        for candidate in (name, bare, f"{bare}.gz"):
            if path.with_name(candidate).is_file():
                return path.with_name(candidate)
    return None
