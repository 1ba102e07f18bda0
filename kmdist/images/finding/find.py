"""Find the image files that folders, globs, lists and paths stand for."""

import glob
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kmdist.arguments import described
from kmdist.errors import ImageError, UsageError
from kmdist.images.finding.files import (
    EVERYTHING,
    Choice,
    find_objects,
    glob_folder,
    is_system,
    open_regular,
    read_bytes,
    require_regular,
)
from kmdist.images.finding.formats import (
    REFUSED_SUFFIXES,
    SIDECAR_SUFFIXES,
    SNIFFED_BYTES,
    SUFFIXES,
    detect,
    holds_images,
    is_zarr,
    is_zarr_image,
    refused,
)
from kmdist.images.source import Rejection
from kmdist.urls import is_url

LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})


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
    """A file, the input folder it came from, and why it is left out, if it is."""

    name: str
    path: str
    root: str
    fault: ImageError | None = None


def find_images(
    inputs: Sequence[str | Path | Found], choice: Choice = EVERYTHING
) -> tuple[list[Found], list[Rejection]]:
    """Find image files.

    Folders are searched recursively and links to folders followed. Passed over are hidden files,
    what systems put among pictures (see `kmdist.images.finding.files`), Zarr groups that neither
    are an image nor hold some, as plates do (kmdist's own runs), and files that are no image by
    suffix or, where the suffix says nothing, by first bytes. What is named itself is always taken,
    unless `choice` leaves it out. A text file (.txt, .lst, .list) lists one path or URL a line,
    relative to its own folder; ``#`` begins a comment. The same file named twice counts once.

    Parameters
    ----------
    inputs : folders, globs, files, lists, ``sample:NAME``, URLs of object stores; `Found` is
        taken under its own name.
    choice : of the files found, those named themselves among them.

    Returns
    -------
    found : sorted by name, which is unique.
    rejections : what is there but must not be opened: FIFOs, link loops, dangling links.

    Raises
    ------
    UsageError : an input does not exist or matches nothing, or there is no image at all.
    """
    entries: dict[str, _Entry] = {}
    for one in listed_inputs(inputs):
        if isinstance(one, Found) and is_url(one.path):
            entries.setdefault(one.path, _Entry(one.name, one.path, ""))
            continue
        if isinstance(one, Found):
            is_tree = os.path.isdir(one.path) and is_zarr(one.path)
            entry = _Entry(one.name, one.path, "") if is_tree else _checked(one.path, one.name, "")
            entries.setdefault(os.path.abspath(one.path), entry)
            continue
        for entry in _expand(os.fspath(one), choice):
            entries.setdefault(os.path.abspath(entry.path), entry)
    if not entries:
        listed = ", ".join([*map(str, inputs), *filter(None, [str(choice)])]) or "no inputs"
        raise UsageError(f"no images in {listed}; known suffixes: {' '.join(sorted(SUFFIXES))}")
    found, rejections = [], []
    for name, entry in sorted(_unique(list(entries.values()))):
        if entry.fault is None:
            # In full: runs record it, and are read from other folders.
            path = entry.path if is_url(entry.path) else os.path.abspath(entry.path)
            found.append(Found(name, path))
        else:
            rejections.append(Rejection(name, entry.fault.code, entry.fault.reason, entry.path))
    return found, rejections


def listed_inputs(inputs: Any) -> list[Any]:
    """Inputs as a list of what names images.

    Raises
    ------
    UsageError : they are no paths.
    """
    single = isinstance(inputs, str | bytes | os.PathLike | Found)
    if single or not isinstance(inputs, Iterable) or hasattr(inputs, "shape"):
        inputs = [inputs]  # of an array or a table its rows would say less
    listed = list(inputs)
    for one in listed:
        if not isinstance(one, str | os.PathLike | Found):
            raise UsageError(
                f"inputs: must be paths of image files, folders or globs, got {described(one)}"
            )
        if one == "":
            raise UsageError("inputs: a path is empty; '.' is the current folder")
    return listed


def _expand(text: str, choice: Choice) -> Iterator[_Entry]:
    """All that an input stands for and that is chosen."""
    yield from (entry for entry in _named_by(text, choice) if choice.takes(entry.name))


def _named_by(text: str, choice: Choice) -> Iterator[_Entry]:
    if is_sample(text):
        yield from (_Entry(path.name, str(path), text) for path in sample_files(text))
        return
    is_list = os.path.splitext(text)[1].lower() in LIST_SUFFIXES
    if is_url(text) and is_list:
        yield from _listed(text, choice)
        return
    if is_url(text):
        for name, url in find_objects(text):
            if _looks_remote(name):
                yield _Entry(name, url, text.rstrip("/").rpartition("/")[2])
        return
    path = os.path.expanduser(text)
    if not os.path.lexists(path):
        yield from _globbed(path, text, choice)
    elif is_list and os.path.isfile(path):
        yield from _listed(path, choice)
    else:
        base = os.path.basename(os.path.abspath(path))
        root = os.path.basename(os.path.dirname(os.path.abspath(path)))
        yield from _named(path, base, root, "", choice)


def _named(path: str, name: str, root: str, inside: str, choice: Choice) -> Iterator[_Entry]:
    """A path that was named itself: a folder is searched, all else taken.

    Parameters
    ----------
    name : of the image, if it is one; `inside` : what to put before names within a folder.
    """
    if os.path.isdir(path) and (not is_zarr(path) or holds_images(path)):
        yield from _walk(path, inside, os.path.basename(os.path.realpath(path)), choice)
    elif os.path.isdir(path):
        yield _Entry(name, path, root)
    else:
        yield _checked(path, name, root)


def _globbed(pattern: str, text: str, choice: Choice) -> Iterator[_Entry]:
    if not glob.has_magic(pattern):
        raise UsageError(f"{text}: no such file or folder")
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise UsageError(f"{text}: matches nothing")
    parts = Path(pattern).parts
    base = glob_folder(pattern) or "."
    root = os.path.basename(os.path.realpath(base))
    for match in matches:
        name = _relative(match, base)
        if any(is_system(part) and part not in parts for part in name.split("/")):
            continue
        if os.path.isdir(match):
            yield from _named(match, name, root, "" if name == "." else f"{name}/", choice)
        elif _looks_like_image(match, choice):
            yield _checked(match, name, root)


def _listed(path: str, choice: Choice) -> Iterator[_Entry]:
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except (ImageError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a list of images: {error}") from error
    folder = os.path.dirname(path if is_url(path) else os.path.abspath(path))
    root = os.path.basename(folder)
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if is_url(path) or is_url(text):
            yield from _listed_objects(text, folder, root)
            continue
        target = os.path.join(folder, os.path.expanduser(text))
        name = _relative(target, folder)
        if name.startswith("../"):
            name = os.path.basename(os.path.normpath(target))
        yield from _named(target, name, root, f"{name}/", choice)


def _listed_objects(text: str, folder: str, root: str) -> Iterator[_Entry]:
    """The object, or those below the prefix, that a line of a list names."""
    scheme, _, key = (text if is_url(text) else f"{folder}/{text}").partition("://")
    target, name = f"{scheme}://{posixpath.normpath(key)}", posixpath.normpath(text)
    if is_url(text) or name.startswith("../"):
        name = posixpath.basename(target)
    if _looks_remote(target):
        yield _Entry(name, target, root)
        return
    for inside, url in find_objects(target):
        if _looks_remote(inside):
            yield _Entry(f"{name}/{inside}", url, root)


def _looks_remote(name: str) -> bool:
    """By suffix alone: to look into objects costs a request each."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in SUFFIXES or suffix in REFUSED_SUFFIXES


def _relative(path: str, base: str) -> str:
    return os.path.relpath(path, base).replace(os.sep, "/")


def _walk(folder: str, inside: str, root: str, choice: Choice) -> Iterator[_Entry]:
    """Search a folder and all below it.

    A link to a folder on the way that led to it would never end, and is told of; as in ``find
    -L``, any other link is followed, even if its folder has been searched under another name.
    """
    pending: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(folder, inside, ())]
    while pending:
        path, prefix, above = pending.pop()
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                fault = ImageError("link_loop", "a link back to a folder above it")
                yield _Entry(prefix.rstrip("/"), path, root, fault)
                continue
            with os.scandir(path) as scan:
                children = list(scan)
        except OSError as error:
            fault = ImageError("unreadable", f"folder {path} cannot be read: {error.strerror}")
            yield _Entry(prefix.rstrip("/") or root, path, root, fault)
            continue
        for child in children:
            name = prefix + child.name
            hidden = child.name.startswith(".") or is_system(child.name)
            if hidden or choice.excludes(name):
                continue
            if not _is_folder(child):
                if _looks_like_image(child.path, choice):
                    regular = child.is_file(follow_symlinks=False)
                    yield (
                        _Entry(name, child.path, root)
                        if regular
                        else _checked(child.path, name, root)
                    )
            elif not is_zarr(child.path) or holds_images(child.path):
                pending.append((child.path, f"{name}/", (*above, identity)))
            elif is_zarr_image(child.path):
                yield _Entry(name, child.path, root)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _looks_like_image(path: str, choice: Choice) -> bool:
    """By suffix, or where that says nothing by first bytes; what cannot be opened counts."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES or suffix in REFUSED_SUFFIXES or suffix in choice.suffixes:
        return True
    if suffix in SIDECAR_SUFFIXES:
        return False
    try:
        with open_regular(path) as file:
            prefix = file.read(SNIFFED_BYTES)
    except (ImageError, OSError):
        return True
    return (detect(prefix, "") or refused(prefix)) is not None


def _checked(path: str, name: str, root: str) -> _Entry:
    """An entry, with its fault if it is no regular file."""
    try:
        require_regular(path)
    except ImageError as fault:
        return _Entry(name, path, root, fault)
    return _Entry(name, path, root)


def _unique(entries: list[_Entry]) -> Iterator[tuple[str, _Entry]]:
    """Give every file a name of its own: the input folder's name in front, then a number."""
    seen = Counter(entry.name for entry in entries)
    named = [
        (f"{entry.root}/{entry.name}" if seen[entry.name] > 1 else entry.name, entry.path, entry)
        for entry in entries
    ]
    taken: set[str] = set()
    for name, _, entry in sorted(named, key=lambda item: item[:2]):
        unique, n = name, 1
        while unique in taken:
            n += 1
            unique = f"{name}~{n}"
        taken.add(unique)
        yield unique, entry


PREFIX = "sample:"

_PHOTOS: dict[str, tuple[str, ...]] = {
    "skimage": ("data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
_TEXTURES: dict[str, tuple[str, ...]] = {
    "skimage": ("data/brick.png", "data/grass.png", "data/gravel.png")
}
SAMPLES: dict[str, dict[str, tuple[str, ...]]] = {"photos": _PHOTOS, "textures": _TEXTURES}


def is_sample(text: str) -> bool:
    """Whether an input names bundled pictures."""
    return text.startswith(PREFIX)


def sample_files(text: str) -> list[Path]:
    """Files of ``sample:photos`` (scikit-image's and scikit-learn's) or ``sample:textures``.

    Raises
    ------
    UsageError : no such sample, or its package is not installed.
    """
    name = text.removeprefix(PREFIX)
    if name not in SAMPLES:
        known = ", ".join(PREFIX + key for key in SAMPLES)
        raise UsageError(f"{text}: no such sample; there are {known}")
    files = []
    for package, paths in SAMPLES[name].items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise UsageError(f"{text}: needs {package}, which is not installed")
        folder = Path(spec.origin).parent
        files += [folder / path for path in paths if (folder / path).is_file()]
    if not files:
        raise UsageError(f"{text}: the installed packages carry none of its pictures")
    return files
