"""From what a user names to a stack of images with classes."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.arguments import described
from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.images import EVERYTHING, Choice, Rejection
from kmdist.images.finding.find import listed_inputs
from kmdist.images.finding.formats import is_zarr
from kmdist.images.reading.numpy_files import open_numpy
from kmdist.recipes.digits.stacks import arrays
from kmdist.recipes.digits.stacks.files import SheetStack, open_files, open_sheet
from kmdist.recipes.digits.stacks.stack import Stack
from kmdist.urls import is_url, require_on_disk

_ARRAYS = (".npy", ".npz")


def open_stack(
    source: Any,
    *,
    cell: tuple[int, int] | None = None,
    labels: str | Path | None = None,
    size: tuple[int, int] | None = None,
    choice: Choice = EVERYTHING,
) -> tuple[Stack, list[Rejection]]:
    """Open a stack of images.

    Parameters
    ----------
    source : ``sample:digits``; an IDX file, gzipped or not, or a folder of one; a ``.npy``,
        ``.npz`` or Zarr array (n, h, w); a folder of images, which may lie in an object store (a
        URL); a list of folders and image files; a picture that is a sprite sheet; or a
        `StackSource`.
    cell : width and height of the cells of a sheet.
    labels : where the classes are: an IDX, ``.npy`` or text file with one a line; or, of a
        sheet, ``rows``: classes take equal numbers of rows, ten of them where the rows divide
        by ten, else one a row. None: those that come with the images, if any.
    size : width and height that image files are brought to, a single one included; None: the
        most frequent, of a folder.
    choice : of the files of folders.

    Returns
    -------
    stack : Stack
    rejected : files of a folder that cannot be used.

    Raises
    ------
    UsageError : nothing is there, it is not a stack, or the classes do not fit the images.
    KmdistError : a file is damaged.
    """
    found = _opened(source, cell, labels, size, choice)
    if labels is not None and not (labels == "rows" and isinstance(found.source, SheetStack)):
        require_on_disk(labels, "labels")
        found = replace(found, classes=read_labels(Path(labels).expanduser()), class_names=())
    return _checked(found), list(found.rejected)


def _opened(
    source: Any,
    cell: tuple[int, int] | None,
    labels: str | Path | None,
    size: tuple[int, int] | None,
    choice: Choice,
) -> Stack:
    """A stack with the classes that come with its images."""
    if isinstance(source, list | tuple) or (isinstance(source, str) and not source):
        source = listed_inputs(source)
        if not source:
            raise UsageError("images of characters: none are given")
        if len(source) > 1 or not isinstance(source[0], str | Path):
            return open_files(source, size, choice)
        (source,) = source
    if not isinstance(source, str | Path):
        if not hasattr(source, "read") or not hasattr(source, "identity"):
            raise UsageError(
                f"images of characters: must be a path, a list of paths or a stack, got "
                f"{described(source)}; save an array (n, height, width) as .npy"
            )
        return Stack(source, name=type(source).__name__)
    text = str(source)
    if text == arrays.SAMPLE:
        return Stack(*arrays.sample_stack(), name=text)
    if is_url(text):
        if cell or Path(text).suffix.lower() in (*_ARRAYS, ".gz") or "idx" in text:
            require_on_disk(text, "stack")
        return open_files([text], size, choice)
    path = Path(text).expanduser()
    if not path.exists():
        raise UsageError(f"{text}: does not exist; expected images, or {arrays.SAMPLE}")
    if cell is not None:
        cells = open_sheet(path, cell)
        return Stack(cells, _by_rows(cells) if labels == "rows" else None, name=text)
    if labels == "rows":
        raise UsageError("--labels rows is for sheets: give --cell WIDTHxHEIGHT too")
    return replace(_at(path, size, choice, beside=labels is None), name=text)


def _at(path: Path, size: tuple[int, int] | None, choice: Choice, *, beside: bool) -> Stack:
    """What lies at a path, no sheet.

    Parameters
    ----------
    beside : look for the labels of an IDX file beside it.
    """
    if path.suffix.lower() in _ARRAYS or is_zarr(path):
        return Stack(*arrays.open_array(path))
    if path.is_dir():
        path = arrays.images_within(path) or path
    if not path.is_dir() and arrays.is_idx(path):
        images, at = arrays.images_of(path), arrays.labels_beside(path) if beside else None
        return Stack(images, read_labels(at) if at else None)
    if path.is_dir() or size is not None:
        return open_files([path], size, choice)
    raise UsageError(
        f"{path}: one file is a sheet only with --cell WIDTHxHEIGHT; other stacks are IDX, .npy, "
        f".npz and Zarr arrays, folders of images, and {arrays.SAMPLE}"
    )


def _by_rows(cells: SheetStack) -> np.ndarray:
    rows = cells.shape[0] // cells.columns
    n_classes = 10 if rows % 10 == 0 else rows
    return np.repeat(np.arange(n_classes, dtype=np.int64), cells.shape[0] // n_classes)


def _checked(found: Stack) -> Stack:
    n, height, width = found.source.shape
    if not n:
        raise UsageError(f"{found.name} holds no images")
    if min(height, width) < 2:
        raise UsageError(
            f"{found.name}: images of {width} × {height} px; at least 2 × 2 are needed"
        )
    classes, class_names = found.classes, found.class_names
    if classes is None:
        return found
    if classes.shape != (n,):
        raise UsageError(
            f"{found.name}: {n:,} images but {classes.size:,} labels: one each is needed"
        )
    if not class_names:
        values, classes = np.unique(classes, return_inverse=True)
        class_names = tuple(str(value) for value in values)
    return replace(found, classes=classes.astype(np.int64), class_names=class_names)


def read_labels(path: Path) -> np.ndarray:
    """Labels (n,) from an IDX, ``.npy`` or text file.

    Raises
    ------
    UsageError : not there, or not one label an image. KmdistError : damaged.
    """
    if not path.is_file():
        raise UsageError(f"labels {path}: not there; give a file, or 'rows' for a sheet")
    if path.suffix.lower() == ".npy":
        try:
            values = np.array(open_numpy(str(path)))
        except ImageError as error:
            raise KmdistError(f"labels {path}: cannot be read: {error}") from error
    elif arrays.is_idx(path):
        return arrays.labels_of(path)
    else:
        try:
            values = np.array(path.read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise KmdistError(f"labels {path}: cannot be read: {error}") from error
        with suppress(ValueError):  # names of classes stay text
            values = values.astype(np.int64)
    if values.ndim != 1 or not values.size:
        raise UsageError(f"labels {path}: shape {values.shape}; expected one label an image")
    return np.asarray(values)
