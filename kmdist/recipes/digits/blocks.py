"""A stack of images in blocks, as tasks carry them."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from kmdist.engine.rows import Loader
from kmdist.recipes.digits.stacks import Stack, StackSource
from kmdist.recipes.digits.stacks.stack import Usable, light_ink, read_usable


@dataclass(frozen=True)
class Range:
    """Some images of a stack, as a task carries them.

    Parameters
    ----------
    source : reads images. start, stop : which, by its numbering.
    first : number of the first in the whole stack.
    dark_ink : invert them.
    stack : its name.
    """

    source: StackSource
    start: int
    stop: int
    first: int
    dark_ink: bool
    stack: str

    @property
    def index(self) -> int:
        """Of the block in its passes."""
        return self.first

    @property
    def n(self) -> int:
        """Number of images."""
        return self.stop - self.start

    @property
    def n_images(self) -> int:
        """The same, as a block of a pass has it."""
        return self.n

    @property
    def pixels(self) -> int:
        """Pixels of all images."""
        _, height, width = self.source.shape
        return self.n * height * width

    @property
    def largest_pixels(self) -> int:
        """All: a block is worked on as a whole."""
        return self.pixels

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images where each is a file; else one for all of them."""
        files = tuple(getattr(self.source, "names", ()))[self.start : self.stop]
        last = self.first + self.n - 1
        return files or (f"{self.stack}, images {self.first:,} to {last:,}",)

    tile_of = None

    def given(self, prepared: Any) -> Any:
        """What a task receives: this, or what was prepared of it."""
        return self if prepared is None else prepared

    def halves(self) -> tuple[Self, ...]:
        """None: characters are small, and their blocks are left out whole."""
        return ()

    def images(self) -> np.ndarray:
        """(n, h, w) with light ink."""
        return light_ink(self.source.read(self.start, self.stop), self.dark_ink)

    def usable(self) -> Usable:
        """Those with light ink that can be decoded, and why others cannot."""
        found = read_usable(self.source, self.start, self.stop)
        return found._replace(images=light_ink(found.images, self.dark_ink))


def ranges(stack: Stack, block_images: int, dark_ink: bool) -> list[Range]:
    """The whole stack in ranges of `block_images`."""
    source, n = stack.source, stack.n
    part = getattr(source, "part", None)
    found = []
    for start in range(0, n, block_images):
        stop = min(start + block_images, n)
        if part is None:
            found.append(Range(source, start, stop, start, dark_ink, stack.name))
        else:
            own = part(start, stop)
            found.append(Range(own, 0, stop - start, start, dark_ink, stack.name))
    return found


@dataclass(frozen=True)
class Scored:
    """A block whose images are labelled, with what that takes besides.

    Parameters
    ----------
    classes : (n,) of its images, or None.
    loader : of its rows, unless these were kept.
    prefix : before the names of images that are left out.
    """

    part: Range
    classes: np.ndarray | None
    loader: Loader | None = None
    prefix: str = ""

    @property
    def index(self) -> int:
        """Of the block in its passes."""
        return self.part.index

    @property
    def pixels(self) -> int:
        """Pixels of all images."""
        return self.part.pixels

    @property
    def largest_pixels(self) -> int:
        """All, as of a `Range`."""
        return self.pixels

    @property
    def n_images(self) -> int:
        """How many images."""
        return self.part.n

    @property
    def names(self) -> tuple[str, ...]:
        """What is left out with the block."""
        return tuple(f"{self.prefix}{name}" for name in self.part.names)

    tile_of = None

    def given(self, prepared: Any) -> Any:
        """A list of the rows' source, the range and its classes."""
        return [self.loader if prepared is None else prepared, self.part, self.classes]

    def halves(self) -> tuple[Self, ...]:
        """None, as of a `Range`."""
        return ()


def classes_of(stack: Stack, part: Range) -> np.ndarray | None:
    """Classes of a range of images."""
    return None if stack.classes is None else stack.classes[part.first : part.first + part.n]
