"""Plans of blocks: every pixel once, even sizes, whole chunks and shards."""

import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.images import ImageSource, Piece, Window, plan_blocks, shard_windows
from kmdist.images.blocks import IMAGE_PX


def source(width: int, height: int, windowed: bool = False) -> ImageSource:
    return ImageSource("a", "a", width, height, 3, "uint8", "tiff", windowed)


def pixels(block: Sequence[Piece]) -> int:
    return sum(piece.window.pixels for piece in block)


sources_lists = st.lists(
    st.builds(source, st.integers(1, 5_000), st.integers(1, 5_000), st.booleans()), max_size=30
).map(lambda listed: [replace(one, name=f"{i:02}") for i, one in enumerate(listed)])
sizes_mpx = st.floats(0.05, 40)


def covered(blocks: Sequence[Sequence[Piece]], one: ImageSource) -> np.ndarray:
    """How often each 1-px cell of a coarse grid over the image is covered."""
    windows = [piece.window for block in blocks for piece in block if piece.source == one]
    edges_y = np.unique([v for window in windows for v in _ys(window)])
    edges_x = np.unique([v for window in windows for v in _xs(window)])
    assert (edges_y[0], edges_y[-1], edges_x[0], edges_x[-1]) == (0, one.height, 0, one.width)
    times = np.zeros((len(edges_y) - 1, len(edges_x) - 1), int)
    for window in windows:
        y = np.searchsorted(edges_y, _ys(window))
        x = np.searchsorted(edges_x, _xs(window))
        times[y[0] : y[1], x[0] : x[1]] += 1
    return times


def _ys(window: Window) -> tuple[int, int]:
    return window.y0, window.y1


def _xs(window: Window) -> tuple[int, int]:
    return window.x0, window.x1


@settings(deadline=None, max_examples=60)
@given(sources_lists, sizes_mpx)
def test_every_pixel_once(sources: list[ImageSource], block_mpx: float) -> None:
    blocks = plan_blocks(sources, block_mpx=block_mpx)
    assert sum(map(pixels, blocks)) == sum(one.pixels for one in sources)
    firsts = [block[0].source.name for block in blocks]
    assert firsts == sorted(firsts)
    for one in sources:
        assert (covered(blocks, one) == 1).all()
    assert blocks == plan_blocks(sources, block_mpx=block_mpx)
    assert pickle.loads(pickle.dumps(blocks)) == blocks


@settings(deadline=None, max_examples=60)
@given(sources_lists, sizes_mpx)
def test_blocks_keep_to_their_size(sources: list[ImageSource], block_mpx: float) -> None:
    for block in plan_blocks(sources, block_mpx=block_mpx):
        first = block[0].source
        if len(block) > 1:
            assert pixels(block) <= block_mpx * 1e6
        elif first.windowed and first.pixels > block_mpx * 1e6:
            assert pixels(block) <= max(1.1 * block_mpx * 1e6, 1_024**2)
            window = block[0].window
            assert window.y0 % 1_024 == window.x0 % 1_024 == 0
        else:
            assert block[0].window == Window(0, 0, first.height, first.width)


def test_equal_images_make_even_blocks() -> None:
    sizes = [len(b) for b in plan_blocks([source(640, 480)] * 20_000, block_mpx=16)]
    assert sum(sizes) == 20_000
    assert min(sizes) >= 0.9 * max(sizes)
    assert len(sizes) <= 1.03 * 20_000 * (640 * 480 + IMAGE_PX) / 16e6


def test_thumbnails_do_not_make_endless_blocks() -> None:
    blocks = plan_blocks([source(28, 28)] * 60_000, block_mpx=16)
    assert max(len(block) for block in blocks) <= 16_000_000 // IMAGE_PX


def test_nothing_and_one_pixel() -> None:
    assert plan_blocks([]) == []
    assert pixels(plan_blocks([source(1, 1)])[0]) == 1


@pytest.mark.parametrize("block_mpx", [0.4, 4, 16, 64])
@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (100_000, 3_000), (9_000, 16_385)])
def test_tiles_of_sharded_images_lie_within_shards(
    width: int, height: int, block_mpx: float
) -> None:
    one = source(width, height, windowed=True)
    shards = shard_windows(one)
    assert sum(shard.pixels for shard in shards) == one.pixels
    blocks = plan_blocks([one], block_mpx=block_mpx)
    owners = []
    for block in blocks:
        (piece,) = block
        w = piece.window
        assert w.height <= 8_192
        assert w.width <= 8_192
        owner = next(i for i, s in enumerate(shards) if s.y0 <= w.y0 < s.y1 and s.x0 <= w.x0 < s.x1)
        assert w.y1 <= shards[owner].y1
        assert w.x1 <= shards[owner].x1
        owners.append(owner)
    assert owners == sorted(owners)
    assert set(owners) == set(range(len(shards)))


def test_small_images_are_one_shard() -> None:
    assert shard_windows(source(16_384, 10)) == [Window(0, 0, 10, 16_384)]


@pytest.mark.parametrize(
    ("width", "height", "block_mpx", "tile"),
    [
        (16_000, 16_000, 16, (4_096, 4_096)),
        (20_000, 20_000, 16, (4_096, 4_096)),
        (20_000, 20_000, 8, (2_048, 4_096)),
        (100_000, 500, 16, (500, 8_192)),
        (5_000, 5_000, 0.4, (1_024, 1_024)),
        (12_000, 900, 8, (900, 9_216)),
    ],
)
def test_tiles_fill_a_block(
    width: int, height: int, block_mpx: float, tile: tuple[int, int]
) -> None:
    first = plan_blocks([source(width, height, True)], block_mpx=block_mpx)[0][0].window
    assert sorted((first.height, first.width)) == sorted(tile)
