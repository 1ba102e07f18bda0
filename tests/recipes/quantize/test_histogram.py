"""Colour codes, counting, merging and look-up against NumPy."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kmdist.recipes.quantize.kernels import histogram
from kmdist.recipes.quantize.kernels.histogram import (
    N_CODES,
    ColorCounter,
    Colors,
    count_colors,
    decode_colors,
    encode_colors,
    merge_colors,
)
from kmdist.recipes.quantize.kernels.label_table import apply_table, borrowed_table, label_table

PIXELS = hnp.arrays(np.uint8, st.tuples(st.integers(0, 200), st.just(3)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def naive_count(pixels: np.ndarray) -> dict[tuple[int, ...], int]:
    counts: dict[tuple[int, ...], int] = {}
    for pixel in pixels.reshape(-1, 3).tolist():
        counts[tuple(pixel)] = counts.get(tuple(pixel), 0) + 1
    return counts


def as_dict(colors: Colors) -> dict[tuple[int, ...], int]:
    return dict(zip(map(tuple, colors.rgb.tolist()), colors.counts.tolist(), strict=True))


def same_bytes(a: Colors, b: Colors) -> bool:
    return (a.codes.tobytes(), a.counts.tobytes()) == (b.codes.tobytes(), b.counts.tobytes())


@pytest.mark.slow
def test_codes_are_a_bijection_in_morton_order() -> None:
    every = decode_colors(np.arange(N_CODES, dtype=np.uint32))
    np.testing.assert_array_equal(encode_colors(every), np.arange(N_CODES))
    # The eight children of the cube come in order of the channels' highest bits.
    highest = (every >> 7).astype(int) @ [4, 2, 1]
    np.testing.assert_array_equal(highest, np.repeat(np.arange(8), N_CODES // 8))


@settings(deadline=None, max_examples=60)
@given(PIXELS)
def test_count_equals_naive(pixels: np.ndarray) -> None:
    colors = count_colors(pixels)
    assert as_dict(colors) == naive_count(pixels)
    assert (np.diff(colors.codes.astype(np.int64)) > 0).all()
    assert colors.n_pixels == len(pixels)
    assert (colors.codes.dtype, colors.counts.dtype) == (np.uint32, np.int64)


@settings(deadline=None, max_examples=60)
@given(PIXELS, st.lists(st.integers(0, 200), max_size=6), st.randoms())
def test_chunks_in_any_order_and_grouping_count_the_same(pixels, cuts, random) -> None:
    whole = count_colors(pixels)
    parts = [count_colors(part) for part in np.split(pixels, sorted(cuts))]
    random.shuffle(parts)
    assert same_bytes(merge_colors(parts), whole)
    half = len(parts) // 2
    grouped = [merge_colors(parts[:half]), merge_colors(parts[half:])]
    assert same_bytes(merge_colors(grouped), whole)


def test_one_counter_for_several_images(rng: np.random.Generator) -> None:
    images = [rng.integers(0, 9, (5, 7, 3), dtype=np.uint8) for _ in range(3)]
    with ColorCounter() as counter:
        for image in images[:2]:
            counter.add(image)
        first = counter.colors()
        counter.add(images[2])
        second = counter.colors()
    assert same_bytes(first, count_colors(np.concatenate(images[:2])))
    assert same_bytes(second, count_colors(images[2]))


def test_a_counter_left_by_an_error_leaves_no_counts_behind() -> None:
    def count_then_fail() -> None:
        with ColorCounter() as counter:
            counter.add(np.zeros((10, 3), np.uint8))
            counter.add(np.zeros((10, 3)))

    with pytest.raises(ValueError, match="8-bit RGB"):
        count_then_fail()
    assert as_dict(count_colors(np.full((1, 3), 7, np.uint8))) == {(7, 7, 7): 1}


def test_counter_refuses_use_outside_its_block() -> None:
    with pytest.raises(RuntimeError, match="outside"):
        ColorCounter().add(np.zeros((1, 3), np.uint8))
    with pytest.raises(RuntimeError, match="outside"):
        ColorCounter().colors()


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_masked_pixels_are_not_counted(data) -> None:
    pixels = data.draw(hnp.arrays(np.uint8, (6, 5, 3), elements=st.integers(0, 3)))
    mask = data.draw(hnp.arrays(np.bool_, (6, 5)))
    colors = count_colors(pixels, mask)
    assert as_dict(colors) == naive_count(pixels[~mask])
    table = label_table(colors.codes, np.arange(len(colors), dtype=np.uint8))
    labels = apply_table(pixels, table)
    np.testing.assert_array_equal(colors.rgb[labels[~mask]], pixels[~mask])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_look_up_returns_the_label_of_every_colour(dtype, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 6, (40, 30, 3), dtype=np.uint8)
    colors = count_colors(pixels)
    wanted = rng.integers(0, np.iinfo(dtype).max, len(colors), dtype=dtype, endpoint=True)
    order = np.searchsorted(colors.codes, encode_colors(pixels))
    labels = apply_table(pixels, label_table(colors.codes, wanted))
    np.testing.assert_array_equal(labels, wanted[order])
    assert labels.dtype == dtype
    for _ in range(2):
        with borrowed_table(colors.codes, wanted) as table:
            np.testing.assert_array_equal(apply_table(pixels, table), wanted[order])


@pytest.mark.parametrize("offset", range(5))
@pytest.mark.parametrize("n", range(10))
def test_any_address_and_length(offset: int, n: int, rng: np.random.Generator) -> None:
    memory = rng.integers(0, 4, offset + 3 * n, dtype=np.uint8)
    pixels = memory[offset:].reshape(n, 3)
    colors = count_colors(pixels)
    assert as_dict(colors) == naive_count(pixels)
    table = label_table(colors.codes, np.arange(len(colors), dtype=np.uint8))
    np.testing.assert_array_equal(colors.rgb[apply_table(pixels, table)], pixels)


def test_views_are_counted_and_labelled_as_what_they_show(rng: np.random.Generator) -> None:
    image = rng.integers(0, 5, (12, 14, 3), dtype=np.uint8)
    view = image[::2, ::-1, ::-1]
    colors = count_colors(view)
    assert as_dict(colors) == naive_count(view)
    table = label_table(colors.codes, np.arange(len(colors), dtype=np.uint16))
    np.testing.assert_array_equal(colors.rgb[apply_table(view, table)], view)


def test_more_pixels_than_a_counter_holds() -> None:
    def flat(n: int, value: int) -> np.ndarray:
        return np.full((n, 3), value, np.uint8)

    wrap = 1 << 16
    with ColorCounter() as counter:
        # An exact multiple leaves zero in the table.
        counter.add(flat(3 * wrap, 1))
        for value in range(2, 9):
            counter.add(flat(wrap - 1, value))
        # Seven counters wrap on the next seven pixels.
        counter.add(np.concatenate([flat(1, value) for value in range(2, 9)]))
        masked = flat(wrap + 5, 9)
        counter.add(masked, np.arange(wrap + 5) < 3)
        colors = counter.colors()
        counter.add(flat(2, 1))
        again = counter.colors()
    wanted = {(v, v, v): wrap for v in range(2, 9)}
    assert as_dict(colors) == wanted | {(1, 1, 1): 3 * wrap, (9, 9, 9): wrap + 2}
    assert as_dict(again) == {(1, 1, 1): 2}


def test_counts_above_32_bits_merge_exactly() -> None:
    big = Colors(np.array([3, 5], np.uint32), np.array([2**40, 2**32 - 1], np.int64))
    merged = merge_colors([big, big, Colors.empty(), big])
    assert merged.counts.tolist() == [3 * 2**40, 3 * (2**32 - 1)]


def test_nothing_counted_is_empty() -> None:
    assert len(merge_colors([])) == 0
    assert len(count_colors(np.empty((0, 5, 3), np.uint8))) == 0
    assert len(count_colors(np.zeros((2, 3), np.uint8), np.ones(2, np.bool_))) == 0


def test_scratch_is_what_it_is_said_to_be() -> None:
    tracemalloc.start()
    scratch = histogram._Scratch()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert scratch.table.any() == 0
    assert 0 <= size - histogram.TABLE_MEMORY_BYTES < 4096


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 3), np.uint16),
        np.zeros((4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.uint8(3),
    ],
)
def test_other_than_8_bit_rgb_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="8-bit RGB"):
        count_colors(pixels)
    with pytest.raises(ValueError, match="8-bit RGB"):
        apply_table(pixels, np.zeros(N_CODES, np.uint8))


def test_masks_and_tables_that_do_not_fit_are_refused() -> None:
    pixels = np.zeros((4, 3), np.uint8)
    table = np.zeros(N_CODES, np.uint8)
    with pytest.raises(ValueError, match="mask"):
        count_colors(pixels, np.zeros(3, np.bool_))
    with pytest.raises(ValueError, match="mask"):
        count_colors(pixels, np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="entries"):
        apply_table(pixels, table[:-1])
    with pytest.raises(ValueError, match="one label per code"):
        label_table(np.zeros(3, np.uint32), np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="out must be"):
        label_table(np.zeros(1, np.uint32), np.zeros(1, np.uint16), out=table)
