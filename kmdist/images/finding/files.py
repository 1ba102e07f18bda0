"""Where image files are opened: regular files and objects alone, faults as `ImageError`."""

import errno
import os
import stat
from typing import BinaryIO

from kmdist.errors import ImageError
from kmdist.images.finding.remote import open_url, read_url, url_status
from kmdist.urls import is_url


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


def file_status(path: str) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds of a file or an object.

    Raises
    ------
    ImageError : missing or unreadable.
    """
    if is_url(path):
        return url_status(path)
    try:
        status = os.stat(path)
    except OSError as error:
        raise os_fault(error, path) from error
    return status.st_size, status.st_mtime_ns


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
