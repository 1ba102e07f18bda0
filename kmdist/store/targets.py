"""Where the objects of a run go: keys to bytes, in a folder or in an object store.

Workers write through a `Target` alone, so that a store of another kind needs one class here and
its own way to publish: a folder is renamed, a bucket gets its root ``zarr.json`` last (see
`kmdist.store.claims.url_claims`, also for who may write there). Object stores are reached through
fsspec, and every object is put whole.
"""

import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from kmdist.errors import KmdistError
from kmdist.urls import file_system

STATE = "state"
"""Folder of a run in the making: checkpoints, manifest, owner, lock."""

_HALF = ".half-"
_OPENING = threading.Lock()


class Readable(Protocol):
    """A tree of objects by key ('/' separated, relative)."""

    def get(self, key: str) -> bytes | None:
        """The object's content, of a log all of it; None where there is no such object.

        Raises
        ------
        KmdistError : it is no regular file, or cannot be read; from the methods below too, where
            the store refuses or is gone.
        """

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""

    def children(self, prefix: str = "") -> list[str]:
        """Names of what lies directly below a prefix, sorted."""

    def zarr_store(self) -> Any:
        """A read-only store over the same keys that zarr-python opens."""


class Target(Readable, Protocol):
    """A tree of objects that is written from many workers at once."""

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Write an object; a reader sees the old one or the whole new one.

        Raises
        ------
        KmdistError : the disk is full, the folder is gone or not writable, the store refuses; with
            the path.
        """

    def append(self, key: str, data: bytes) -> None:
        """Add to the end of a log that one process writes; errors as of `put`."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Keys of all objects below a prefix (a folder, not the start of a name), sorted."""

    def delete(self, prefix: str) -> None:
        """Remove all objects below a prefix, and the object of that key; absent is fine."""

    def stamp(self, key: str) -> Any:
        """What changes when another object takes a key's place; None where there is none."""


class LocalTarget(Target):
    """A folder. Objects are written beside their place and renamed, so that none is seen half.

    The half-written ones lie in the folder of the object, not in one for all: ext4 looks for a
    free inode near the folder, and 20,000 images through one folder cost 1.6 ms each for their
    files, through their own folders 0.3 ms. `remove_halves` clears what killed workers leave.

    Writes go through an open descriptor of the folder: a worker that outlives its run writes to
    where the folder has been moved, never into a new run of the same name.

    Parameters
    ----------
    root : the folder; it must exist before the first write, and a write never creates it.
    guard : a key that must exist whenever something is written; a run in the making has one of
        its own, so that a late write neither reaches another run nor a published one.
    """

    _serial = count()
    _process: tuple[int, str] = (0, "")

    def __init__(self, root: str | os.PathLike[str], guard: str | None = None) -> None:
        self.root = os.path.abspath(root)
        self._guard = guard
        self._descriptor = -1

    def __repr__(self) -> str:
        return f"LocalTarget({self.root!r})"

    def __str__(self) -> str:
        return self.root

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptor": -1}

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        _check_key(key)
        half = f"{os.path.dirname(key)}/{_HALF}{self._unique()}".lstrip("/")
        folder = -1
        try:
            folder = self._open_folder()
            descriptor = self._create(folder, half, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                _write_all(descriptor, data)
            finally:
                os.close(descriptor)
            os.rename(half, key, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            _remove_quietly(half, folder)
            raise self._failure(key, error) from error

    def append(self, key: str, data: bytes) -> None:
        """Append with one write; where the last one was torn, its line is ended first."""
        _check_key(key)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            descriptor = self._create(self._open_folder(), key, flags)
            try:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                _write_all(descriptor, b"\n" + data if torn else data)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._failure(key, error) from error

    def get(self, key: str) -> bytes | None:
        path = f"{self.root}/{key}"
        try:
            with open(path, "rb", opener=_open_at_once) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise KmdistError(f"{path} is no regular file")
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise KmdistError(f"cannot read {path}: {error.strerror}") from error

    def exists(self, key: str) -> bool:
        return os.path.isfile(f"{self.root}/{key}")

    def keys(self, prefix: str = "") -> Iterator[str]:
        for folder, folders, files in os.walk(f"{self.root}/{prefix}"):
            folders.sort()
            base = os.path.relpath(folder, self.root).replace(os.sep, "/")
            for name in sorted(files):
                yield name if base == "." else f"{base}/{name}"

    def children(self, prefix: str = "") -> list[str]:
        try:
            return sorted(os.listdir(f"{self.root}/{prefix}"))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def delete(self, prefix: str) -> None:
        _check_key(prefix)
        path = f"{self.root}/{prefix}"
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            _remove_quietly(path)

    def stamp(self, key: str) -> Any:
        """Inode, size and times of a file."""
        try:
            status = os.stat(f"{self.root}/{key}")
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def zarr_store(self) -> Any:
        """A store of the folder from which only what is harmless is read."""
        from kmdist.store.zarr_trees import GuardedStore

        return GuardedStore(self.root)

    def remove_halves(self) -> None:
        """Remove what workers that were killed had not finished writing."""
        for key in self.keys():
            if os.path.basename(key).startswith(_HALF):
                _remove_quietly(f"{self.root}/{key}")

    def _open_folder(self) -> int:
        """Descriptor of the folder, which is still the one it was at the first write."""
        if self._descriptor < 0:
            with _OPENING:
                if self._descriptor < 0:
                    self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        if self._guard is not None:
            os.stat(self._guard, dir_fd=self._descriptor)
        return self._descriptor

    @staticmethod
    def _create(folder: int, key: str, flags: int) -> int:
        """Open a file for writing, with the folders above it."""
        try:
            return os.open(key, flags | os.O_CLOEXEC, 0o666, dir_fd=folder)
        except FileNotFoundError:
            _make_folder(folder, os.path.dirname(key))
            return os.open(key, flags | os.O_CLOEXEC, 0o666, dir_fd=folder)

    @classmethod
    def _unique(cls) -> str:
        # Forked workers and other machines on the same file system must not share names.
        if cls._process[0] != os.getpid():
            cls._process = (os.getpid(), os.urandom(6).hex())
        return f"{cls._process[1]}-{next(cls._serial)}"

    def _failure(self, key: str, error: OSError) -> KmdistError:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError):
            reason = "the folder of the run is gone: published, removed, or begun anew"
        return KmdistError(f"cannot write {self.root}/{key}: {reason}")


def local_path(output: str | os.PathLike[str]) -> Path:
    """The folder an output names, symbolic links resolved, so that a rename stays beside it."""
    return Path(os.path.realpath(os.path.expanduser(os.fspath(output))))


def _write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    # One write(2) moves at most 2 GiB, and fewer bytes than asked where the disk fills up.
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_key(key: str) -> None:
    if not key or key[0] == "/" or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"not a key within a run: {key!r}")


def _make_folder(root: int, path: str) -> None:
    """Make a folder and those above it; not the root, which may have been removed."""
    if not path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    try:
        os.mkdir(path, dir_fd=root)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_folder(root, os.path.dirname(path))
        _make_folder(root, path)


def _remove_quietly(path: str, folder: int | None = None) -> None:
    try:
        os.unlink(path, dir_fd=folder)
    except OSError:
        return


_BATCH = 1000
"""Objects that are deleted or copied by one call; S3 deletes so many by one request."""


class UrlPath(str):
    """The URL of a run or of what lies in it, with as much of `pathlib.Path` as readers use."""

    def __truediv__(self, name: str) -> "UrlPath":
        return UrlPath(f"{self}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.rpartition("/")[2]


class FsspecTarget(Target):
    """A prefix in an object store, as a `kmdist.store.targets.Target`.

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

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.url = state["url"]
        self._local = threading.local()

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        _check_key(key)
        fs, base = self._open()
        with self._said("write", key, absent_too=True):
            fs.pipe_file(f"{base}/{key}", bytes(data))

    def append(self, key: str, data: bytes) -> None:
        """Add to a log: an object of its own a time, since objects cannot grow."""
        self.put(f"{key}.parts/{time.time_ns():020}-{next(self._serial):06}", data)

    def get(self, key: str) -> bytes | None:
        fs, base = self._open()
        try:
            with self._said("read", key):
                return bytes(fs.cat_file(f"{base}/{key}"))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if not key.endswith(".jsonl"):
                return None
        names = list(self.keys(f"{key}.parts"))
        with self._said("read", key):
            return b"".join(fs.cat_file(f"{base}/{name}") for name in names) or None

    def exists(self, key: str) -> bool:
        fs, base = self._open()
        with self._said("read", key):
            return bool(fs.isfile(f"{base}/{key}"))

    def keys(self, prefix: str = "") -> Iterator[str]:
        fs, base = self._open()
        try:
            with self._said("list", prefix):
                found = fs.find(f"{base}/{prefix}".rstrip("/"))
        except FileNotFoundError:  # nor is there the bucket, which a write will say
            return
        for path in sorted(found):
            yield str(path)[len(base) :].lstrip("/")

    def children(self, prefix: str = "") -> list[str]:
        fs, base = self._open()
        try:
            with self._said("list", prefix):
                listed = fs.ls(f"{base}/{prefix}".rstrip("/"), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted({PurePosixPath(path).name for path in listed})

    def delete(self, prefix: str) -> None:
        _check_key(prefix)
        fs, base = self._open()
        with suppress(FileNotFoundError), self._said("remove", prefix):
            fs.rm(f"{base}/{prefix}".rstrip("/"), recursive=True)

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
            with self._said("remove", keys[0]):
                fs.rm([f"{base}/{key}" for key in keys])
        except FileNotFoundError:
            for key in keys:
                self.delete(key)

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

    def stamp(self, key: str) -> Any:
        """What the store says of an object: its tag, size and times."""
        fs, base = self._open()
        found: dict[str, Any] = {}
        with suppress(FileNotFoundError, NotADirectoryError), self._said("read", key):
            found = fs.info(f"{base}/{key}")
        if not found:
            return None
        return sorted((name, str(value)) for name, value in found.items())

    def zarr_store(self) -> Any:
        """zarr-python's store of the prefix."""
        from zarr.storage import FsspecStore

        if self.url.startswith("memory://"):
            import fsspec
            from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

            fs = AsyncFileSystemWrapper(fsspec.filesystem("memory"), asynchronous=True)
            return FsspecStore(fs, read_only=True, path=self._open()[1])
        return FsspecStore.from_url(self.url, read_only=True)

    @contextmanager
    def _said(self, what: str, key: str, *, absent_too: bool = False) -> Iterator[None]:
        """Say errors of the store plainly, but for what is not there."""
        try:
            yield
        except Exception as error:  # each store fails in its own ways
            absent = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
            if absent and not absent_too:
                raise
            raise KmdistError(f"cannot {what} {self.url}/{key}: {error}") from error

    def _open(self) -> tuple[Any, str]:
        found: tuple[Any, str] | None = getattr(self._local, "opened", None)
        if found is None:
            fs, path = file_system(self.url)
            found = self._local.opened = (fs, path.rstrip("/"))
        return found
