"""Files beside runs, on disk or in an object store: each appears whole or not at all."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from kmdist.errors import KmdistError, UsageError
from kmdist.store import run_location
from kmdist.urls import file_system, is_url

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
_SERIAL = count()


@contextmanager
def written_to(place: str | Path) -> Iterator[Path]:
    """A path on disk to write a file or a folder to, which is at its place when the block ends.

    That of a URL lies in the folder for temporary files until then, and is uploaded from there.

    Raises
    ------
    KmdistError : the store refuses or is gone.
    """
    if not is_url(place):
        yield Path(place)
        return
    url = str(place).rstrip("/")
    with tempfile.TemporaryDirectory(prefix="kmdist-") as folder:
        path = Path(folder, PurePosixPath(url).name)
        yield path
        fs, key = file_system(url)
        try:
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                if file.is_file():
                    below = file.relative_to(path).as_posix()
                    fs.put_file(str(file), key if file == path else f"{key}/{below}")
        except Exception as error:  # each store fails in its own ways
            raise KmdistError(f"cannot write {url}: {error}") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to write that takes its place when the block ends without an error.

    Raises
    ------
    KmdistError : it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{os.getpid()}-{next(_SERIAL)}.part")
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        raise KmdistError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # there is none, or the file system cannot be written
            partial.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all; bytes of names that are no text as \\udcXX."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def check_picture_path(
    path: str | Path, allowed: tuple[str, ...] = PICTURE_SUFFIXES, *, not_over: str | None = None
) -> str | Path:
    """Where to write a picture, before any work is spent on it: a path, or a URL as it is.

    Parameters
    ----------
    allowed : suffixes; what cannot hold transparency is left out where it is needed.
    not_over : path or URL of the photograph the picture is made from.

    Raises
    ------
    UsageError : the suffix names no format that is allowed, the folder does not exist, or the
        original would be overwritten.
    """
    place = run_location(path)
    suffix = PurePosixPath(place).suffix
    if suffix.lower() not in allowed:
        raise UsageError(f"-o {place}: the name must end in {' or '.join(allowed)}, not {suffix!r}")
    refuse_originals([place], [not_over] if not_over else [])
    if isinstance(place, str):
        file_system(place)
        return place
    path = place.expanduser()
    # os.path's functions, unlike Path's, answer False for names that no file can have.
    if os.path.isdir(path):
        raise UsageError(f"-o {path}: is a folder; give the name of a file")
    if not os.path.isdir(path.parent):
        raise UsageError(f"-o {path}: the folder {path.parent} does not exist; make it first")
    return path


def refuse_originals(places: Iterable[str | Path], originals: Iterable[str]) -> None:
    """Refuse to write over the photographs that pictures are made from.

    Parameters
    ----------
    places : paths and URLs that are to be written.
    originals : paths and URLs of the photographs; those that are gone do no harm.

    Raises
    ------
    UsageError : one is the other, by whatever name.
    """
    kept = {_identity(one) for one in originals} - {None}
    for place in places if kept else ():
        if _identity(place) in kept:
            raise UsageError(
                f"-o {place}: is the original photograph, which is never overwritten; choose "
                "another name or folder"
            )


def _identity(place: str | Path) -> Any:
    """What is equal for names of one file; None where there is none."""
    if is_url(place):
        return str(place)
    try:
        found = os.stat(Path(place).expanduser())
    except (OSError, ValueError):  # there is none, or no file can have that name
        return None
    return found.st_dev, found.st_ino


def is_there(place: str | Path) -> bool:
    """Whether a file or an object is there already.

    Raises
    ------
    KmdistError : the store refuses or is gone.
    """
    if not is_url(place):
        return os.path.exists(place)
    fs, key = file_system(str(place))
    try:
        return bool(fs.exists(key))
    except Exception as error:  # each store fails in its own ways
        raise KmdistError(f"{place}: cannot be looked for: {error}") from error


def check_folder(folder: str | Path, *, overwrite: bool) -> str | Path:
    """Where to write several files: a folder on disk, or the URL of a prefix.

    Raises
    ------
    UsageError : it holds something and `overwrite` is not set, or it is a file.
    KmdistError : the store refuses or is gone.
    """
    place = run_location(folder)
    if isinstance(place, str):
        fs, key = file_system(place)
        try:
            holds_something = bool(fs.find(key.rstrip("/"), maxdepth=None)[:1])
        except FileNotFoundError:
            holds_something = False
        except Exception as error:  # each store fails in its own ways
            raise KmdistError(f"{place}: cannot be listed: {error}") from error
    else:
        place = place.expanduser()
        if os.path.exists(place) and not os.path.isdir(place):
            raise UsageError(f"{place} is a file; give a folder")
        holds_something = os.path.isdir(place) and next(place.iterdir(), None) is not None
    if holds_something and not overwrite:
        raise UsageError(
            f"{place} is not empty; give another folder, or --overwrite to replace the files of "
            "the same names in it"
        )
    return place


def make_folder(folder: Path) -> Path:
    """A folder on disk, made if need be.

    Raises
    ------
    KmdistError : it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KmdistError(f"cannot make {folder}: {error.strerror or error}") from error
    return folder
