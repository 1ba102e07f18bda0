"""Digests of what a run holds, by which loss and damage are found later."""

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from kmdist.errors import KmdistError
from kmdist.store import Run


class Held:
    """What a run holds of each image: a label map, or a label among those of all images.

    Parameters
    ----------
    run : of any recipe.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def digest(self, name: str) -> str | None:
        """SHA-256 of what the run holds of an image; None if it holds nothing.

        Of a label map, over all objects of the image's group; of a label, over name and number.

        Raises
        ------
        KmdistError, OSError : it cannot be read.
        """
        images = self._run.images
        if name not in images:
            label = self._labels.get(name)
            if label is None:
                return None
            text = f"{name}\0{label}".encode("utf-8", "surrogateescape")
            return hashlib.sha256(text).hexdigest()
        return folder_digest(self._run.path / "images" / images[name].key)

    def is_readable(self, name: str) -> bool:
        """Whether the labels of an image can be decoded."""
        try:
            if name in self._run.images:
                self._run.images[name].require_readable()
            return True
        except KmdistError:
            return False

    @cached_property
    def _labels(self) -> dict[str, int]:
        names, labels = self._run.names, self._run.array("labels")
        if not names or labels is None:
            return {}
        if len(names) != len(labels):
            raise KmdistError(f"{self._run.path}: {len(names)} names of {len(labels)} labels")
        return dict(zip(names, map(int, labels), strict=True))


def root_digest(run: Path) -> str:
    """SHA-256 over all objects of a run but those of its images."""
    return folder_digest(run, skip=frozenset({"images"}))


def folder_digest(folder: Path, skip: frozenset[str] = frozenset()) -> str:
    """SHA-256 over names and contents of all files below a folder but for some folders in it."""
    digest = hashlib.sha256()
    for path in _files(folder, skip):
        data = path.read_bytes()
        name = os.fsencode(os.path.relpath(path, folder))
        digest.update(b"%d %d " % (len(name), len(data)) + name)
        digest.update(data)
    return digest.hexdigest()


def _files(folder: Path, skip: frozenset[str]) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):
        if Path(base) == folder:
            folders[:] = [name for name in folders if name not in skip]
        folders.sort()
        for name in sorted(files):
            if os.path.isfile(os.path.join(base, name)):  # a FIFO would be waited for for ever
                yield Path(base, name)
