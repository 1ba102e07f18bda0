"""Colour spaces against scikit-image, published values and their own inverse."""

import numpy as np
import pytest
from skimage.color import rgb2hsv, rgb2lab

from kmdist.images.color import SPACES, to_space, to_srgb

GRID = np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3), -1).reshape(-1, 3)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("space", SPACES)
def test_every_displayable_colour_comes_back(space: str, rng: np.random.Generator) -> None:
    colors = np.concatenate([GRID, rng.integers(0, 256, (70_000, 3), dtype=np.uint8)])
    points = to_space(colors, space)
    assert (points.dtype, points.shape) == (np.float32, colors.shape)
    np.testing.assert_array_equal(to_srgb(points, space), colors)


@pytest.mark.parametrize("space", SPACES)
def test_distinct_colours_stay_distinct(space: str) -> None:
    near_black = np.stack(np.meshgrid(*[np.arange(8, dtype=np.uint8)] * 3), -1).reshape(-1, 3)
    colors = np.concatenate([near_black, 255 - near_black])
    assert len(np.unique(to_space(colors, space), axis=0)) == len(colors)


def test_lab_agrees_with_scikit_image() -> None:
    # scikit-image rounds CIE's knee to 0.008856 and 7.787.
    np.testing.assert_allclose(to_space(GRID, "lab"), rgb2lab(GRID), atol=3e-4)


def test_oklab_agrees_with_published_values() -> None:
    # Ottosson (2020) and the W3C's CSS Color 4 samples: white, red, green, blue.
    colors = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    published = [
        [1.0, 0.0, 0.0],
        [0.62796, 0.22486, 0.12585],
        [0.86644, -0.23389, 0.17950],
        [0.45201, -0.03246, -0.31153],
    ]
    np.testing.assert_allclose(to_space(colors, "oklab"), published, atol=1e-5)


def test_hsv_cone_agrees_with_scikit_image() -> None:
    hue, saturation, value = rgb2hsv(GRID).T
    radius, angle = saturation * value, 2 * np.pi * hue
    cone = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), value])
    np.testing.assert_allclose(to_space(GRID, "hsv"), cone, atol=1e-6)


def test_hue_does_not_wrap() -> None:
    reds = np.array([[255, 0, 4], [255, 4, 0]], np.uint8)
    assert np.abs(np.diff(rgb2hsv(reds)[:, 0])) > 0.9
    either, other = to_space(reds, "hsv")
    assert np.linalg.norm(either - other) < 0.04
    # Grey has no hue: it lies on the axis.
    np.testing.assert_array_equal(to_space(np.full((1, 3), 128, np.uint8), "hsv")[0, :2], 0)


@pytest.mark.parametrize("space", SPACES)
def test_colours_between_the_stored_ones_are_converted(space: str) -> None:
    colors = np.array([[0.5, 100.25, 254.5], [0, 0, 0], [3, 4, 5]])
    middle = to_space(np.array([[3, 4, 5]], np.uint8), space)
    np.testing.assert_array_equal(to_space(colors, space)[2:], middle)
    ends = to_space(np.array([[0, 100, 254], [1, 101, 255]], np.uint8), space)
    between = to_space(colors, space)[0]
    assert np.linalg.norm(between - ends[0]) < np.linalg.norm(ends[1] - ends[0])


def test_what_no_display_can_show_is_clipped() -> None:
    assert to_srgb(np.array([[300.0, -5, 12.5]]), "rgb").tolist() == [[255, 0, 12]]
    assert to_srgb(np.array([[120.0, 0, 0]]), "lab").tolist() == [[255, 255, 255]]
    red, green, blue = to_srgb(np.array([[50.0, 120, 100]]), "lab")[0]
    assert (red > 150, green, blue) == (True, 0, 0)
    assert to_srgb(np.array([[2.0, 0, 1]]), "hsv").tolist() == [[255, 0, 0]]
    assert to_srgb(np.array([[0.5, 0, 2.0]]), "hsv").tolist() == [[255, 128, 128]]


@pytest.mark.parametrize("convert", [to_space, to_srgb])
def test_unknown_spaces_and_shapes_are_refused(convert) -> None:
    with pytest.raises(ValueError, match="unknown colour space 'cmyk'; allowed: rgb"):
        convert(np.zeros((2, 3), np.uint8), "cmyk")
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        convert(np.zeros((2, 4), np.uint8), "lab")
