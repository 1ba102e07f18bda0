"""The public Landsat scene: the same labels from whatever holds it, and its place in exports."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import kmdist
from kmdist.recipes.segment.geo import PLACE_TAGS
from kmdist.recipes.segment.recipe import segment
from tests.support.folders import DATA
from tests.support.scenes import write_bands

PATH = DATA / "multiband" / "L7_ETMs.tif"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PATH.exists(), reason="public material 'multiband' is not there"),
]


def written(kind: str, scene: np.ndarray, folder: Path) -> Any:
    """The scene as one kind of input."""
    planes = np.ascontiguousarray(np.moveaxis(scene, -1, 0))
    path = folder / kind
    if kind == "bands":
        return write_bands(folder / "scene", scene)
    if kind == "cyx.zarr":
        zarr.create_array(path, data=planes, dimension_names=["c", "y", "x"])
    elif kind == "yxc.zarr":
        zarr.create_array(path, data=scene)
    elif kind == "a.npy":
        np.save(path, scene)
    elif kind == "dask":
        import dask.array as da

        return da.from_array(scene, chunks=(100, 90, 4))
    else:
        import xarray

        return xarray.DataArray(planes, dims=("band", "y", "x"))
    return path


def test_labels_are_the_same_from_every_input(tmp_path: Path) -> None:
    scene = tifffile.imread(PATH)
    run = segment(PATH, tmp_path / "run.zarr", k=6)
    labels = run.labels(PATH.name)[:]
    for kind in ("bands", "cyx.zarr", "yxc.zarr", "a.npy", "dask", "xarray"):
        options = {"bands": "B*.tif"} if kind == "bands" else {}
        given = written(kind, scene, tmp_path)
        other = segment(given, tmp_path / f"{kind}-run.zarr", k=6, **options)
        (name,) = other.images
        np.testing.assert_array_equal(other.labels(name)[:], labels, err_msg=kind)


def test_the_exported_file_lies_where_the_scene_does(tmp_path: Path) -> None:
    run = segment(PATH, tmp_path / "run.zarr", k=6)
    kmdist.export(run, tmp_path / "out")
    made = tmp_path / "out" / "L7_ETMs.tif"
    with tifffile.TiffFile(PATH) as source, tifffile.TiffFile(made) as target:
        before, after = source.pages.first.tags, target.pages.first.tags
        codes = [code for code in PLACE_TAGS if code in before]
        assert len(codes) >= 3
        for code in codes:
            assert after[code].value == before[code].value
            assert after[code].dtype == before[code].dtype
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(PATH) as source, rasterio.open(made) as target:
        assert target.crs == source.crs
        assert target.transform == source.transform
        assert target.bounds == source.bounds
        colors = target.colormap(1)
        np.testing.assert_array_equal([colors[i][:3] for i in range(6)], run.palette)
        np.testing.assert_array_equal(target.read(1), run.labels(PATH.name)[:])
