"""Blocks: the units of distributed work. They depend on the images and the block size alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from kmdist.images.source import ImageSource

CHUNK_PX = 1_024
"""Tiles are multiples of the label maps' chunks, so that no chunk has two writers."""
SHARD_PX = 8_192
"""Shard side of label maps of images over `SHARDED_SIDE_PX` a side; tiles there divide it."""
SHARDED_SIDE_PX = 16_384


@dataclass(frozen=True)
class Window:
    """Pixels y0 ≤ y < y1, x0 ≤ x < x1 of an image."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        """Columns."""
        return self.x1 - self.x0

    @property
    def pixels(self) -> int:
        """Rows times columns."""
        return self.height * self.width


@dataclass(frozen=True)
class Part:
    """A window of one image, by its position in the list of sources."""

    image: int
    window: Window


@dataclass(frozen=True)
class Block:
    """Whole images, or one tile of an image that is read by window."""

    index: int
    parts: tuple[Part, ...]

    @property
    def pixels(self) -> int:
        """Pixels of all parts."""
        return sum(part.window.pixels for part in self.parts)


def plan_blocks(sources: Sequence[ImageSource], *, block_mpx: float = 16.0) -> list[Block]:
    """Cut a collection into blocks of about `block_mpx` megapixels.

    Images are taken in order; consecutive ones share a block while they fit. An image larger than
    a block is a block of its own, or, where it can be read by window, one block a tile. Tiles
    are squares of the largest power of two times 1,024 px that fits a block, at least 1,024 px,
    at most 8,192 px.
    """
    limit = block_mpx * 1e6
    groups: list[list[Part]] = []
    pending: list[Part] = []
    pending_pixels = 0
    for position, source in enumerate(sources):
        if source.windowed and source.pixels > limit:
            groups.extend([Part(position, tile)] for tile in _tiles(source, limit))
            continue
        if pending and pending_pixels + source.pixels > limit:
            groups.append(pending)
            pending, pending_pixels = [], 0
        pending.append(Part(position, Window(0, 0, source.height, source.width)))
        pending_pixels += source.pixels
    if pending:
        groups.append(pending)
    groups.sort(key=lambda parts: parts[0].image)
    return [Block(index, tuple(parts)) for index, parts in enumerate(groups)]


def _tiles(source: ImageSource, limit: float) -> list[Window]:
    side = CHUNK_PX
    while side < SHARD_PX and (2 * side) ** 2 <= limit:
        side *= 2
    return _grid(source, side)


def shard_windows(source: ImageSource) -> list[Window]:
    """Windows of label shards, each to be written by one task; the whole image if not sharded."""
    if max(source.width, source.height) <= SHARDED_SIDE_PX:
        return [Window(0, 0, source.height, source.width)]
    return _grid(source, SHARD_PX)


def _grid(source: ImageSource, side: int) -> list[Window]:
    return [
        Window(y, x, min(y + side, source.height), min(x + side, source.width))
        for y in range(0, source.height, side)
        for x in range(0, source.width, side)
    ]
