"""What a stack is: n images of one size, read by range, and its ranges as tasks carry them."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from kmdist.errors import ImageError, KmdistError
from kmdist.images import Rejection
from kmdist.images.finding.files import file_status
from kmdist.images.pixels import full_scale
from kmdist.job.block_pass import Item
from kmdist.job.job import NoUsableImageError

SAMPLE_IMAGES = 512

Status = tuple[int, int, int]
"""Size, times of modification and of change: see `kmdist.images.finding.files.file_status`."""


class StackSource(Protocol):
    """Images of one size that can be read by range; picklable."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """n, height, width."""

    @property
    def dtype(self) -> str:
        """Of the images: ``uint8``, ``uint16`` or ``float32``."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images `start` … `stop` − 1 as (m, h, w)."""

    def identity(self) -> Sequence[Any]:
        """What tells these data from others: names, sizes, times; for the run's fingerprint."""


class Usable(NamedTuple):
    """The images of a range that can be used.

    Parameters
    ----------
    images : (m, h, w).
    kept : (m,) int64, which of the range they are, ascending.
    rejected : why the others cannot be used.
    """

    images: np.ndarray
    kept: np.ndarray
    rejected: tuple[Rejection, ...] = ()


def no_file(name: str, rejections: Sequence[Rejection]) -> NoUsableImageError:
    """The error for files of which none is a usable image."""
    listed = "".join(f"\n  {r.image}: {r.reason} [{r.code}]" for r in rejections[:20])
    return NoUsableImageError(f"{name}: no file is a usable image{listed}", rejections)


def read_usable(source: StackSource, start: int, stop: int) -> Usable:
    """Images `start` … `stop` − 1 without those, of files, that cannot be decoded."""
    one_by_one = getattr(source, "read_usable", None)
    if one_by_one is not None:
        found: Usable = one_by_one(start, stop)
        return found
    return Usable(source.read(start, stop), np.arange(stop - start))


@dataclass(frozen=True)
class Stack:
    """Images and, where they are known, their classes.

    Parameters
    ----------
    source : reads the images.
    classes : (n,) int64 indices into `class_names`, or None.
    class_names : one a class, in order.
    name : what the user named.
    note : how sizes were made equal; empty where they are.
    rejected : files whose headers show that they cannot be used.
    """

    source: StackSource
    classes: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    name: str = ""
    note: str = ""
    rejected: Sequence[Rejection] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, where each is a file; else empty."""
        return tuple(getattr(self.source, "names", ()))

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the images are, where each is a file; else empty."""
        return tuple(getattr(self.source, "paths", ()))

    @property
    def n(self) -> int:
        """Number of images."""
        return self.source.shape[0]

    @property
    def height(self) -> int:
        """Rows of an image, pixels."""
        return self.source.shape[1]

    @property
    def width(self) -> int:
        """Columns of an image, pixels."""
        return self.source.shape[2]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images as (m, h, w)."""
        return self.source.read(start, stop)

    def without(self, names: Collection[str]) -> "Stack":
        """The stack without the images of these names, where each is a file."""
        kept = np.array([name not in names for name in self.names], dtype=bool)
        source: Any = self.source
        classes = None if self.classes is None else self.classes[kept]
        return replace(self, source=source.some(np.flatnonzero(kept)), classes=classes)

    def fingerprint(self) -> str:
        """SHA-256 of what identifies the images; not of their classes."""
        text = repr([list(self.source.shape), self.source.dtype, list(self.source.identity())])
        return hashlib.sha256(text.encode()).hexdigest()

    def images_sha256(self) -> str:
        """As `fingerprint`, but not of what the images are brought to: files alone decide."""
        text = repr([self.n, list(self.source.identity())])
        return hashlib.sha256(text.encode()).hexdigest()


def border_of(stack: Stack) -> float:
    """How light paper is, 0 … 1: the median border pixel of the first images.

    Above 0.5 ink is dark. It is decided once for all images, so that one that touches its border is
    not turned into its negative.

    Raises
    ------
    NoUsableImageError : none of the images can be used.
    """
    rejected: list[Rejection] = []
    for start in range(0, stack.n, SAMPLE_IMAGES):
        images, _, unusable = read_usable(stack.source, start, min(start + SAMPLE_IMAGES, stack.n))
        if len(images):
            break
        rejected += unusable
    else:
        raise no_file(stack.name, rejected)
    edges = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    values = np.concatenate([edge.reshape(len(images), -1) for edge in edges], axis=1)
    return float(np.median(values)) / full_scale(stack.source.dtype)


def light_ink(images: np.ndarray, dark_ink: bool) -> np.ndarray:
    """Images with light ink on dark paper."""
    if not dark_ink:
        return images
    white = full_scale(str(images.dtype))
    return (images.dtype.type(white) - images).astype(images.dtype, copy=False)


@dataclass(frozen=True)
class Range(Item):
    """Some images of a stack, as a task carries them; their block is left out whole.

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

    def images(self) -> np.ndarray:
        """(n, h, w) with light ink."""
        return light_ink(self.source.read(self.start, self.stop), self.dark_ink)

    def usable(self) -> Usable:
        """Those with light ink that can be decoded, and why others cannot."""
        found = read_usable(self.source, self.start, self.stop)
        return found._replace(images=light_ink(found.images, self.dark_ink))


def ranges(stack: Stack, block_images: int, dark_ink: bool) -> list[Range]:
    """The whole stack in ranges of `block_images`."""
    source: Any = stack.source
    some = getattr(source, "some", None)
    found = []
    for start in range(0, stack.n, block_images):
        stop = min(start + block_images, stack.n)
        if some is None:
            found.append(Range(source, start, stop, start, dark_ink, stack.name))
        else:  # what a task needs to carry
            own = some(range(start, stop))
            found.append(Range(own, 0, stop - start, start, dark_ink, stack.name))
    return found


@dataclass(frozen=True)
class ClassedRange(Range):
    """Some images with their classes, to be labelled.

    Parameters
    ----------
    classes : (n,) of the images, or None.
    prefix : before the names of images that are left out.
    """

    classes: np.ndarray | None = None
    prefix: str = ""

    @classmethod
    def of(cls, part: Range, stack: Stack, prefix: str = "") -> Self:
        """A range of a stack with its classes."""
        classes = None
        if stack.classes is not None:
            classes = stack.classes[part.first : part.first + part.n]
        return cls(**vars(part), classes=classes, prefix=prefix)

    @property
    def names(self) -> tuple[str, ...]:
        """What is left out with the block."""
        return tuple(f"{self.prefix}{name}" for name in super().names)

    def given(self, prepared: Any) -> Any:
        """The kept rows, or None, and this."""
        return [prepared, self]


def require_whole(name: str, images: np.ndarray, wanted: int) -> np.ndarray:
    """Refuse a range that came out shorter than asked for: the file has changed."""
    if len(images) != wanted:
        raise KmdistError(
            f"{name}: read {len(images)} images where {wanted} were expected; the file changed "
            "while the job ran"
        )
    return images


def require_same(path: str, status: Status) -> None:
    """Refuse what was read of a file that is no longer what was opened.

    Asked after the reading, so that nothing can come between.
    """
    try:
        found: Status | None = file_status(path)
    except ImageError:
        found = None
    if found != status:
        raise KmdistError(
            f"{path}: {'changed' if found else 'vanished'} while the job ran; run the job again"
        )


def require_finite(name: str, images: np.ndarray, start: int) -> None:
    """Refuse NaN and infinity among images `start` …, and name the first that holds them."""
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        bad = start + int(np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))[0])
        raise KmdistError(f"{name}: image {bad:,} holds NaN or infinity")
