"""Where image files are opened, or objects of a store; faults are `ImageError`. Which are wanted.

Of files, regular ones alone. Objects are ``s3://``, ``gs://``, ``az://`` and whatever else fsspec
opens. Credentials come from the environment, as the store's own tools find them; one written into
a URL is refused, since URLs are recorded in runs.
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, BinaryIO, TypeVar, cast

from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.urls import file_system, is_url

T = TypeVar("T")


def open_regular(path: str, *, buffering: int = -1) -> BinaryIO:
    """Open a file for reading, if it is a regular file.

    The kind is asked before opening, because opening a device can have effects, and again after,
    because it may have changed. ``O_NONBLOCK``: opening a FIFO that has no writer would hang.

    Raises
    ------
    ImageError : missing, link_loop, unreadable or not_regular.
    """
    if is_url(path):
        return open_url(path)
    try:
        _require_regular(os.stat(path).st_mode)
        file = open(path, "rb", buffering, opener=_open_without_waiting)  # noqa: SIM115 (handed on)
    except OSError as error:
        raise os_fault(error, path) from error
    try:
        _require_regular(os.fstat(file.fileno()).st_mode)
    except ImageError:
        file.close()
        raise
    return file


def read_bytes(path: str) -> bytes:
    """All bytes of a regular file.

    Raises
    ------
    ImageError : as `open_regular`.
    """
    if is_url(path):
        return read_url(path)
    with open_regular(path, buffering=0) as file:
        try:
            return file.read()
        except OSError as error:
            raise os_fault(error, path) from error


def file_status(path: str) -> tuple[int, int, int]:
    """Size in bytes, times of modification and of change in nanoseconds, of a file or an object.

    Tools that keep the modification time of what they rewrite cannot keep the time of change. An
    object store has none: -1.

    Raises
    ------
    ImageError : missing or unreadable.
    """
    if is_url(path):
        return (*url_status(path), -1)
    try:
        status = os.stat(path)
    except OSError as error:
        raise os_fault(error, path) from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def require_regular(path: str) -> None:
    """Refuse what is no regular file, without opening it.

    Raises
    ------
    ImageError : missing, link_loop, unreadable or not_regular.
    """
    try:
        _require_regular(os.stat(path).st_mode)
    except OSError as error:
        raise os_fault(error, path) from error


def os_fault(error: OSError, path: str) -> ImageError:
    """What the operating system refused, as a reason to leave the image out."""
    if error.errno == errno.ELOOP:
        return ImageError("link_loop", "a symbolic link that leads back to itself")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if os.path.islink(path):
            return ImageError("missing", f"a link to {os.readlink(path)}, which is not there")
        return ImageError("missing", "not there")
    return ImageError("unreadable", f"cannot be read: {error.strerror or error}")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ImageError("not_regular", f"{_kind(mode)}, not a regular file")


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    )
    return next((kind for test, kind in kinds if test(mode)), "something else")


WAITS_S = (0.1, 0.4, 1.6)
"""Before an object is asked for again: stores' own clients repeat requests, and give up sooner."""
READ_AHEAD_BYTES = 1 << 18
"""Of one request while a header is read; whole images are fetched by one request."""


def glob_folder(pattern: str) -> str:
    """The folder below which all that a glob matches lies; empty: where it is looked for."""
    return os.path.dirname(pattern[: min(pattern.find(sign) for sign in "*?[" if sign in pattern)])


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
            base, keys = glob_folder(path), [key for key in fs.glob(path) if fs.isfile(key)]
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
    ImageError : missing, unreadable or unreachable; from reads too.
    """
    fs, path = file_system(url)
    opened: Any = _answered(lambda: fs.open(path, "rb", block_size=READ_AHEAD_BYTES))
    cache = getattr(opened, "cache", None)  # through which the reads of all stores go
    if cache is not None:
        fetch = cache.fetcher
        cache.fetcher = lambda start, end: _answered(lambda: _fetched(fetch, start, end))
    return cast(BinaryIO, opened)


def _fetched(fetch: Callable[[int, int], bytes], start: int, end: int) -> bytes:
    data = fetch(start, end)
    if len(data) < end - start:
        raise OSError(f"{len(data)} of {end - start} bytes came")
    return data


def read_url(url: str) -> bytes:
    """All bytes of an object.

    Raises
    ------
    ImageError : missing, unreadable or unreachable.
    """
    fs, path = file_system(url)
    return _answered(lambda: bytes(fs.cat_file(path)))


def url_status(url: str) -> tuple[int, int]:
    """Size in bytes, and time of last modification in nanoseconds (0 where the store has none).

    Raises
    ------
    ImageError : missing, unreadable or unreachable.
    """
    fs, path = file_system(url)
    info = _answered(lambda: fs.info(path))
    modified = next(
        (info[key] for key in ("LastModified", "mtime", "updated", "created") if info.get(key)), 0
    )
    seconds = modified.timestamp() if hasattr(modified, "timestamp") else modified
    nanoseconds = int(seconds * 1e9) if isinstance(seconds, int | float) else 0
    return int(info["size"]), nanoseconds


def _answered(ask: Callable[[], T]) -> T:
    """What a store answers, asked again where the network or the store is at fault.

    Raises
    ------
    ImageError : missing, unreadable, or unreachable.
    """
    for wait_s in (*WAITS_S, None):
        try:
            return ask()
        except FileNotFoundError as error:
            raise ImageError("missing", "not there") from error
        except PermissionError as error:
            raise ImageError("unreadable", f"cannot be read: {error}") from error
        except Exception as error:  # each store fails in its own ways
            if wait_s is None:
                raise ImageError("unreachable", f"the store does not answer: {error}") from error
            time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


_SYSTEM_NAMES = frozenset({
    "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recycle", "@tmp", "__macosx", "lost+found",
    "recycler", "system volume information",
    "desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db",
})  # fmt: skip
"""What systems and network storage put among pictures: thumbnails, deleted files, settings."""


def is_system(name: str) -> bool:
    """Whether a file or folder is a system's own, by its name."""
    return name.lower() in _SYSTEM_NAMES


@dataclass(frozen=True)
class Choice:
    """Files to take and to leave, by globs.

    A glob without a slash is held against every part of a name, so that it chooses folders too;
    one with a slash against the whole name within its input folder. ``*`` crosses no folder, ``**``
    does. Upper and lower case differ.

    Parameters
    ----------
    include : at least one must match; empty: all do.
    exclude : none may match.
    suffixes : of what counts as an image besides those that are.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    suffixes: frozenset[str] = frozenset()

    def takes(self, name: str) -> bool:
        """Whether a file is wanted, by its name within its input folder."""
        included = not self.include or any(_matches(name, one) for one in self.include)
        return included and not self.excludes(name)

    def excludes(self, name: str) -> bool:
        """Whether a file, or a folder with all in it, is left out."""
        return any(_matches(name, one) for one in self.exclude)

    def __str__(self) -> str:
        options = [("--include", self.include), ("--exclude", self.exclude)]
        return " ".join(f"{option} {glob}" for option, globs in options for glob in globs)


EVERYTHING = Choice()


def _matches(name: str, glob: str) -> bool:
    parts = name.split("/")
    glob = glob.removeprefix("./").rstrip("/")
    if "/" not in glob:
        return any(fnmatchcase(part, glob) for part in parts)
    wanted = glob.lstrip("/").split("/")
    # A folder that matches stands for all in it.
    return any(_matches_parts(parts[:n], wanted) for n in range(1, len(parts) + 1))


def _matches_parts(parts: list[str], globs: list[str]) -> bool:
    if not globs:
        return not parts
    if globs[0] == "**":
        return any(_matches_parts(parts[n:], globs[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], globs[0]) and _matches_parts(parts[1:], globs[1:])
