"""Where the objects of a run go: keys to bytes, in a folder or (by the same protocol) a bucket.

Workers write through a `Target` alone, so that a store of another kind needs one class here and
its own way to publish: a folder is renamed, a bucket gets its root ``zarr.json`` last.
"""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from kmdist.errors import KmdistError

STATE = "state"
"""Folder of a run in the making: checkpoints, manifest, owner, half-written files."""


class Target(Protocol):
    """A tree of objects by key ('/' separated, relative), written from many workers at once."""

    def put(self, key: str, data: bytes | bytearray | memoryview, *, durable: bool = False) -> None:
        """Write an object; a reader sees the old one or the whole new one.

        A durable one is on the disk when this returns, which takes milliseconds.
        """

    def append(self, key: str, data: bytes) -> None:
        """Add to the end of a log that one process writes."""

    def get(self, key: str) -> bytes | None:
        """The object's content, or None where there is no such object."""

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Keys of all objects below a prefix (a folder, not the start of a name), sorted."""

    def children(self, prefix: str = "") -> list[str]:
        """Names of what lies directly below a prefix, sorted."""

    def delete(self, prefix: str) -> None:
        """Remove all objects below a prefix, and the object of that key; absent is fine."""

    def zarr_store(self) -> Any:
        """A read-only store over the same keys that zarr-python opens."""


class LocalTarget:
    """A folder. Objects are written beside and renamed, so that none is ever seen half.

    The half-written ones lie in ``state/`` of the folder: what a killed worker leaves there goes
    away with it when the run is published.

    Parameters
    ----------
    root : the folder; it must exist before the first write. A write never creates it, so that a
        worker that outlives its run cannot make the folder rise again.
    """

    _serial = count()
    _process: tuple[int, str] = (0, "")

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)

    def __repr__(self) -> str:
        return f"LocalTarget({self.root!r})"

    def put(self, key: str, data: bytes | bytearray | memoryview, *, durable: bool = False) -> None:
        """Write an object by rename.

        Raises
        ------
        KmdistError : the disk is full, the folder is gone or not writable; with the path.
        """
        path = self._path(key)
        half = f"{self.root}/{STATE}/tmp/{self._unique()}"
        try:
            try:
                self._write(half, data, durable)
            except FileNotFoundError:
                self._make_folder(os.path.dirname(half))
                self._write(half, data, durable)
            try:
                os.rename(half, path)
            except FileNotFoundError:
                self._make_folder(os.path.dirname(path))
                os.rename(half, path)
        except OSError as error:
            _remove_quietly(half)
            raise self._failure(path, error) from error

    def append(self, key: str, data: bytes) -> None:
        """Append with one write; where the last one was torn, its line is ended first.

        Raises
        ------
        KmdistError : as for `put`.
        """
        path = self._path(key)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            try:
                descriptor = os.open(path, flags, 0o666)
            except FileNotFoundError:
                self._make_folder(os.path.dirname(path))
                descriptor = os.open(path, flags, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                _write_all(descriptor, b"\n" + data if torn else data)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._failure(path, error) from error

    def get(self, key: str) -> bytes | None:
        """Read a whole object; None where there is none."""
        try:
            with open(self._path(key), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def exists(self, key: str) -> bool:
        """Whether the key is a file."""
        return os.path.isfile(self._path(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Walk the files below a folder, sorted within each."""
        top = self._path(prefix) if prefix else self.root
        for folder, folders, files in os.walk(top):
            folders.sort()
            base = os.path.relpath(folder, self.root).replace(os.sep, "/")
            for name in sorted(files):
                yield name if base == "." else f"{base}/{name}"

    def children(self, prefix: str = "") -> list[str]:
        """Names in one folder; none where it does not exist."""
        try:
            return sorted(os.listdir(self._path(prefix) if prefix else self.root))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def delete(self, prefix: str) -> None:
        """Remove a file or a folder with all in it."""
        path = self._path(prefix)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            _remove_quietly(path)

    def zarr_store(self) -> Any:
        """zarr-python's store of the folder."""
        from zarr.storage import LocalStore

        return LocalStore(self.root, read_only=True)

    def _path(self, key: str) -> str:
        if not key or key[0] == "/" or any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"not a key within a run: {key!r}")
        return f"{self.root}/{key}"

    def _make_folder(self, path: str) -> None:
        missing = []
        while path != self.root and not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        if not os.path.isdir(self.root):
            raise FileNotFoundError(f"the folder {self.root} is gone")
        for folder in reversed(missing):
            try:
                os.mkdir(folder)
            except FileExistsError:
                continue

    @classmethod
    def _unique(cls) -> str:
        # Forked workers and other machines on the same file system must not share names.
        if cls._process[0] != os.getpid():
            cls._process = (os.getpid(), os.urandom(6).hex())
        return f"{cls._process[1]}-{next(cls._serial)}"

    @staticmethod
    def _write(path: str, data: bytes | bytearray | memoryview, durable: bool) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _failure(self, path: str, error: OSError) -> KmdistError:
        reason = error.strerror or str(error)
        if not os.path.isdir(self.root):
            reason = "the folder of the run is gone: removed, or published by another process"
        return KmdistError(f"cannot write {path}: {reason}")


def is_url(output: str | os.PathLike[str]) -> bool:
    """Whether an output names an object store rather than a folder."""
    return "://" in os.fspath(output)


def local_path(output: str | os.PathLike[str]) -> Path:
    """The folder an output names, symbolic links resolved, so that a rename stays beside it."""
    return Path(os.path.realpath(os.path.expanduser(os.fspath(output))))


def _write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    # One write(2) moves at most 2 GiB, and fewer bytes than asked where the disk fills up.
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def _remove_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
