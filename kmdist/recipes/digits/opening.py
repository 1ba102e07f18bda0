"""The workload of a digits job: a stack of images, in blocks."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import UsageError, quantity
from kmdist.images import EVERYTHING, Choice
from kmdist.job.job import NoUsableImageError
from kmdist.job.progress import Message
from kmdist.recipes.digits.blocks import Range, ranges
from kmdist.recipes.digits.stacks import Stack, open_stack, polarity_of
from kmdist.recipes.digits.stacks.stack import NoImagesError
from kmdist.urls import is_url

WORK_FACTOR = 4
"""A pixel of a character costs about this many times what one of a photograph does: blocks are
so much smaller, and processes start so much earlier."""


@dataclass(frozen=True)
class Input:
    """What the images are and how they are read.

    Parameters
    ----------
    images : what the user named; see `kmdist.recipes.digits.stacks.open_stack`.
    cell, labels : as there.
    polarity : ``light`` ink on dark paper, ``dark`` ink, or ``auto``: as the borders show.
    choice : which of the files that are found.
    """

    images: Any
    cell: tuple[int, int] | None = None
    labels: str | Path | None = None
    polarity: str = "auto"
    choice: Choice = EVERYTHING

    def parameters(self) -> dict[str, Any]:
        """What a run records, to open the same images again."""
        return {
            "images": named(self.images),
            "cell": list(self.cell) if self.cell else None,
            "labels": self.labels if self.labels in (None, "rows") else _in_full(str(self.labels)),
            "polarity": self.polarity,
            **{key: list(globs) for key, globs in vars(self.choice).items() if globs},
        }


@dataclass
class Opened:
    """A stack that is ready to be worked on: a `kmdist.job.recipe.Workload`.

    Parameters
    ----------
    items : its ranges, a block each.
    notes : to be said once.
    lost : ranges that cannot be used, of a stack whose images are no files: they keep their
        place, and get no labels.
    tested : further images, to be scored after the fit.
    """

    stack: Stack
    items: list[Range]
    rejected: list[Any]
    dark_ink: bool
    notes: list[Message]
    lost: tuple[Range, ...] = ()
    tested: "Opened | None" = None

    @property
    def block_images(self) -> int:
        """Images in every block but the last."""
        return max(part.n for part in (*self.items, *self.lost))

    @property
    def n_usable(self) -> int:
        """Images in all blocks that are not lost."""
        return sum(part.n for part in self.items)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of each image, pixels."""
        return self.stack.width, self.stack.height

    @property
    def blocks(self) -> list[Range]:
        """The ranges."""
        return self.items

    @property
    def n_images(self) -> int:
        """Images of the stack."""
        return self.stack.n

    @property
    def megapixels(self) -> float:
        """Of all images."""
        return self.stack.n * self.stack.height * self.stack.width / 1e6

    @property
    def work_mpx(self) -> float:
        """Megapixels of photographs that are as much work."""
        return WORK_FACTOR * self.megapixels

    @property
    def names(self) -> tuple[str, ...]:
        """None has a label map: all labels are one array."""
        return ()

    @property
    def fingerprint(self) -> str:
        """Of the images, not of their classes."""
        return self.stack.fingerprint()

    @property
    def record(self) -> dict[str, Any]:
        """Nothing yet: more images may be left out."""
        return {}

    @property
    def described(self) -> str:
        """How many, and how large."""
        width, height = self.size
        return f"{quantity(self.stack.n, 'image')} of {width} × {height} px"


def named(images: Any) -> str | list[str] | None:
    """What names the images, to find them again; None for images in memory, or found one by one.

    Paths are in full: a run is read from other folders than it was made in.
    """
    if isinstance(images, str | Path):
        return _in_full(str(images))
    if isinstance(images, list | tuple) and all(isinstance(one, str | Path) for one in images):
        return [_in_full(str(one)) for one in images]
    return None


def _in_full(text: str) -> str:
    if is_url(text) or text.startswith("sample:"):
        return text
    return os.path.abspath(os.path.expanduser(text))


def open_input(given: Input, block_mpx: float, size: tuple[int, int] | None = None) -> Opened:
    """Open the stack, decide what is ink, and plan blocks.

    The blocks depend on the images and `block_mpx` alone.

    Parameters
    ----------
    size : width and height that image files are brought to; None: the most frequent.

    Raises
    ------
    NoUsableImageError : no file is a usable image.
    """
    with _usable_files():
        stack, rejected = open_stack(
            given.images, cell=given.cell, labels=given.labels, size=size, choice=given.choice
        )
    notes = [Message(stack.note)] if stack.note else []
    if given.polarity == "auto":
        with _usable_files():
            found = polarity_of(stack)
        dark_ink = found.dark_ink
        if dark_ink:
            notes.append(
                Message(
                    f"dark ink on light paper (borders at {found.border:.0%}): images are "
                    "inverted; --polarity light or dark decides otherwise"
                )
            )
    else:
        dark_ink = given.polarity == "dark"
    block_images = int(block_mpx * 1e6 / WORK_FACTOR / (stack.height * stack.width))
    items = ranges(stack, max(1, block_images), dark_ink)
    return Opened(stack, items, rejected, dark_ink, notes)


@contextmanager
def _usable_files() -> Iterator[None]:
    try:
        yield
    except NoImagesError as error:
        raise NoUsableImageError(str(error), error.rejections) from error


def open_further(given: Input, block_mpx: float, size: tuple[int, int], dark_ink: bool) -> Opened:
    """Open images that others were fitted before.

    Parameters
    ----------
    size : width and height of the fitted ones; files are brought to it.
    dark_ink : of the fitted ones; holds unless `given` says otherwise: a few new images are too
        few to decide by.

    Raises
    ------
    UsageError : images of another size.
    """
    warnings = []
    if given.polarity == "auto":
        given = replace(given, polarity="dark" if dark_ink else "light")
    opened = open_input(given, block_mpx, size)
    stack = opened.stack
    if opened.size != size:
        raise UsageError(
            f"{stack.name}: images of {stack.width} × {stack.height} px; the fitted ones have "
            f"{size[0]} × {size[1]}"
        )
    with _usable_files():
        found = polarity_of(stack)
    if found.dark_ink != opened.dark_ink:
        ink = "dark" if opened.dark_ink else "light"
        warnings.append(
            Message(
                f"{stack.name}: borders at {found.border:.0%}, but taken for {ink} ink as the "
                "fitted images have; --polarity light or dark decides otherwise",
                warning=True,
            )
        )
    return replace(opened, notes=[*opened.notes, *warnings])


def with_classes_of(stack: Stack, class_names: Sequence[str]) -> Stack:
    """The stack with its classes numbered as those of other images.

    Raises
    ------
    UsageError : a class that does not occur there.
    """
    if stack.classes is None:
        return replace(stack, class_names=tuple(class_names))
    number = {name: i for i, name in enumerate(class_names)}
    unknown = [name for name in stack.class_names if name not in number]
    if unknown:
        raise UsageError(
            f"{stack.name}: classes {', '.join(unknown[:5])} do not occur in the fitted "
            f"images: {', '.join(class_names[:20]) or 'they have none'}"
        )
    renumbered = np.array([number[name] for name in stack.class_names])[stack.classes]
    return replace(stack, classes=renumbered, class_names=tuple(class_names))
