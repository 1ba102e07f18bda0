"""Arrays of ``.npy`` and ``.npz`` files, opened so that nothing in them does harm.

Pickled objects are never loaded; of an ``.npz``, which is inflated whole, the size is asked first.
"""

from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from kmdist.errors import ImageError
from kmdist.images.finding.files import require_regular

MAX_MEMBER_BYTES = 2 << 30
"""Of an array in an ``.npz``: each worker process holds all of it."""


def members_of(path: str) -> list[str]:
    """Names of the arrays in an ``.npz``.

    Raises
    ------
    ImageError : missing, not_regular, corrupt.
    """
    require_regular(path)
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (BadZipFile, ValueError, OSError, EOFError, NotImplementedError) as error:
        raise ImageError.corrupt("NumPy file", error) from error
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def open_numpy(path: str, member: str = "") -> np.ndarray:
    """The array of an ``.npy``, mapped; or one of an ``.npz``, in memory.

    Raises
    ------
    ImageError : missing, not_regular, too_large, corrupt.
    """
    require_regular(path)
    try:
        if member:
            _require_small(path, member)
            with np.load(path, allow_pickle=False) as archive:
                found: Any = archive[member]
        else:
            with np.errstate(over="ignore"):  # of sizes that a header claims
                found = np.load(path, mmap_mode="r", allow_pickle=False)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("too_large", "its array needs more memory than there is") from error
    except Exception as error:  # NumPy and zipfile fail in ways of their own on broken bytes
        raise ImageError.corrupt("NumPy file", error) from error
    if not isinstance(found, np.ndarray):
        raise ImageError.corrupt("NumPy file", f"{member or 'it'} is no array")
    return found


def _require_small(path: str, member: str) -> None:
    with ZipFile(path) as archive:
        size = archive.getinfo(f"{member}.npy").file_size
    if size > MAX_MEMBER_BYTES:
        raise ImageError(
            "too_large",
            f"{member!r} is of {size:,} bytes and would be inflated whole; up to "
            f"{MAX_MEMBER_BYTES:,} are allowed: store it as .npy or Zarr, which are read in parts",
        )
