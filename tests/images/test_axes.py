"""Axes that have names are what the names say, wherever arrays are read as pictures."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from kmdist.errors import ImageError
from kmdist.images import Found, decode, probe

BYTES = np.arange(3 * 60 * 64, dtype=np.uint16).reshape(3, 60, 64).astype(np.uint8)


@pytest.mark.parametrize("names", [("z", "y", "x"), ("t", "y", "x"), ("time", "lat", "lon")])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_planes_are_no_colours(names: tuple[str, ...], zarr_format: int, tmp_path: Path) -> None:
    named = {"dimension_names": names}
    if zarr_format == 2:
        named = {"attributes": {"_ARRAY_DIMENSIONS": list(names)}}
    zarr.create_array(tmp_path / "a.zarr", data=BYTES, zarr_format=zarr_format, **named)
    with pytest.raises(ImageError, match="kmdist segment"):
        probe(Found("a", str(tmp_path / "a.zarr")))


def test_names_say_where_the_colours_are(tmp_path: Path) -> None:
    turned = BYTES.transpose(2, 0, 1)
    zarr.create_array(tmp_path / "a.zarr", data=turned, dimension_names=("x", "c", "y"))
    source = probe(Found("a", str(tmp_path / "a.zarr")))
    np.testing.assert_array_equal(decode(source), np.moveaxis(BYTES, 0, -1))


def test_a_volume_in_one_page_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, BYTES, photometric="rgb", planarconfig="separate", metadata={"axes": "ZYX"}
    )
    with pytest.raises(ImageError, match="kmdist segment"):
        probe(Found("a", str(path)))


@pytest.mark.parametrize(("label", "allowed"), [("Cy5", False), ("alpha", True), ("", True)])
def test_a_fourth_channel_is_alpha_unless_it_has_another_name(
    label: str, allowed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.zarr"
    channels = [{"label": one} for one in ("DAPI", "GFP", "RFP", label)]
    axes = [{"name": axis} for axis in "cyx"]
    group = zarr.create_group(
        path,
        attributes={
            "ome": {
                "version": "0.5",
                "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}],
                "omero": {"channels": channels},
            }
        },
    )
    group.create_array("0", data=np.zeros((4, 60, 64), np.uint8))
    found = Found("a", str(path))
    if allowed:
        assert probe(found).channels == 4
    else:
        with pytest.raises(ImageError, match=r"'Cy5'.*kmdist segment"):
            probe(found)


def test_channels_that_are_pages_are_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, BYTES, photometric="minisblack", metadata={"axes": "CYX"}, ome=True)
    with pytest.raises(ImageError, match="kmdist segment"):
        probe(Found("a", str(path)))
