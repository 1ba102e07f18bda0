"""Where channels come from: bands in files, plates, GDAL, what lies in a folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import kmdist
from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.images import Found
from kmdist.recipes.predict import predict
from kmdist.recipes.segment.rasters import Asked, ProbeRaster, read_raster
from kmdist.recipes.segment.recipe import segment
from tests.support.scenes import PLACE, fields, write_bands, write_micrograph

SCENE = fields(96, 112, 12)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return segment(SCENE, tmp_path_factory.mktemp("whole") / "run.zarr", k=4)


def test_bands_in_files_are_one_scene(whole: Any, tmp_path: Path) -> None:
    folder = write_bands(tmp_path / "scenes" / "one", SCENE)
    (folder / "notes.tif").write_bytes(b"II*\0")
    run = segment(tmp_path / "scenes", tmp_path / "run.zarr", k=4, bands="B*.tif")
    assert list(run.images) == ["one"]
    assert run.attributes["channels"] == [f"B{n}" for n in range(1, 13)]  # B2 before B10
    (name,) = whole.images
    np.testing.assert_array_equal(run.labels("one")[:], whole.labels(name)[:])
    again = predict(run, tmp_path / "scenes", tmp_path / "p.zarr")
    np.testing.assert_array_equal(again.labels("one")[:], run.labels("one")[:])


def test_a_list_says_the_order_of_bands(tmp_path: Path) -> None:
    folder = write_bands(tmp_path / "s", SCENE)
    run = segment(folder, tmp_path / "run.zarr", k=4, bands=["B7.tif", "B2.tif"])
    two = segment(SCENE[..., [6, 1]], tmp_path / "two.zarr", k=4)
    assert list(run.images) == ["s"]
    np.testing.assert_array_equal(run.centroids, two.centroids)


@pytest.mark.parametrize("case", ["size", "place", "channels", "missing", "none"])
def test_bands_that_do_not_lie_on_one_another_are_told(case: str, tmp_path: Path) -> None:
    folder = write_bands(tmp_path / "bad", SCENE[..., :3], extratags=PLACE)
    bands: Any = "B*.tif"
    if case == "size":
        tifffile.imwrite(folder / "B3.tif", SCENE[:90, :, 2], extratags=PLACE)
    elif case == "place":
        tifffile.imwrite(folder / "B3.tif", SCENE[..., 2])
    elif case == "channels":
        tifffile.imwrite(
            folder / "B3.tif", SCENE[..., :2], photometric="minisblack", planarconfig="contig"
        )
    elif case == "missing":
        bands = ["B1.tif", "B9.tif"]
    else:
        bands = "C*.tif"
    said = {
        "size": "112 × 90 px",
        "place": "B3.tif has another place",
        "channels": "B3.tif has 2 channels",
        "missing": r"no file B9.tif",
        "none": "no file of 3",
    }[case]
    error = UsageError if case == "none" else KmdistError
    with pytest.raises(error, match=said):
        segment(folder, tmp_path / "run.zarr", k=2, bands=bands)
    if case != "none":
        good = write_bands(tmp_path / "both" / "good", SCENE[..., :3])
        folder.rename(tmp_path / "both" / "bad")
        if case == "missing":
            (good / "B3.tif").rename(good / "B9.tif")
        run = segment(tmp_path / "both", tmp_path / "run.zarr", k=2, bands=bands)
        assert list(run.images) == ["good"]
        assert [one["code"] for one in run.attributes["rejected"]] == ["bands"]


def test_arrays_lie_in_folders_as_images_do(whole: Any, tmp_path: Path) -> None:
    folder = tmp_path / "arrays"
    folder.mkdir()
    np.save(folder / "a.npy", SCENE)
    np.savez(folder / "b.npz", scene=SCENE)
    run = segment(folder, tmp_path / "run.zarr", k=4)
    assert list(run.images) == ["a.npy", "b.npz"]
    (name,) = whole.images
    np.testing.assert_array_equal(run.labels("b.npz")[:], whole.labels(name)[:])


def ome_group(group: Any, data: np.ndarray, axes: str) -> None:
    """An OME-Zarr image in a group."""
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": [{"name": a} for a in axes], "datasets": [{"path": "0"}]}],
    }
    group.create_array("0", data=data)


def test_plates_and_conversions_are_entered(tmp_path: Path) -> None:
    planes = np.moveaxis(SCENE, -1, 0)
    plate = zarr.create_group(tmp_path / "in" / "plate.zarr")
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}]}}
    well = plate.create_group("A").create_group("1")
    well.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}
    for field in ("0", "1"):
        ome_group(well.create_group(field), planes, "cyx")
    made = zarr.create_group(tmp_path / "in" / "made.zarr")
    made.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    ome_group(made.create_group("0"), planes, "cyx")
    run = segment(tmp_path / "in", tmp_path / "run.zarr", k=3)
    names = ["made.zarr/0", "plate.zarr/A/1/0", "plate.zarr/A/1/1"]
    assert list(run.images) == names
    named = segment(tmp_path / "in" / "plate.zarr", tmp_path / "named.zarr", k=3)
    assert list(named.images) == ["A/1/0", "A/1/1"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["VRT", "HFA", "netCDF", "JP2OpenJPEG"])
def test_what_gdal_reads(kind: str, whole: Any, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    from rasterio.shutil import copy

    suffixes = {"VRT": "vrt", "HFA": "img", "netCDF": "nc", "JP2OpenJPEG": "jp2"}
    path = tmp_path / f"a.{suffixes[kind]}"
    if kind == "netCDF":
        import xarray

        planes = np.moveaxis(SCENE, -1, 0).astype(np.int32)
        places = {  # without them GDAL turns the picture over
            axis: (axis, values, {"standard_name": f"projection_{axis}_coordinate", "units": "m"})
            for axis, values in {"y": np.arange(96.0)[::-1], "x": np.arange(112.0)}.items()
        }
        made = xarray.Dataset({"reflectance": (("band", "y", "x"), planes)}, places)
        made.to_netcdf(path, engine="scipy")
    else:
        source = tmp_path / "a.tif"
        tifffile.imwrite(
            source, SCENE, photometric="minisblack", planarconfig="contig", extratags=PLACE
        )
        lossless = {"QUALITY": "100", "REVERSIBLE": "YES"} if kind == "JP2OpenJPEG" else {}
        copy(source, path, driver=kind, **lossless)
    run = segment(path, tmp_path / "run.zarr", k=4)
    (name,) = whole.images
    np.testing.assert_array_equal(run.labels(path.name)[:], whole.labels(name)[:])
    if kind == "netCDF":
        return
    kmdist.export(run, tmp_path / "out")
    with rasterio.open(path) as source, rasterio.open(tmp_path / "out" / "a.tif") as made:
        assert made.transform == source.transform
        assert made.crs.to_epsg() == 31985
        np.testing.assert_array_equal(made.read(1), run.labels(path.name)[:])


def test_without_strict_nan_is_no_data(tmp_path: Path) -> None:
    holed = SCENE.astype(np.float32)
    holed[3, 4, 5] = np.nan
    assert segment(holed, tmp_path / "a.zarr", k=2).counts.sum() == 96 * 112 - 1
    with pytest.raises(KmdistError, match="NaN"):
        segment(holed, tmp_path / "b.zarr", k=2, strict=True)


@pytest.mark.parametrize("how", [{"imagej": True}, {"metadata": None}, {"bigtiff": True}])
def test_a_stack_that_lost_pages_is_none_of_fewer_channels(
    how: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "stack.tif"
    stack = np.arange(3 * 6 * 7, dtype=np.uint16).reshape(3, 6, 7)
    if how.get("imagej"):
        how = {**how, "metadata": {"axes": "CYX"}}
    tifffile.imwrite(path, stack, photometric="minisblack", **how)
    probe, found = ProbeRaster(Asked()), Found("stack.tif", str(path))
    whole, data = read_raster(probe(found, max_pixels=100))[0], path.read_bytes()
    for n_bytes in range(len(data)):
        path.write_bytes(data[:n_bytes])
        try:
            values, _ = read_raster(probe(found, max_pixels=100))
        except ImageError:
            continue
        np.testing.assert_array_equal(values, whole)


@pytest.mark.parametrize("shared", [True, False])
def test_labels_lie_where_the_channels_of_a_micrograph_do(shared: bool, tmp_path: Path) -> None:
    from ome_zarr_models.v05.image_label import ImageLabel

    write_micrograph(tmp_path / "cells.zarr", np.stack([fields(160, 144)] * 20))
    with pytest.raises(KmdistError, match="--z says which"):
        segment(tmp_path / "cells.zarr", tmp_path / "run.zarr", k=3)
    run = segment(
        tmp_path / "cells.zarr", tmp_path / "run.zarr", k=3, z=7, channels="DAPI,Cy5", shared=shared
    )
    assert run.attributes["channels"] == ["DAPI", "Cy5"]
    label = zarr.open_group(run.path, path="images/cells.zarr/labels/kmeans", mode="r")
    stored = ImageLabel.from_zarr(label).ome_attributes.multiscales[0]
    assert [axis.unit for axis in stored.axes] == ["micrometer"] * 2
    scale, translation = stored.datasets[0].coordinateTransformations
    assert (list(scale.scale), list(translation.translation)) == ([0.5, 0.25], [10.0, 20.0])
