"""Outlines of cutouts: regions against SciPy's, faded edges against distances pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

import kmdist
from kmdist.errors import UsageError
from kmdist.filters.regions import largest_region
from kmdist.pictures import run_pictures
from kmdist.pictures.extract import extract, extract_all
from kmdist.store import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two discs and specks of white on black, with holes; a corner is transparent."""
    y, x = np.indices((90, 120))
    shape = np.hypot(y - 40, x - 45) < 30
    shape |= np.hypot(y - 60, x - 100) < 12
    rng = np.random.default_rng(2)
    shape ^= rng.random(shape.shape) < 0.01
    rgba = np.zeros((90, 120, 4), np.uint8)
    rgba[..., :3] = np.where(shape, 250, 5)[..., None]
    rgba[..., 3] = 255
    rgba[30:40, 30:40, 3] = 0
    folder = tmp_path_factory.mktemp("shapes")
    Image.fromarray(rgba).save(folder / "in.png")
    return kmdist.quantize(folder / "in.png", folder / "r.zarr", k=2)


def _mask(run: Run, path: Path, **options: object) -> np.ndarray:
    white = int(run.palette.sum(axis=1).argmax())
    extract(run, "in.png", path, clusters=(white,), mask=True, **options)
    return np.asarray(Image.open(path))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_largest_region_is_that_of_scipy(seed: int, share: float) -> None:
    inside = np.random.default_rng(seed).random((13, 17)) < share
    numbered, n = ndimage.label(inside)
    sizes = np.bincount(numbered.ravel(), minlength=n + 1)[1:]
    expected = numbered == sizes.argmax() + 1 if n else inside
    np.testing.assert_array_equal(largest_region(inside), expected)


@pytest.mark.slow
def test_regions_are_dropped_and_holes_filled(run: Run, tmp_path: Path) -> None:
    plain = _mask(run, tmp_path / "a.png") > 0
    tidied = _mask(run, tmp_path / "b.png", min_region=20) > 0
    nowhere = run.labels("in.png")[:] == run.unclustered
    for one in (tidied, ~tidied & ~nowhere):
        numbered, _ = ndimage.label(one)
        assert np.bincount(numbered.ravel())[1:].min() >= 20
    assert ndimage.label(plain)[1] > 2 == ndimage.label(tidied)[1]
    assert not tidied[nowhere].any()
    alone = _mask(run, tmp_path / "c.png", min_region=20, largest=True) > 0
    np.testing.assert_array_equal(alone, largest_region(tidied))


@pytest.mark.parametrize("feather", [0.5, 2.0, 5.5])
def test_alpha_fades_by_the_distance_to_the_edge(run: Run, tmp_path: Path, feather: float) -> None:
    inside = _mask(run, tmp_path / "a.png") > 0
    faded = _mask(run, tmp_path / "b.png", feather=feather)
    depth = np.where(
        inside,
        ndimage.distance_transform_edt(inside) - 0.5,
        0.5 - ndimage.distance_transform_edt(~inside),
    )
    expected = 255 * np.clip((depth + feather) / (2 * feather), 0, 1)
    nowhere = run.labels("in.png")[:] == run.unclustered
    expected[nowhere] = 0
    assert np.abs(faded - expected).max() <= 0.51


@pytest.mark.parametrize("shape", [{}, {"min_region": 20}, {"largest": True}])
def test_bands_change_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: dict[str, object]
) -> None:
    whole = _mask(run, tmp_path / "a.png", feather=3, **shape)
    monkeypatch.setattr(run_pictures, "BAND_ROWS", 7)
    monkeypatch.setattr(run_pictures, "BAND_PIXELS", 1)
    np.testing.assert_array_equal(_mask(run, tmp_path / "b.png", feather=3, **shape), whole)


def test_colours_show_where_alpha_does(run: Run, tmp_path: Path) -> None:
    (cutout,) = extract_all(run, tmp_path / "all", (0,), feather=2, largest=True)
    rgba = np.asarray(Image.open(cutout.path))
    original = np.asarray(Image.open(run.images["in.png"].source))
    shows = rgba[..., 3] > 0
    assert {0, 255} < {*np.unique(rgba[..., 3])}
    np.testing.assert_array_equal(rgba[shows][:, :3], original[shows][:, :3])
    assert not rgba[~shows].any()


@pytest.mark.parametrize("wrong", [{"min_region": -1}, {"feather": -0.5}, {"feather": 1e9}])
def test_what_is_refused(run: Run, tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        extract(run, "in.png", tmp_path / "x.png", clusters=(0,), **wrong)
    assert not (tmp_path / "x.png").exists()
