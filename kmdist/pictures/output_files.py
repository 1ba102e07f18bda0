"""Files beside runs: each appears whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kmdist.errors import KmdistError, UsageError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to write that takes its place when the block ends without an error.

    Raises
    ------
    KmdistError : it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        raise KmdistError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all; bytes of names that are no text as \\udcXX."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def check_picture_path(
    path: str | Path, allowed: tuple[str, ...] = PICTURE_SUFFIXES, *, not_over: str | None = None
) -> Path:
    """The path of a picture to write, before any work is spent on it.

    Parameters
    ----------
    allowed : suffixes; what cannot hold transparency is left out where it is needed.
    not_over : path of the photograph the picture is made from.

    Raises
    ------
    UsageError : the suffix names no format that is allowed, the folder does not exist, or the
        original would be overwritten.
    """
    path = Path(path).expanduser()
    # os.path's functions, unlike Path's, answer False for names that no file can have.
    if path.suffix.lower() not in allowed:
        raise UsageError(
            f"-o {path}: the name must end in {' or '.join(allowed)}, not {path.suffix!r}"
        )
    if os.path.isdir(path):
        raise UsageError(f"-o {path}: is a folder; give the name of a file")
    if not os.path.isdir(path.parent):
        raise UsageError(f"-o {path}: the folder {path.parent} does not exist; make it first")
    both_exist = not_over is not None and os.path.exists(path) and os.path.exists(not_over)
    if both_exist and os.path.samefile(path, str(not_over)):
        raise UsageError(f"-o {path}: is the original photograph; choose another name")
    return path


def prepare_folder(folder: str | Path, *, overwrite: bool) -> Path:
    """A folder to write several files into, made if need be.

    Raises
    ------
    UsageError : it holds something and `overwrite` is not set, or it is a file.
    KmdistError : it cannot be made.
    """
    folder = Path(folder).expanduser()
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"{folder} is a file; give a folder")
    if os.path.isdir(folder) and not overwrite and next(folder.iterdir(), None) is not None:
        raise UsageError(
            f"{folder} is not empty; give another folder, or --overwrite to replace the files of "
            "the same names in it"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KmdistError(f"cannot make {folder}: {error.strerror or error}") from error
    return folder
