"""Find the image files that folders, globs, lists and paths stand for, without opening them."""

import glob
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmdist.errors import UsageError
from kmdist.images.samples import is_sample, sample_files
from kmdist.images.source import Rejection

_KNOWN = (
    "avif bmp dib gif ico j2k jfif jp2 jpe jpeg jpg mpo pbm pgm png pnm ppm sgi tga tif tiff webp"
)
SUFFIXES = frozenset("." + known for known in _KNOWN.split())
LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Found:
    """A file to be probed.

    Parameters
    ----------
    name : path relative to its input folder, ``/`` between folders; unique in a job.
    path : where it is.
    """

    name: str
    path: str


@dataclass(frozen=True)
class _Entry:
    """A file with what can make its name unique."""

    name: str
    path: str
    root: str


def find_images(inputs: Sequence[str | Path]) -> tuple[list[Found], list[Rejection]]:
    """Find image files.

    Folders are searched recursively, links to folders followed; hidden files, files that are no
    images by suffix or first bytes, and kmdist's own runs are passed over. A text file (.txt,
    .lst, .list) lists one path a line, relative to its folder; ``#`` begins a comment.

    Parameters
    ----------
    inputs : folders, globs, files, lists, ``sample:NAME``.

    Returns
    -------
    found : sorted by name, which is unique.
    rejections : what is there but cannot be opened: FIFOs, link loops, dangling links.

    Raises
    ------
    UsageError : an input does not exist or matches nothing, or there is no image at all.
    """
    entries: dict[str, _Entry] = {}
    rejections: dict[str, Rejection] = {}
    for one in inputs:
        for result in _expand(os.fspath(one)):
            if isinstance(result, Rejection):
                rejections[result.image] = result
            else:
                entries.setdefault(os.path.abspath(result.path), result)
    if not entries and not rejections:
        listed = ", ".join(str(one) for one in inputs)
        raise UsageError(f"no images in {listed}; known suffixes: {' '.join(sorted(SUFFIXES))}")
    return sorted(_unique(list(entries.values())), key=lambda f: f.name), list(rejections.values())


def _expand(text: str) -> Iterator[_Entry | Rejection]:
    if is_sample(text):
        yield from (_Entry(path.name, str(path), text) for path in sample_files(text))
        return
    path = Path(text).expanduser()
    if not os.path.lexists(path):
        yield from _globbed(text)
    elif path.is_dir():
        if _is_zarr_image(path):
            yield _Entry(path.name, str(path), path.parent.name)
        else:
            yield from _walk(path, str(path), path.resolve().name, (os.path.realpath(path),))
    elif path.suffix.lower() in LIST_SUFFIXES and path.is_file():
        yield from _listed(path)
    else:
        yield _checked(path, path.name, path.resolve().parent.name)


def _globbed(pattern: str) -> Iterator[_Entry | Rejection]:
    if not glob.has_magic(pattern):
        raise UsageError(f"{pattern}: no such file or folder")
    matches = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
    if not matches:
        raise UsageError(f"{pattern}: matches nothing")
    parts = Path(pattern).expanduser().parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = Path(*parts[:fixed])
    for match in map(Path, matches):
        name = os.path.relpath(match, base).replace(os.sep, "/")
        if match.is_dir():
            if _is_zarr_image(match):
                yield _Entry(name, str(match), base.name)
        else:
            yield _checked(match, name, base.resolve().name)


def _listed(path: Path) -> Iterator[_Entry | Rejection]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a list of images: {error}") from error
    for line in lines:
        text = line.strip()
        if text and not text.startswith("#"):
            target = path.parent / Path(text).expanduser()
            name = text.lstrip("/") if not Path(text).is_absolute() else target.name
            yield _checked(target, _inside(name), path.resolve().parent.name)


def _inside(name: str) -> str:
    """A relative name without steps upwards."""
    return "/".join(part for part in Path(name).parts if part not in ("..", "/")) or name


def _walk(
    folder: Path, root: str, root_name: str, above: tuple[str, ...]
) -> Iterator[_Entry | Rejection]:
    """Search a folder; `above` are the real paths of the folders that led here."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        name = os.path.relpath(folder, root).replace(os.sep, "/")
        yield Rejection(name, "unreadable", f"folder cannot be read: {error.strerror}")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        name = os.path.relpath(path, root).replace(os.sep, "/")
        if not _is_folder(entry):
            if _looks_like_image(entry):
                yield _checked(path, name, root_name)
            continue
        real = os.path.realpath(path)
        if real in above:
            yield Rejection(name, "link_loop", f"a link back to {real}, a folder above it")
        elif _is_zarr_image(path):
            yield _Entry(name, str(path), root_name)
        elif not _is_zarr(path):
            yield from _walk(path, root, root_name, (*above, real))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _looks_like_image(entry: "os.DirEntry[str]") -> bool:
    """By suffix; what is no regular file counts, so that it is told of; else by first bytes."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in SUFFIXES:
        return True
    try:
        if entry.is_symlink() and not os.path.exists(entry.path):
            return False
        if not entry.is_file():
            return True
        if suffix and suffix[1:].isalpha():
            return False
        with open(entry.path, "rb") as file:
            return file.read(8).startswith(_MAGIC)
    except OSError:
        return False


def _checked(path: Path, name: str, root: str) -> _Entry | Rejection:
    """An entry for a regular file, a rejection for anything else."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink() and "loop" not in str(error.strerror).lower() and not path.exists():
            return Rejection(name, "missing", f"a link to {os.readlink(path)}, which is not there")
        if "loop" in str(error.strerror).lower() or "symbolic" in str(error.strerror).lower():
            return Rejection(name, "link_loop", "a symbolic link that leads back to itself")
        code = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        return Rejection(name, code, f"cannot be opened: {error.strerror}")
    if not stat.S_ISREG(mode):
        return Rejection(name, "not_regular", f"{_kind(mode)}, not a regular file")
    return _Entry(name, str(path), root)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    return next((kind for test, kind in kinds if test(mode)), "a device")


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _is_zarr_image(path: Path) -> bool:
    """A Zarr array, or an OME-Zarr image; not a run of kmdist."""
    if not _is_zarr(path):
        return False
    from kmdist.images.zarr_images import is_image

    return is_image(path)


def _unique(entries: list[_Entry]) -> list[Found]:
    """Give every file a name of its own: the input folder's name in front, then a number."""
    seen = Counter(entry.name for entry in entries)
    named = [
        (f"{entry.root}/{entry.name}" if seen[entry.name] > 1 else entry.name, entry.path)
        for entry in entries
    ]
    taken: Counter[str] = Counter()
    found = []
    for name, path in sorted(named):
        taken[name] += 1
        unique = name if taken[name] == 1 else f"{name}~{taken[name]}"
        found.append(Found(unique, path))
    return found
