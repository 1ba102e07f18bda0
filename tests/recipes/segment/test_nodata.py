"""What arrays say has no data: a mask, attributes, what xarray writes into Zarr."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from kmdist import segment
from kmdist.errors import UsageError

MISSING = -9999


def holed(dtype: str) -> np.ndarray:
    """(y, x, c) of two surfaces, the first rows of which hold the number for no data."""
    left = np.arange(24) < 12
    noise = np.random.default_rng(0).integers(0, 5, (20, 24, 2))
    values = (np.where(left[:, None], 100, 500) + noise).astype(dtype)
    values[:6] = MISSING
    return values


def masked(values: np.ndarray) -> Any:
    return np.ma.masked_equal(values, MISSING)


def lazily_masked(values: np.ndarray) -> Any:
    return da.ma.masked_equal(da.from_array(values, chunks=(7, 9, 2)), MISSING)


def said_by(name: str) -> Any:
    def named(values: np.ndarray) -> xr.DataArray:
        return xr.DataArray(values, dims=("y", "x", "band"), attrs={name: values.dtype.type(-9999)})

    return named


def written(version: Any) -> Any:
    def write(values: np.ndarray, path: Path) -> str:
        dataset = xr.Dataset({"v": xr.DataArray(values, dims=("y", "x", "band"))})
        how: Any = {"encoding": {"v": {"_FillValue": MISSING}}, "consolidated": False}
        dataset.to_zarr(path, zarr_format=version, **how)
        return str(path)

    return write


KINDS: dict[str, Any] = {
    "mask": masked,
    "lazy mask": lazily_masked,
    "_FillValue": said_by("_FillValue"),
    "missing_value": said_by("missing_value"),
    "Zarr v2": written(2),
    "Zarr v3": written(3),
}


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_an_array_says_has_no_data(kind: str, dtype: str, tmp_path: Path) -> None:
    values, further = holed(dtype), (tmp_path / "a.zarr",) if "Zarr" in kind else ()
    run = segment(KINDS[kind](values, *further), k=2)
    labels = run.labels(next(iter(run.images)))[:]
    assert (labels[:6] == 255).all()
    alone = segment(values[6:], k=2)
    np.testing.assert_array_equal(labels[6:], alone.labels("array.zarr")[:])
    np.testing.assert_allclose(run.centroids, alone.centroids, rtol=1e-6)


@pytest.mark.parametrize("nodata", [-9999, 0.5, 1e300, np.inf])
def test_a_number_that_no_value_has_marks_nothing(nodata: float) -> None:
    for dtype in ("int32", "float32"):
        values = np.abs(holed(dtype))
        run = segment(values, k=2, nodata=nodata)
        assert int(np.sum(run.counts)) == values[:, :, 0].size


@pytest.fixture(scope="module")
def fitted() -> Any:
    return segment(holed("float32")[6:], k=2)


@pytest.mark.parametrize("kind", ["nan", "mask", "names"])
def test_arrays_in_memory_are_labelled_where_they_have_data(kind: str, fitted: Any) -> None:
    values = holed("float32")
    image: Any = masked(values)
    if kind != "mask":
        values[:6] = np.nan
        image = values
    if kind == "names":
        image = xr.DataArray(values.transpose(2, 1, 0), dims=("band", "x", "y"))
    labels = fitted.predict(image)
    assert (labels[:6] == np.iinfo(labels.dtype).max).all()
    np.testing.assert_array_equal(labels[6:], fitted.labels("array.zarr")[:])


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, "got None"),
        ("gone.tif", "kmdist.predict labels files"),
        (np.full((2, 2, 2), np.inf), "infinite values"),
        (np.zeros((2, 2, 2), complex), "complex128"),
        (np.zeros((2, 2, 2), object), "object"),
        (np.zeros((2, 2, 3)), "received shape"),
    ],
)
def test_what_is_no_image_of_a_run_is_told(image: Any, said: str, fitted: Any) -> None:
    with pytest.raises(UsageError, match=said):
        fitted.predict(image)
