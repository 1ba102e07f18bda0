"""Zarr images, and collections as lazy Dask arrays."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr

from kmdist.errors import ImageError
from kmdist.images import Found, ImageSource, Window, decode, find_images, open_images, probe
from tests.support.corpus import encode, encode_tiff, photo

PICTURE = photo(150, 130)


def probe_at(path: Path) -> ImageSource:
    return probe(Found(path.name, str(path)))


def write_ome(path: Path, data: np.ndarray, axes: str, version: str = "0.5") -> None:
    """An OME-Zarr image of one level."""
    kinds = {"t": "time", "c": "channel"}
    scales = [
        {
            "version": version,
            "axes": [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes],
            "datasets": [{"path": "s0"}],
        }
    ]
    attributes: dict[str, Any] = {"multiscales": scales}
    zarr_format = 2 if version == "0.4" else 3
    if zarr_format == 3:
        attributes = {"ome": {"version": version, **attributes}}
    group = zarr.create_group(path, attributes=attributes, zarr_format=zarr_format)
    chunks = tuple(min(n, 64) for n in data.shape)
    group.create_array("s0", data=data, chunks=chunks)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tczyx", "yxc"])
def test_ome_zarr_images(tmp_path: Path, axes: str, version: str) -> None:
    upright = PICTURE if "c" in axes else PICTURE[:, :, :1]
    order = {"y": 0, "x": 1, "c": 2}
    plane = upright if "c" in axes else upright[:, :, 0]
    kept = [axis for axis in axes if axis in order]
    stored = plane.transpose([order[axis] for axis in kept])
    others = [axis for axis in axes if axis not in order]
    for axis in others:
        place = axes.index(axis)
        stored = np.stack([stored, 255 - stored], axis=min(place, stored.ndim))
    write_ome(tmp_path / "a.zarr", stored, axes, version)
    source = probe_at(tmp_path / "a.zarr")
    assert (source.height, source.width, source.channels) == upright.shape
    assert (source.windowed, source.format, source.pages) == (True, "zarr", 2 ** len(others))
    np.testing.assert_array_equal(decode(source), upright)
    np.testing.assert_array_equal(decode(source, Window(60, 3, 140, 70)), upright[60:140, 3:70])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", ["yx", "yxc", "cyx"])
def test_plain_arrays(tmp_path: Path, shape: str, zarr_format: Any) -> None:
    stored = {"yx": PICTURE[:, :, 0], "yxc": PICTURE, "cyx": np.moveaxis(PICTURE, -1, 0)}[shape]
    zarr.create_array(tmp_path / "a.zarr", data=stored.copy(), zarr_format=zarr_format)
    expected = PICTURE[:, :, :1] if shape == "yx" else PICTURE
    np.testing.assert_array_equal(decode(probe_at(tmp_path / "a.zarr")), expected)
    assert [one.name for one in find_images([tmp_path])[0]] == ["a.zarr"]
    assert [one.name for one in find_images([tmp_path / "a.zarr"])[0]] == ["a.zarr"]


def test_runs_are_no_images_unless_named(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "run.zarr", attributes={"kmdist": {}})
    (tmp_path / "a.png").write_bytes(encode(PICTURE, "PNG"))
    assert [one.name for one in find_images([tmp_path])[0]] == ["a.png"]
    (found,), _ = find_images([tmp_path / "run.zarr"])
    with pytest.raises(ImageError, match="name an image within") as caught:
        probe(found)
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize(
    ("shape", "code"),
    [((5,), "unsupported"), ((2, 3, 4, 5), "unsupported"), ((9, 9, 2), "channels")],
)
def test_arrays_that_are_no_images(tmp_path: Path, shape: tuple[int, ...], code: str) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros(shape, np.uint8))
    with pytest.raises(ImageError) as caught:
        probe_at(tmp_path / "a.zarr")
    assert caught.value.code == code


@pytest.mark.parametrize("text", ["{", "[]", '{"node_type": "array"}', '{"node_type": 3}', ""])
def test_damaged_metadata(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / "zarr.json").write_text(text)
    find_images([folder])
    with pytest.raises(ImageError) as caught:
        probe_at(folder)
    assert caught.value.code in ("corrupt", "unsupported")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    large = photo(2_100, 1_500)
    for name, data in {
        "a.jpg": encode(PICTURE, "JPEG"),
        "b.tif": encode_tiff(large, photometric="rgb", tile=(256, 256), compression="zstd"),
        "c.png": encode(PICTURE[:, :, 0], "PNG"),
        "d.jpg": b"broken",
    }.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.slow
def test_a_collection_is_a_mapping_of_lazy_arrays(folder: Path) -> None:
    images = open_images(folder, block_mpx=1.2)
    assert list(images) == ["a.jpg", "b.tif", "c.png"]
    assert len(images) == 3
    assert [(one.image, one.code) for one in images.rejected] == [("d.jpg", "not_image")]
    assert images["c.png"].shape == (150, 130, 1)
    assert images["b.tif"].chunks == ((1024, 1024, 52), (1024, 476), (3,))
    for source in images.sources:
        array = images[source.name]
        assert array.dtype == source.dtype
        np.testing.assert_array_equal(array.compute(scheduler="threads"), decode(source))
    with pytest.raises(KeyError):
        images["d.jpg"]


def test_opening_decodes_nothing_and_a_window_decodes_its_tiles(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kmdist.images import collection

    decoded: list[str] = []

    def counting(source: ImageSource, window: Window | None = None) -> np.ndarray:
        decoded.append(source.name)
        return decode(source, window)

    monkeypatch.setattr(collection, "decode", counting)
    images = open_images(folder, block_mpx=1.2)
    array = images["b.tif"]
    assert decoded == []
    array[:100, :100].compute(scheduler="sync")
    assert decoded == ["b.tif"]


def test_names_of_tasks_depend_on_the_file(folder: Path) -> None:
    first, again = open_images(folder)["a.jpg"], open_images(folder)["a.jpg"]
    assert first.name == again.name
    (folder / "a.jpg").write_bytes(encode(255 - PICTURE, "JPEG"))
    assert open_images(folder)["a.jpg"].name != first.name


def test_same_pixels_in_any_process(folder: Path) -> None:
    sources = [one for one in open_images(folder).sources if one.name != "b.tif"]
    here = [decode(source).tobytes() for source in sources]
    with dask.config.set(scheduler="processes"):
        there = dask.compute(*[dask.delayed(decode)(source) for source in sources])
    assert [pixels.tobytes() for pixels in there] == here
    assert pickle.loads(pickle.dumps(sources)) == sources


def test_importing_images_is_light() -> None:
    code = (
        "import sys, kmdist.images as i; i.find_images, i.plan_blocks;"
        "heavy = {'dask', 'distributed', 'cv2', 'PIL', 'zarr', 'tifffile'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
