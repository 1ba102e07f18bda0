"""Images in object stores: ``s3://``, ``gs://``, ``az://`` and whatever else fsspec opens.

Credentials come from the environment, as the store's own tools find them; one written into a URL
is refused, since URLs are recorded in runs.
"""

from collections.abc import Iterator
from typing import BinaryIO

from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.images.finding.choice import is_system
from kmdist.urls import file_system

READ_AHEAD_BYTES = 1 << 18
"""Of one request while a header is read; whole images are fetched by one request."""


def find_objects(url: str) -> Iterator[tuple[str, str]]:
    """Name and URL of every object that a URL (an object, a prefix, a glob) stands for.

    Raises
    ------
    UsageError : nothing is there.
    KmdistError : the store does not answer, or refuses.
    """
    fs, path = file_system(url)
    scheme = url.partition("://")[0]
    path = path.rstrip("/")
    try:
        if any(mark in path for mark in "*?["):
            base = path[: min(path.find(mark) for mark in "*?[" if mark in path)].rpartition("/")[0]
            keys = [key for key in fs.glob(path) if fs.isfile(key)]
        elif fs.isfile(path):
            base, keys = path.rpartition("/")[0], [path]
        else:
            base, keys = path, list(fs.find(path))
    except Exception as error:  # each store fails in its own ways
        raise KmdistError(f"{url}: cannot be listed: {error}") from error
    if not keys:
        raise UsageError(f"{url}: nothing is there")
    for key in sorted(keys):
        name = key[len(base) :].lstrip("/")
        parts = name.split("/")
        # What lies in a Zarr group is no image of its own; hidden names are passed over.
        hidden = any(part.startswith(".") or is_system(part) for part in parts)
        if not hidden and not any(part.endswith(".zarr") for part in parts):
            yield name, f"{scheme}://{key.lstrip('/')}"


def open_url(url: str) -> BinaryIO:
    """Open an object for reading by range.

    Raises
    ------
    ImageError : missing or unreadable.
    """
    fs, path = file_system(url)
    try:
        opened: BinaryIO = fs.open(path, "rb", block_size=READ_AHEAD_BYTES)
    except Exception as error:  # each store fails in its own ways
        raise _fault(error) from error
    return opened


def read_url(url: str) -> bytes:
    """All bytes of an object.

    Raises
    ------
    ImageError : missing or unreadable.
    """
    fs, path = file_system(url)
    try:
        return bytes(fs.cat_file(path))
    except Exception as error:  # each store fails in its own ways
        raise _fault(error) from error


def url_status(url: str) -> tuple[int, int]:
    """Size in bytes, and time of last modification in nanoseconds (0 where the store has none).

    Raises
    ------
    ImageError : missing or unreadable.
    """
    fs, path = file_system(url)
    try:
        info = fs.info(path)
    except Exception as error:  # each store fails in its own ways
        raise _fault(error) from error
    modified = next(
        (info[key] for key in ("LastModified", "mtime", "updated", "created") if info.get(key)), 0
    )
    seconds = modified.timestamp() if hasattr(modified, "timestamp") else modified
    nanoseconds = int(seconds * 1e9) if isinstance(seconds, int | float) else 0
    return int(info["size"]), nanoseconds


def _fault(error: Exception) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError("missing", "not there")
    return ImageError("unreadable", f"cannot be read: {error}")
