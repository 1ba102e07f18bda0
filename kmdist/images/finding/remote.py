"""Images in object stores: ``s3://``, ``gs://``, ``az://`` and whatever else fsspec opens.

Credentials come from the environment, as the store's own tools find them; one written into a URL
is refused, since URLs are recorded in runs.
"""

import os
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from kmdist.errors import ImageError, KmdistError, UsageError

READ_AHEAD_BYTES = 1 << 18
"""Of one request while a header is read; whole images are fetched by one request."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path names an object in a store rather than a file."""
    return "://" in os.fspath(path)


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path within it.

    Raises
    ------
    UsageError : the URL carries credentials, or the package for its store is not installed.
    """
    import fsspec

    scheme = url.partition("://")[0]
    if "@" in urlsplit(url).netloc and not scheme.startswith(("az", "abfs")):
        raise UsageError(
            f"{scheme}://…: leave credentials out of URLs, which are recorded in runs; give them "
            "in the environment, as the store's own tools take them"
        )
    try:
        # Listings are not cached: what another process writes must be seen.
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        remedy = f"pip install 'kmdist[{extra}]'" if extra else "install its fsspec package"
        raise UsageError(f"{url}: {error}; {remedy}") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from error
    return fs, str(path)


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
        # What lies in a Zarr group is no image of its own; hidden names are passed over.
        if not any(part.startswith(".") or part.endswith(".zarr") for part in name.split("/")):
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
