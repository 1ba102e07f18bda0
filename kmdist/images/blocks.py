"""Blocks: the units of distributed work. They depend on the images and the block size alone.

Tiles are multiples of the label maps' chunks, and divide their shards, so that none of these has
two writers.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from kmdist.images.source import ImageSource
from kmdist.store.format.layout import CHUNK, SHARD, SHARD_ABOVE

IMAGE_PX = 65_536
"""What opening a file and writing its labels costs, in pixels decoded and labelled: about 1 ms."""
SPREAD = 32
"""Blocks of whole images that there are at least, for all cores to have work to the end."""
LEAST_PIXELS = 1e6
"""Of such blocks: 30 ms of decoding and labelling, to which a task adds 1 or 2."""


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
class Piece:
    """One image, or one tile of it, with all a worker needs to read it."""

    source: ImageSource
    window: Window

    @property
    def whole(self) -> bool:
        """Whether the piece is the whole image."""
        return self.window.pixels == self.source.width * self.source.height

    def state_name(self, what: str) -> str:
        """Name of the checkpoint of something that a task found in the piece."""
        digest = hashlib.sha256(self.source.name.encode(errors="surrogateescape")).hexdigest()[:16]
        return f"{what}-{digest}-{self.window.y0}-{self.window.x0}"


def plan_blocks(
    sources: Sequence[ImageSource], *, block_mpx: float = 16.0
) -> list[tuple[Piece, ...]]:
    """Cut a collection into blocks of about `block_mpx` megapixels.

    The plan depends on the sources and `block_mpx` alone. Images are taken in order. An image
    larger than a block is a block of its own or, where it can be read by window, one block a
    tile. All others are batched: of n = ⌈total / block⌉ blocks each takes about total / n, so
    that the last is not a small rest. Small collections make `SPREAD` blocks, or as many as
    have a megapixel. In these sums an image counts `IMAGE_PX` more than it has.

    Tiles are h × w px with h and w multiples of 1,024, of which the largest pair is taken that
    makes at most 1.1 blocks of the image; where a side of the image exceeds 16,384 px, h and w
    are powers of two up to 8,192, and tiles of one shard follow one another. Tiles of volumes are
    of one plane, or several planes whole.

    Parameters
    ----------
    block_mpx : 10⁶ pixels per block, greater than 0.

    Returns
    -------
    list of tuples of Piece : blocks, of whole images or one tile of an image that is read by
        window, in order of their first image; Σ blocks' pixels = Σ images' pixels.
    """
    limit = block_mpx * 1e6
    tiled = [source.windowed and source.pixels > limit for source in sources]
    batched = [position for position, is_tiled in enumerate(tiled) if not is_tiled]
    together = sum(sources[position].pixels + IMAGE_PX for position in batched)
    batch_limit = min(limit, max(together / SPREAD, LEAST_PIXELS))
    blocks = [
        (batch[0], [Piece(sources[i], whole_window(sources[i])) for i in batch])
        for batch in _balanced(batched, sources, batch_limit)
    ]
    for position, is_tiled in enumerate(tiled):
        if is_tiled:
            one = sources[position]
            blocks.extend((position, [Piece(one, tile)]) for tile in _tiles(one, limit))
    return [tuple(pieces) for _, pieces in sorted(blocks, key=itemgetter(0))]


def whole_window(source: ImageSource) -> Window:
    """All of an image."""
    return Window(0, 0, source.height, source.width)


def shard_windows(source: ImageSource) -> list[Window]:
    """Windows of label shards, each to be written by one task; the whole image if not sharded.

    They are in the order in which `plan_blocks` lists the tiles within them.
    """
    height, width = source.plane_height, source.width
    side = SHARD if is_sharded(source) else max(height, width)
    planes = [Window(top, 0, top + height, width) for top in range(0, source.height, height)]
    return [shard for plane in planes for shard in _grid(plane, side, side)]


def _balanced(
    positions: Sequence[int], sources: Sequence[ImageSource], limit: float
) -> Iterator[list[int]]:
    costs = [sources[position].pixels + IMAGE_PX for position in positions]
    remaining = sum(costs)
    share = 0.0
    batch: list[int] = []
    taken = 0
    for position, cost in zip(positions, costs, strict=True):
        if batch and (taken + cost > limit or taken + cost / 2 > share):
            yield batch
            remaining -= taken
            batch, taken = [], 0
        if not batch:
            share = remaining / math.ceil(remaining / limit)
        batch.append(position)
        taken += cost
    if batch:
        yield batch


def _tiles(source: ImageSource, limit: float) -> Iterator[Window]:
    height, width = _tile_size(source, limit)
    n_planes = int(1.1 * limit) // (source.plane_height * source.width)
    if source.planes > 1 and n_planes:
        yield from _grid(whole_window(source), n_planes * source.plane_height, source.width)
        return
    for shard in shard_windows(source):
        yield from _grid(shard, height, width)


def _tile_size(source: ImageSource, limit: float) -> tuple[int, int]:
    """The largest tile of at most 1.1 blocks; of equals the squarest, then the wider one."""
    if is_sharded(source):
        sides = [CHUNK << i for i in range((SHARD // CHUNK).bit_length())]
    else:
        sides = [CHUNK * i for i in range(1, SHARD_ABOVE // CHUNK + 1)]

    def merit(size: tuple[int, int]) -> tuple[bool, int, int, int]:
        height, width = min(size[0], source.plane_height), min(size[1], source.width)
        fits = height * width <= 1.1 * limit
        return fits, height * width if fits else -height * width, -abs(height - width), -sum(size)

    return max(((h, w) for w in sides for h in sides), key=merit)


def is_sharded(source: ImageSource) -> bool:
    """Whether the label map of an image is stored in shards."""
    return max(source.width, source.plane_height) > SHARD_ABOVE


def _grid(within: Window, height: int, width: int) -> Iterator[Window]:
    for y in range(within.y0, within.y1, height):
        for x in range(within.x0, within.x1, width):
            yield Window(y, x, min(y + height, within.y1), min(x + width, within.x1))
