"""Volumes: all planes of an image clustered and labelled as one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from ome_zarr_models.v05.image_label import ImageLabel
from PIL import Image

import kmdist
from kmdist.cli import cli
from kmdist.errors import KmdistError, UsageError
from kmdist.recipes.predict import predict
from kmdist.recipes.segment.recipe import segment
from tests.support.scenes import CHANNELS, fields, write_micrograph

VOLUME = np.stack([np.roll(fields(60, 52), 3 * z, axis=1) for z in range(20)])
"""(z, y, x, c) of five channels."""


@pytest.fixture
def micrograph(tmp_path: Path) -> Path:
    write_micrograph(tmp_path / "cells.zarr", VOLUME)
    return tmp_path / "cells.zarr"


def stored(volume: np.ndarray, kind: str, folder: Path) -> Any:
    planes = np.moveaxis(volume, -1, 1)  # z, c, y, x
    if kind == "dask":
        import dask.array as da
        import xarray

        return xarray.DataArray(da.from_array(planes, chunks=(4, 5, 30, 52)), dims=list("zcyx"))
    if kind == "names":
        array = zarr.create_array(
            folder / "a.zarr", data=np.moveaxis(volume, -1, 0), dimension_names=list("czyx")
        )
        return Path(str(array.store_path.store.root))
    path = folder / ("a.ome.tif" if kind == "ome" else "a.tif")
    tifffile.imwrite(
        path, planes, metadata={"axes": "ZCYX"}, photometric="minisblack", **{kind: True}
    )
    return path


@pytest.mark.parametrize("shared", [True, False])
def test_a_volume_is_labelled_as_its_pixels_are(
    micrograph: Path, tmp_path: Path, *, shared: bool
) -> None:
    start = VOLUME.reshape(-1, 5)[[0, 900, 2000, 40000]].astype(np.float64)
    options = {"k": 4, "init": start, "shared": shared}
    run = segment(micrograph, tmp_path / "run.zarr", volume=True, **options)
    assert run.attributes["channels"] == CHANNELS
    image = run.images["cells.zarr"]
    assert (image.planes, image.height, image.width) == (20, 60, 52)
    labels = image.labels()[:]
    flat = segment(VOLUME.reshape(1200, 52, 5), tmp_path / "flat.zarr", **options)
    np.testing.assert_array_equal(labels.reshape(1200, 52), flat.labels()[:])
    label = zarr.open_group(run.path, path="images/cells.zarr/labels/kmeans", mode="r")
    scales = ImageLabel.from_zarr(label).ome_attributes.multiscales[0]
    assert [(axis.name, axis.unit) for axis in scales.axes] == [(a, "micrometer") for a in "zyx"]
    scale, translation = scales.datasets[0].coordinateTransformations
    assert (list(scale.scale), list(translation.translation)) == ([2, 0.5, 0.25], [3, 10, 20])
    if shared:
        again = predict(run, micrograph, tmp_path / "again.zarr")
        np.testing.assert_array_equal(again.images["cells.zarr"].labels()[:], labels)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["names", "ome", "imagej", "dask"])
def test_every_kind_of_volume(kind: str, micrograph: Path, tmp_path: Path) -> None:
    expected = segment(micrograph, tmp_path / "e.zarr", k=3, volume=True)
    run = segment(stored(VOLUME, kind, tmp_path), tmp_path / "run.zarr", k=3, volume=True)
    np.testing.assert_array_equal(run.labels()[:], expected.labels()[:])


@pytest.mark.slow
def test_tiles_of_volumes(tmp_path: Path) -> None:
    planes = np.stack([np.roll(fields(1100, 1030, 2), 9 * z, axis=0) for z in range(3)])
    zarr.create_array(tmp_path / "a.zarr", data=planes, dimension_names=["z", "y", "x", "c"])
    whole = segment(tmp_path / "a.zarr", tmp_path / "w.zarr", k=3, volume=True, min_region=20)
    for name, block_mpx in {"planes": 2.4, "tiles": 1.05}.items():
        run = segment(
            tmp_path / "a.zarr", tmp_path / f"{name}.zarr", k=3, volume=True, min_region=20,
            block_mpx=block_mpx,
        )  # fmt: skip
        for level in (0, 1):
            np.testing.assert_array_equal(
                run.labels(level=level)[:], whole.labels(level=level)[:], err_msg=name
            )
    assert whole.labels(level=1).shape == (3, 550, 515)


def test_volumes_are_shown_and_exported(micrograph: Path, tmp_path: Path) -> None:
    run = segment(micrograph, tmp_path / "run.zarr", k=4, volume=True)
    labels = run.labels()[:]
    kmdist.export(run, tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out" / "cells.ome.tif") as tiff:
        assert tiff.series[0].axes == "ZYX"
        np.testing.assert_array_equal(tiff.series[0].asarray(), labels)
    shown = np.asarray(Image.open(tmp_path / "out" / "cells.png"))
    np.testing.assert_array_equal(shown, labels[10])
    for command, output in {"view": "v.png", "report": "r.html", "info": ""}.items():
        words = ["-o", str(tmp_path / output)] if output else []
        done = CliRunner().invoke(cli, [command, str(run.path), *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert dict(run.to_xarray("cells.zarr").sizes) == {"z": 20, "y": 60, "x": 52}
    with pytest.raises(UsageError, match="is a volume"):
        kmdist.extract(run, "cells.zarr", tmp_path / "cut.png", clusters=[1])


def test_what_is_no_volume_is_told(micrograph: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without z"):
        segment(micrograph, tmp_path / "r.zarr", k=2, volume=True, z=3)
    np.save(tmp_path / "a.npy", VOLUME)
    with pytest.raises(KmdistError, match="--channel-axis"):
        segment(tmp_path / "a.npy", tmp_path / "r.zarr", k=2, volume=True)
    run = segment(tmp_path / "a.npy", tmp_path / "r.zarr", k=2, volume=True, channel_axis=3)
    assert run.labels().shape == (20, 60, 52)
    tifffile.imwrite(tmp_path / "b.tif", VOLUME[0], photometric="minisblack", planarconfig="contig")
    with pytest.raises(KmdistError, match="without z"):
        segment(tmp_path / "b.tif", tmp_path / "s.zarr", k=2, volume=True)
    with pytest.raises(KmdistError, match="segment"):
        kmdist.quantize(micrograph, tmp_path / "q.zarr", k=2)
