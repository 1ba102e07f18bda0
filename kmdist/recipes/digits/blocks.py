"""A stack of images in blocks, as tasks carry them."""

from dataclasses import dataclass

import numpy as np

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
    """

    source: StackSource
    start: int
    stop: int
    first: int
    dark_ink: bool

    @property
    def n(self) -> int:
        """Number of images."""
        return self.stop - self.start

    @property
    def pixels(self) -> int:
        """Pixels of all images."""
        _, height, width = self.source.shape
        return self.n * height * width

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, where each is a file; else empty."""
        return tuple(getattr(self.source, "names", ()))[self.start : self.stop]

    def images(self) -> np.ndarray:
        """(n, h, w) with light ink."""
        return light_ink(self.source.read(self.start, self.stop), self.dark_ink)

    def usable(self) -> Usable:
        """Those with light ink that can be decoded, and why others cannot."""
        found = read_usable(self.source, self.start, self.stop)
        return found._replace(images=light_ink(found.images, self.dark_ink))


def ranges(source: StackSource, block_images: int, dark_ink: bool) -> list[Range]:
    """The whole stack in ranges of `block_images`."""
    n = source.shape[0]
    found = []
    for start in range(0, n, block_images):
        stop = min(start + block_images, n)
        part = getattr(source, "part", None)
        if part is None:
            found.append(Range(source, start, stop, start, dark_ink))
        else:
            found.append(Range(part(start, stop), 0, stop - start, start, dark_ink))
    return found


def classes_of(stack: Stack, part: Range) -> np.ndarray | None:
    """Classes of a range of images."""
    return None if stack.classes is None else stack.classes[part.first : part.first + part.n]
