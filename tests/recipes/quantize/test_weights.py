"""Masks: a palette is fitted to what they let count, and labels every pixel all the same."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import kmdist
from kmdist.errors import UsageError
from kmdist.recipes.quantize.kernels.histogram import Colors, count_colors
from tests.support.runs import bytes_of


def _save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs: dark noise with a bright, varied square in one corner; masks of it."""
    rng = np.random.default_rng(0)
    for name in ("a", "sub/b"):
        photo = rng.integers(0, 60, (120, 150, 3))
        photo[:40, :40] = rng.integers(120, 256, (40, 40, 3))
        mask = np.zeros((120, 150))
        mask[:40, :40] = 255
        _save(tmp_path / f"in/{name}.png", photo)
        _save(tmp_path / f"masks/{name}.png", mask)
    return tmp_path


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 4]))
def test_a_pixel_counts_as_often_as_it_weighs(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 3, (6, 7, channels), np.uint8) * 100
    weights = rng.integers(0, 4, (6, 7))
    weighted = Colors.weighted(pixels, weights)
    repeated = np.repeat(pixels.reshape(-1, channels), weights.ravel(), axis=0)
    expected = Colors.with_alpha(repeated) if channels == 4 else count_colors(repeated)
    np.testing.assert_array_equal(weighted.codes, expected.codes)
    np.testing.assert_array_equal(weighted.counts, expected.counts)


def test_the_palette_is_that_of_what_counts(folder: Path) -> None:
    """Of masks that are black but for a square, the palette is that of the squares alone."""
    run = kmdist.quantize(folder / "in", k=8, weights=folder / "masks", tol=0)
    for name in ("a", "sub/b"):
        pixels = np.asarray(Image.open(folder / f"in/{name}.png"))[:40, :40]
        _save(folder / f"squares/{name}.png", pixels)
    squares = kmdist.quantize(folder / "squares", k=8, tol=0)
    assert {*map(tuple, run.palette)} == {*map(tuple, squares.palette)}
    assert run.counts.sum() == 2 * 120 * 150
    assert np.all(np.diff(run.counts) <= 0)
    near = ((np.asarray(Image.open(folder / "in/a.png"))[..., None, :] - run.centroids) ** 2).sum(
        -1
    )
    np.testing.assert_array_equal(run.labels("a.png")[:], near.argmin(-1))


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("alpha", [True, False])
def test_blocks_change_nothing(folder: Path, tmp_path: Path, shared: bool, alpha: bool) -> None:
    """Grey masks, of which one is missing; whole images, and images read by tile."""
    import tifffile

    grey = np.random.default_rng(1).integers(0, 256, (120, 150))
    _save(folder / "masks/a.png", grey)
    (folder / "masks/sub/b.png").unlink()
    photo = np.asarray(Image.open(folder / "in/a.png"))
    tifffile.imwrite(folder / "in/a.tif", photo, tile=(16, 16), photometric="rgb")
    (folder / "in/a.png").unlink()
    options = {"k": 5, "shared": shared, "alpha": alpha, "weights": folder / "masks"}
    runs = [
        kmdist.quantize(folder / "in", tmp_path / f"{mpx}.zarr", block_mpx=mpx, **options)
        for mpx in (0.01, 16)
    ]
    one, other = (np.asarray(run.images["a.tif"].read_labels(0)) for run in runs)
    np.testing.assert_array_equal(one, other)
    again = kmdist.quantize(folder / "in", tmp_path / "x.zarr", workers=1, **options)
    assert bytes_of(again.path) == bytes_of(tmp_path / "16.zarr")


def test_one_image_and_one_mask_need_no_common_name(folder: Path) -> None:
    mask = _save(folder / "any-name.png", np.full((120, 150), 255))
    weighted = kmdist.quantize(folder / "in/a.png", k=4, weights=mask)
    plain = kmdist.quantize(folder / "in/a.png", k=4)
    np.testing.assert_array_equal(weighted.palette, plain.palette)
    np.testing.assert_array_equal(weighted.labels("a.png")[:], plain.labels("a.png")[:])


def test_what_is_refused(folder: Path) -> None:
    _save(folder / "other/none.png", np.zeros((3, 3)))
    _save(folder / "small/a.png", np.zeros((3, 5)))
    (folder / "broken").mkdir()
    (folder / "broken/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for masks, said in [
        ("other", "no mask is named as an image, such as a.png"),
        ("small", "is 5 × 3, and a.png 150 × 120"),
        ("broken", "--weights .*broken: a.png"),
        ("absent", "absent"),
    ]:
        with pytest.raises(UsageError, match=said):
            kmdist.quantize(folder / "in", k=4, weights=folder / masks)


def test_a_mask_that_is_damaged_costs_its_image(folder: Path) -> None:
    path = _save(folder / "masks/a.png", np.random.default_rng(0).integers(0, 256, (120, 150)))
    path.write_bytes(path.read_bytes()[:9000])
    run = kmdist.quantize(folder / "in", k=4, weights=folder / "masks")
    assert list(run.images) == ["sub/b.png"]
    (rejected,) = run.attributes["rejected"]
    assert rejected["image"] == "a.png"
    assert "its mask" in rejected["reason"]
