"""PSNR of palettes, and palettes of a wanted PSNR."""

import math
from typing import Any

import numpy as np
import pytest
from skimage import data as pictures
from skimage.metrics import peak_signal_noise_ratio

from kmdist.errors import UsageError
from kmdist.recipes.quantize.kernels.histogram import count_colors
from kmdist.recipes.quantize.kernels.label_table import apply_table, label_table
from kmdist.recipes.quantize.palette import (
    ColorCloud,
    Palette,
    PaletteOptions,
    fit_palette,
    fit_to_psnr,
    psnr,
)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(pictures.coffee()[::3, ::3])


@pytest.mark.parametrize("space", ["rgb", "lab"])
def test_psnr_is_that_of_the_recoloured_picture(photo: np.ndarray, space: str) -> None:
    cloud = ColorCloud(count_colors(photo), space)
    palette = fit_palette(cloud, 9)
    table = label_table(cloud.colors.codes, palette.labels)
    shown = palette.palette[apply_table(photo, table)]
    wanted = peak_signal_noise_ratio(photo, shown)
    assert psnr(cloud.colors, palette.palette, palette.labels) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("space", ["rgb", "oklab", "hsv"])
@pytest.mark.parametrize("wanted", [18.0, 31.0])
def test_the_palette_found_reaches_it_and_one_colour_less_does_not(
    photo, space, wanted, monkeypatch
) -> None:
    cloud = ColorCloud(count_colors(photo), space)
    options, fits = PaletteOptions(seed=3), []

    def counted(*how: Any) -> Palette:
        fits.append(how)
        return fit_palette(*how)

    monkeypatch.setattr("kmdist.recipes.quantize.palette.fit.fit_palette", counted)
    found, psnr_db, below = fit_to_psnr(cloud, wanted, options)
    assert len(fits) <= 9
    assert below < wanted <= psnr_db
    for size, reached in ((found.k, psnr_db), (found.k - 1, below)):
        palette = fit_palette(cloud, size, options)
        assert psnr(cloud.colors, palette.palette, palette.labels) == reached


def test_one_colour_may_be_enough(photo: np.ndarray) -> None:
    found, _, below = fit_to_psnr(ColorCloud(count_colors(photo)), 5.0)
    assert (found.k, below) == (1, None)


def test_few_colours_reach_any_psnr() -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(20, 3)
    found, psnr_db, below = fit_to_psnr(ColorCloud(count_colors(pixels)), 500.0)
    assert (found.k, psnr_db) == (20, math.inf)
    assert below < 500


def test_what_cannot_be_reached_is_said(photo: np.ndarray) -> None:
    cloud = ColorCloud(count_colors(photo))
    best, psnr_db, below = fit_to_psnr(cloud, 60, PaletteOptions(max_iter=3))
    assert (best.k, below) == (256, None)
    assert 40 < psnr_db < 41
    with pytest.raises(UsageError, match="not a number"):
        fit_to_psnr(cloud, math.nan)
    with pytest.raises(UsageError, match="fix k"):
        fit_to_psnr(cloud, 30, PaletteOptions(init=np.zeros((4, 3))))
