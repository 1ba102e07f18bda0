"""Error diffusion against a plain version, in bands, and what it is for: the mean colour."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.pictures.dither import Ditherer


def plain_dither(rgb: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Floyd-Steinberg with alternating rows, in Python integers."""
    height, width, _ = rgb.shape
    value = 16 * np.pad(rgb.astype(int), ((0, 1), (1, 1), (0, 0)))
    out = np.empty((height, width), int)
    for y in range(height):
        step = -1 if y % 2 else 1
        for x in range(width)[::step]:
            wanted = value[y, x + 1].clip(0, 16 * 255)
            distances = (((wanted + 8) // 16 - palette.astype(int)) ** 2).sum(axis=1)
            out[y, x] = distances.argmin()
            error = wanted - 16 * palette[out[y, x]].astype(int)
            parts = [7 * error // 16, 3 * error // 16, 5 * error // 16]
            value[y, x + 1 + step] += parts[0]
            value[y + 1, x + 1 - step] += parts[1]
            value[y + 1, x + 1] += parts[2]
            value[y + 1, x + 1 + step] += error - sum(parts)
    return out


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(1, 300), st.data()
)
def test_equals_the_plain_version_in_any_bands(
    seed: int, height: int, width: int, k: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 256, (height, width, 3), np.uint8)
    palette = random.integers(0, 256, (k, 3), np.uint8)
    cuts = sorted(data.draw(st.lists(st.integers(0, height), max_size=3)))
    dither = Ditherer(palette, width)
    bands = [dither(rows) for rows in np.split(rgb, cuts)]
    assert np.array_equal(np.concatenate(bands), plain_dither(rgb, palette))


def test_keeps_the_mean_that_no_single_colour_has() -> None:
    rgb = np.full((64, 64, 3), 100, np.uint8)
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    indices = Ditherer(palette, 64)(rgb)
    assert abs(palette[indices].mean() - 100) < 1


def test_skipped_pixels_pass_no_errors() -> None:
    rgb = np.full((1, 3, 3), 120, np.uint8)
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    skip = np.array([[False, True, False]])
    assert Ditherer(palette, 3)(rgb, skip).tolist() == [[0, 0, 0]]
    assert Ditherer(palette, 3)(rgb).tolist() == [[0, 1, 0]]


def test_refuses_what_does_not_fit() -> None:
    palette = np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="palette must be"):
        Ditherer(palette.astype(float), 4)
    with pytest.raises(ValueError, match="rows must be"):
        Ditherer(palette, 4)(np.zeros((2, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="mask"):
        Ditherer(palette, 4)(np.zeros((2, 4, 3), np.uint8), np.zeros((2, 3), bool))
