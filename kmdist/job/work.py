"""Pieces and blocks as tasks carry them."""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from kmdist.errors import ImageError
from kmdist.images import ImageSource, Piece, Rejection, decode
from kmdist.images.blocks import is_sharded
from kmdist.images.finding.files import file_status

T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """One block as a task receives it: it carries its own sources, not the whole list."""

    index: int
    pieces: tuple[Piece, ...]

    @property
    def pixels(self) -> int:
        """Pixels of all pieces."""
        return sum(piece.window.pixels for piece in self.pieces)

    @property
    def largest_pixels(self) -> int:
        """Pixels of the largest piece."""
        return max(piece.window.pixels for piece in self.pieces)

    @property
    def n_images(self) -> int:
        """How many images, whole or in part."""
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images."""
        return tuple(dict.fromkeys(piece.source.name for piece in self.pieces))

    @property
    def tile_of(self) -> str | None:
        """The image of which this is a tile, or the tiles of a shard; None: images are whole."""
        first = self.pieces[0]
        return None if first.whole else first.source.name

    @property
    def in_shard(self) -> bool:
        """Whether these are tiles whose labels are stored in shards."""
        return self.tile_of is not None and is_sharded(self.pieces[0].source)

    def given(self, prepared: Any) -> Any:
        """What a task receives: this, or what was prepared of it."""
        return self if prepared is None else prepared

    def halves(self) -> tuple[Self, ...]:
        """The first and the last of several images; nothing where there is one."""
        half = len(self.pieces) // 2
        if self.tile_of is not None or not half:
            return ()
        return self._part(range(half)), self._part(range(half, len(self.pieces)))

    def without(self, names: Container[str]) -> Self:
        """The pieces of other images."""
        kept = [i for i, piece in enumerate(self.pieces) if piece.source.name not in names]
        return self if len(kept) == len(self.pieces) else self._part(kept)

    def _part(self, chosen: Sequence[int]) -> Self:
        return replace(self, pieces=tuple(self.pieces[i] for i in chosen))


def each_piece(
    pieces: Iterable[Piece], one: Callable[[Piece], T]
) -> tuple[list[T], tuple[Rejection, ...]]:
    """What a function makes of the pieces of a block, and which of their images cannot be used.

    Parameters
    ----------
    one : raises `ImageError` for an image that cannot be used; after that of a tile, the others are
        not tried.
    """
    found: list[T] = []
    rejected: list[Rejection] = []
    for piece in pieces:
        try:
            found.append(one(piece))
        except ImageError as error:
            rejected.append(Rejection(piece.source.name, error.code, error.reason))
            if not piece.whole:
                break
    return found, tuple(rejected)


def read_piece(piece: Piece, reader: Callable[..., Any] | None = None) -> Any:
    """Decode one piece in its stored dtype, unless the file is no longer what was probed.

    Parameters
    ----------
    reader : reads a source, or a window of it; None: `decode`.

    Raises
    ------
    ImageError : the file changed, vanished or cannot be decoded.
    """
    source = piece.source
    try:
        pixels = (reader or decode)(source, None if piece.whole else piece.window)
    except ImageError:
        _require_unchanged(source)
        raise
    _require_unchanged(source)
    return pixels


def _require_unchanged(source: ImageSource) -> None:
    """Refuse what was read of a file that is not what was probed.

    Asked after the reading, so that nothing can come between. Of a Zarr image each chunk that is
    read is asked, by `kmdist.store.zarr_trees`; of a scene of several files each as it is read.
    """
    if source.mtime_ns < 0:
        return
    try:
        status = file_status(source.path)
    except ImageError as error:
        raise ImageError(error.code, f"vanished while the job ran ({error.reason})") from error
    probed = (source.size_bytes, source.mtime_ns, source.ctime_ns)
    if source.format not in ("zarr", "bands") and status != probed:
        raise ImageError("changed", "changed while the job ran; run the job again")
