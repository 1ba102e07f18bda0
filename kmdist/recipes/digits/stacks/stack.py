"""What a stack is: n images of one size, read by range."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from kmdist.errors import ImageError, KmdistError
from kmdist.images import Rejection
from kmdist.images.finding.files import file_status
from kmdist.images.pixels import full_scale

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


class NoImagesError(KmdistError):
    """No file is a usable image.

    Attributes
    ----------
    rejections : why, file by file.
    """

    def __init__(self, name: str, rejections: Sequence[Rejection]) -> None:
        listed = "".join(f"\n  {r.image}: {r.reason} [{r.code}]" for r in rejections[:20])
        super().__init__(f"{name}: no file is a usable image{listed}")
        self.rejections = tuple(rejections)


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
    name : what the user named.
    source : reads the images.
    classes : (n,) int64 indices into `class_names`, or None.
    class_names : one a class, in order.
    note : how images were made equal, what else was decided; empty if nothing.
    """

    name: str
    source: StackSource
    classes: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    note: str = ""

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


@dataclass(frozen=True)
class Polarity:
    """Whether ink is lighter or darker than paper.

    Parameters
    ----------
    dark_ink : images must be inverted to have light ink on dark paper.
    border : mean intensity of the border pixels, 0 … 1.
    """

    dark_ink: bool
    border: float


def polarity_of(stack: Stack) -> Polarity:
    """Decide from the borders of the first images: paper is what characters lie on.

    Dark ink if the median border pixel lies in the upper half of the range. It is decided once
    for all images, so that one that touches its border is not turned into its negative.

    Raises
    ------
    NoImagesError : none of the images can be used.
    """
    rejected: list[Rejection] = []
    for start in range(0, stack.n, SAMPLE_IMAGES):
        images, _, unusable = read_usable(stack.source, start, min(start + SAMPLE_IMAGES, stack.n))
        if len(images):
            break
        rejected += unusable
    else:
        raise NoImagesError(stack.name, rejected)
    edges = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    values = np.concatenate([edge.reshape(len(images), -1) for edge in edges], axis=1)
    border = float(np.median(values)) / full_scale(stack.source.dtype)
    return Polarity(border > 0.5, border)


def light_ink(images: np.ndarray, dark_ink: bool) -> np.ndarray:
    """Images with light ink on dark paper."""
    if not dark_ink:
        return images
    white = full_scale(str(images.dtype))
    return (images.dtype.type(white) - images).astype(images.dtype, copy=False)


def as_array(stack: Stack, block_images: int = 4096) -> Any:
    """The images as a lazy Dask array (n, h, w), `block_images` to a chunk."""
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    name = f"stack-{tokenize(stack.fingerprint(), block_images)}"
    starts = range(0, stack.n, block_images)
    edges = [(start, min(start + block_images, stack.n)) for start in starts]
    layer: dict[Any, Any] = {
        (name, i, 0, 0): (stack.source.read, start, stop) for i, (start, stop) in enumerate(edges)
    }
    sizes = tuple(stop - start for start, stop in edges)
    graph = HighLevelGraph.from_collections(name, layer)
    chunks = (sizes, (stack.height,), (stack.width,))
    return da.Array(graph, name, chunks, dtype=stack.source.dtype)


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
