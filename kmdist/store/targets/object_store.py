"""Keys and objects of a run in an object store, through fsspec: every object is put whole.

How a run becomes visible there, and who may write: `kmdist.store.claims.url_claims`.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import PurePosixPath
from typing import Any

from kmdist.errors import KmdistError
from kmdist.urls import file_system

_BATCH = 1000
"""Objects that are deleted or copied by one call; S3 deletes so many by one request."""


class UrlPath:
    """The URL of a run or of what lies in it, with as much of `pathlib.Path` as readers use."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def __str__(self) -> str:
        return self._url

    def __repr__(self) -> str:
        return f"UrlPath({self._url!r})"

    def __fspath__(self) -> str:
        return self._url

    def __truediv__(self, name: str) -> "UrlPath":
        return UrlPath(f"{self._url}/{name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UrlPath) and other._url == self._url

    def __hash__(self) -> int:
        return hash(self._url)

    @property
    def name(self) -> str:
        """The last part."""
        return self._url.rpartition("/")[2]


class FsspecTarget:
    """A prefix in an object store, as a `kmdist.store.targets.local.Target`.

    Parameters
    ----------
    url : of the run.
    """

    _serial = count()

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._local = threading.local()

    def __repr__(self) -> str:
        return f"FsspecTarget({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.url = state["url"]
        self._local = threading.local()

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Put an object; the store makes it durable.

        Raises
        ------
        KmdistError : the store refuses or is gone.
        """
        _check_key(key)
        fs, base = self._open()
        try:
            fs.pipe_file(f"{base}/{key}", bytes(data))
        except Exception as error:  # each store fails in its own ways
            raise KmdistError(f"cannot write {self.url}/{key}: {error}") from error

    def append(self, key: str, data: bytes) -> None:
        """Add to a log: an object of its own a time, since objects cannot grow."""
        self.put(f"{key}.parts/{time.time_ns():020}-{next(self._serial):06}", data)

    def get(self, key: str) -> bytes | None:
        """The object, or the joined parts of a log; None where there is neither.

        Raises
        ------
        KmdistError : the store refuses or is gone.
        """
        fs, base = self._open()
        try:
            return bytes(fs.cat_file(f"{base}/{key}"))
        except (FileNotFoundError, IsADirectoryError):
            if not key.endswith(".jsonl"):
                return None
        except Exception as error:  # each store fails in its own ways
            raise KmdistError(f"cannot read {self.url}/{key}: {error}") from error
        parts = [fs.cat_file(f"{base}/{part}") for part in self.keys(f"{key}.parts")]
        return b"".join(parts) or None

    def exists(self, key: str) -> bool:
        """Whether the key is an object."""
        fs, base = self._open()
        return bool(fs.isfile(f"{base}/{key}"))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Keys below a prefix, sorted."""
        fs, base = self._open()
        start = f"{base}/{prefix}".rstrip("/")
        for path in sorted(fs.find(start)):
            yield str(path)[len(base) :].lstrip("/")

    def children(self, prefix: str = "") -> list[str]:
        """Names directly below a prefix, sorted."""
        fs, base = self._open()
        try:
            listed = fs.ls(f"{base}/{prefix}".rstrip("/"), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted({PurePosixPath(path).name for path in listed})

    def delete(self, prefix: str) -> None:
        """Remove an object and all below it; absent is fine."""
        _check_key(prefix)
        fs, base = self._open()
        try:
            fs.rm(f"{base}/{prefix}".rstrip("/"), recursive=True)
        except FileNotFoundError:
            return
        except Exception as error:  # each store fails in its own ways
            raise KmdistError(f"cannot remove {self.url}/{prefix}: {error}") from error

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Remove objects, many by one request.

        Raises
        ------
        KmdistError : the store refuses or is gone.
        """
        for start in range(0, len(keys), _BATCH):
            self._remove(keys[start : start + _BATCH])

    def _remove(self, keys: Sequence[str]) -> None:
        fs, base = self._open()
        try:
            fs.rm([f"{base}/{key}" for key in keys])
        except FileNotFoundError:
            for key in keys:
                self.delete(key)
        except Exception as error:  # each store fails in its own ways
            raise KmdistError(f"cannot remove from {self.url}: {error}") from error

    def copy_from(self, other: "FsspecTarget", keys: Sequence[str]) -> None:
        """Copy objects from another prefix of the same store, within the store.

        Raises
        ------
        KmdistError : the store refuses or is gone.
        """
        for start in range(0, len(keys), _BATCH):
            self._copy(other, keys[start : start + _BATCH])

    def _copy(self, other: "FsspecTarget", keys: Sequence[str]) -> None:
        fs, base = self._open()
        _, theirs = other._open()
        try:
            fs.copy([f"{theirs}/{key}" for key in keys], [f"{base}/{key}" for key in keys])
        except Exception as error:  # each store fails in its own ways
            raise KmdistError(f"cannot copy from {other.url} to {self.url}: {error}") from error

    def zarr_store(self) -> Any:
        """zarr-python's store of the prefix."""
        from zarr.storage import FsspecStore

        if self.url.startswith("memory://"):
            import fsspec
            from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

            fs = AsyncFileSystemWrapper(fsspec.filesystem("memory"), asynchronous=True)
            return FsspecStore(fs, read_only=True, path=self._open()[1])
        return FsspecStore.from_url(self.url, read_only=True)

    def _open(self) -> tuple[Any, str]:
        found: tuple[Any, str] | None = getattr(self._local, "opened", None)
        if found is None:
            fs, path = file_system(self.url)
            found = self._local.opened = (fs, path.rstrip("/"))
        return found


def _check_key(key: str) -> None:
    if not key or key[0] == "/" or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"not a key within a run: {key!r}")
