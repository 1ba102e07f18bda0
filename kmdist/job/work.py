"""Pieces and blocks as tasks carry them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kmdist.errors import ImageError
from kmdist.images import Block, ImageSource, Window, decode
from kmdist.images.finding.files import file_status


@dataclass(frozen=True)
class Piece:
    """One image, or one tile of it, with all a worker needs to read it."""

    source: ImageSource
    window: Window

    @property
    def whole(self) -> bool:
        """Whether the piece is the whole image."""
        return self.window.pixels == self.source.width * self.source.height


@dataclass(frozen=True)
class Work:
    """One block as a task receives it: it carries its own sources, not the whole list."""

    index: int
    pieces: tuple[Piece, ...]

    @property
    def pixels(self) -> int:
        """Pixels of all pieces."""
        return sum(piece.window.pixels for piece in self.pieces)


def read_piece(piece: Piece) -> Any:
    """Decode one piece in its stored dtype, unless the file is no longer what was probed.

    Raises
    ------
    ImageError : the file changed, vanished or cannot be decoded.
    """
    source = piece.source
    if source.mtime_ns >= 0:
        try:
            status = file_status(source.path)
        except ImageError as error:
            raise ImageError(error.code, f"vanished while the job ran ({error.reason})") from error
        if source.format != "zarr" and status != (source.size_bytes, source.mtime_ns):
            raise ImageError("changed", "changed while the job ran; run the job again")
    try:
        return decode(source, None if piece.whole else piece.window)
    except MemoryError as error:
        raise ImageError(
            "memory", "needs more memory to decode than there is; its header may be damaged"
        ) from error


def work_of(blocks: Sequence[Block], sources: Sequence[ImageSource]) -> list[Work]:
    """Blocks with the sources they refer to."""
    return [
        Work(block.index, tuple(Piece(sources[part.image], part.window) for part in block.parts))
        for block in blocks
    ]
