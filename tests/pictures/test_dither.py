"""Error diffusion against a plain version, in bands, and what it is for: the mean colour."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from kmdist.engine.lloyd import predict_rows
from kmdist.pictures.dither import EDGE, Ditherer
from kmdist.pictures.png import PngWriter
from kmdist.recipes.quantize.kernels.histogram import count_colors
from kmdist.recipes.quantize.palette import ColorCloud, fit_palette


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
    seed: int, height: int, width: int, k: int, drawn: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 256, (height, width, 3), np.uint8)
    palette = random.integers(0, 256, (k, 3), np.uint8)
    cuts = sorted(drawn.draw(st.lists(st.integers(0, height), max_size=3)))
    dither = Ditherer(palette, width)
    bands = [dither(rows) for rows in np.split(rgb, cuts)]
    assert np.array_equal(np.concatenate(bands), plain_dither(rgb, palette))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 12), max_size=3), st.integers(1, 255))
def test_fading_at_edges_does_not_depend_on_bands(seed: int, cuts: list[int], edge: int) -> None:
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 256, (12, 9, 3), np.uint8) // random.integers(
        1, 9, (12, 9, 1), np.uint8
    )
    palette = random.integers(0, 256, (7, 3), np.uint8)
    whole = Ditherer(palette, 9, 1, edge)(rgb)
    dither = Ditherer(palette, 9, 1, edge)
    bands = [dither(rows) for rows in np.split(rgb, sorted(cuts))]
    assert np.array_equal(np.concatenate(bands), whole)


def test_smooth_parts_are_dithered_and_edges_are_not() -> None:
    """A sky of one colour keeps its mean; a chequer of large differences its nearest colours."""
    sky = np.full((64, 64, 3), 100, np.uint8)
    chequer = np.where(np.indices((64, 64)).sum(0) % 2, 200, 60)[..., None].repeat(3, 2)
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    shown = palette[Ditherer(palette, 64, 1, 24)(sky)]
    assert abs(shown.mean() - 100) < 1
    nearest = np.where(chequer > 127, 255, 0)
    indices = Ditherer(palette, 64, 1, 24)(chequer.astype(np.uint8))
    assert np.array_equal(palette[indices], nearest)


def test_photographs_lose_little_and_stay_small() -> None:
    """Diffusing everywhere costs 4 dB and 40 % of the bytes, away from edges 1 dB and 25 %."""
    photograph = data.astronaut()
    palette = fit_palette(ColorCloud(count_colors(photograph)), 32).palette
    centroids = palette.astype(np.float32)
    labels = predict_rows(photograph.reshape(-1, 3), centroids).reshape(512, 512).astype(np.uint8)
    figures = []
    for indices in (labels, Ditherer(palette, 512, 1, EDGE)(photograph)):
        file = io.BytesIO()
        writer = PngWriter(file, 512, 512, palette=palette)
        writer.write_rows(indices)
        writer.close()
        error = palette[indices].astype(int) - photograph
        figures.append((10 * np.log10(255**2 / (error**2).mean()), len(file.getvalue())))
    (plain_db, plain_bytes), (dithered_db, dithered_bytes) = figures
    assert dithered_db > plain_db - 1
    assert dithered_bytes < 1.3 * plain_bytes


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
