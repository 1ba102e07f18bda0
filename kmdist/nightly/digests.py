"""Digests of what a run holds, by which loss and damage are found later."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from kmdist.store import Run


def image_digests(run: Run, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 over all objects of each image's group, by name; images the run lacks are absent."""
    images = run.images
    return {
        name: folder_digest(run.path / "images" / images[name].key)
        for name in names
        if name in images
    }


def root_digest(run: Path) -> str:
    """SHA-256 over all objects of a run but those of its images."""
    digest = hashlib.sha256()
    for path in _files(run, skip=frozenset({"images"})):
        _add(digest, run, path)
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 over names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in _files(folder):
        _add(digest, folder, path)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", base: Path, path: Path) -> None:
    data = path.read_bytes()
    name = os.fsencode(os.path.relpath(path, base))
    digest.update(b"%d %d " % (len(name), len(data)) + name)
    digest.update(data)


def _files(folder: Path, skip: frozenset[str] = frozenset()) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):
        if Path(base) == folder:
            folders[:] = [name for name in folders if name not in skip]
        folders.sort()
        for name in sorted(files):
            yield Path(base, name)
