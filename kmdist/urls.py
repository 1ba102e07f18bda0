"""URLs of object stores, and the file systems behind them."""

import os
from typing import Any
from urllib.parse import urlsplit

from kmdist.errors import UsageError

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path names an object in a store rather than a file."""
    return "://" in os.fspath(path)


def require_on_disk(path: str | os.PathLike[str], what: str) -> None:
    """Refuse the URL of something that is read from or written to disk alone.

    Raises
    ------
    UsageError : it is a URL.
    """
    if is_url(path):
        said = f"{what} {os.fspath(path)}"
        raise UsageError(f"{said}: is a URL, and this is on disk alone: copy it from or to there")


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
