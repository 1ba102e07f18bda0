"""A run opens in the readers that people use, and says the same in each."""

import hashlib
import json
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05.image_label import ImageLabel

from kmdist.errors import UsageError
from kmdist.store import RunWriter, open_run
from kmdist.store.format import layout
from kmdist.store.format.names import name_of_key
from tests.support.writing import released

PALETTE = np.random.default_rng(1).integers(0, 256, (7, 3), dtype=np.uint8)
LARGE, SMALL, CLEAR = "images/a=2Flarge.png", "images/small.jpg", "images/clear.png"
ZARRITA = ("zarrita@0.7", "@zarrita/storage@0.2")


@pytest.fixture(scope="module", params=["one k", "several k"])
def run(request, tmp_path_factory):
    """A run with a pyramid, shards, a marker; of one k, and of several."""
    several = request.param == "several k"
    path = tmp_path_factory.mktemp("readers") / "r.zarr"
    random = np.random.default_rng(0)
    maps = {
        "a/large.png": random.integers(0, 7, (1300, 2100), dtype=np.uint8),
        "small.jpg": random.integers(0, 7, (30, 40), dtype=np.uint8),
        "clear.png": random.integers(0, 7, (50, 60), dtype=np.uint8),
    }
    writer = RunWriter.create(
        path, recipe="quantize", parameters={}, fingerprint="f", images=list(maps)
    )
    prefixes = ["k7", "k9"] if several else [""]
    expected = {}
    for prefix in prefixes:
        base = f"{prefix}/" if prefix else ""
        palette = np.resize(PALETTE, (9, 3)) if prefix == "k9" else PALETTE
        for name, labels in maps.items():
            mask = labels == 3 if name == "clear.png" else None
            writer.write_labels(
                name, labels, k=len(palette), palette=palette, unclustered=mask, prefix=prefix
            )
            stored = labels if mask is None else np.where(mask, np.uint8(255), labels)
            key = f"{base}{writer.image_group(name)}/labels/kmeans"
            for level in range(3 if name == "a/large.png" else 1):
                expected[f"{key}/s{level}/labels"] = stored[:: 2**level, :: 2**level]
        shape = (70, 90, 4)
        responses = writer.create_array(
            f"{base}{LARGE}/responses",
            shape,
            "f4",
            chunks=(16, 16, 4),
            shards=(32, 32, 4),
            dimension_names=("response_y", "response_x", "filter"),
        )
        values = random.random(shape, dtype=np.float32)
        writer.write_region(responses, (0, 0, 0), values)
        expected[responses.key] = values
        small = {
            "centroids": (palette.astype(np.float32), ("cluster", "feature")),
            "palette": (palette, ("cluster", "channel")),
            "counts": (np.arange(len(palette)), ("cluster",)),
            "history": (np.ones((4, 3)), ("iteration", "measure")),
        }
        for key, (array, names) in small.items():
            writer.write_array(base + key, array, names)
            expected[base + key] = array
    if several:
        writer.write_array("k", [7, 9], ("k",))
        expected["k"] = np.array([7, 9])
        writer.publish({}, runs={7: {}, 9: {}})
    else:
        writer.publish({"k": 7})
    return path, expected, "k7/" if several else ""


@pytest.mark.slow
def test_zarr_python(run):
    path, expected, base = run
    for consolidated in (True, False):
        root = zarr.open_group(path, mode="r", use_consolidated=consolidated)
        members = root.members(max_depth=None)
        arrays = {key for key, node in members if isinstance(node, zarr.Array)}
        assert arrays == set(expected)
        for key, array in expected.items():
            assert root[key].dtype == array.dtype
            np.testing.assert_array_equal(root[key][...], array)
    assert root[base + LARGE].attrs["source"] == "a/large.png"


def test_consolidated_metadata_are_what_zarr_python_would_write(run, tmp_path):
    path, _expected, _base = run
    copy = tmp_path / "copy.zarr"
    shutil.copytree(path, copy)
    ours = zarr.open_group(copy, mode="r").metadata.consolidated_metadata
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(copy)
    theirs = zarr.open_group(copy, mode="r").metadata.consolidated_metadata
    assert ours.flattened_metadata == theirs.flattened_metadata


def test_xarray(run):
    path, expected, base = run
    tree = xr.open_datatree(path, engine="zarr")
    for key, array in expected.items():
        group, _, name = f"/{key}".rpartition("/")
        found = (tree[group] if group else tree)[name]
        np.testing.assert_array_equal(found.values, array)
    labels = tree[f"{base}{LARGE}/labels/kmeans/s1/labels"]
    assert labels.dims == ("y", "x")
    assert labels.dtype == np.uint8


def test_xarray_opens_one_group(run):
    path, expected, base = run
    group = f"{base}{SMALL}/labels/kmeans/s0"
    data = xr.open_zarr(path, group=group, consolidated=False)
    np.testing.assert_array_equal(data["labels"].values, expected[f"{group}/labels"])


def test_ome_zarr_models(run):
    path, _expected, base = run
    for image in (LARGE, SMALL, CLEAR):
        label = ImageLabel.from_zarr(
            zarr.open_group(path / f"{base}{image}/labels/kmeans", mode="r")
        )
        ome = label.attributes.ome
        assert ome.version == "0.5"
        colors = {color.label_value: tuple(color.rgba) for color in ome.image_label.colors}
        expected = {i: (*color, 255) for i, color in enumerate(PALETTE.tolist())}
        if image == CLEAR:
            expected[255] = (0, 0, 0, 0)
        assert colors == expected


@pytest.mark.parametrize("k", [2, 256, 300])
@pytest.mark.parametrize("colored", [True, False])
@pytest.mark.parametrize("marked", [True, False])
def test_labels_of_any_k_are_valid_ome_zarr(tmp_path, k, colored, marked):
    labels = np.arange(35).reshape(5, 7) % k
    palette = np.zeros((k, 3), np.uint8) if colored else None
    path = tmp_path / "r.zarr"
    with released(
        RunWriter.create(path, recipe="texture", parameters={}, fingerprint="f", images=["a"])
    ) as writer:
        writer.write_labels("a", labels, k=k, palette=palette, marked=marked)
        writer.publish({"k": k})
    label = ImageLabel.from_zarr(zarr.open_group(path / "images/a/labels/kmeans", mode="r"))
    colors = label.attributes.ome.image_label.colors or ()
    assert len(colors) == (k if colored and k <= 256 else 0) + marked
    (node,) = Reader(parse_url(path / "images/a/labels/kmeans"))()
    np.testing.assert_array_equal(node.data[0].compute(), labels)


def test_ome_zarr_py(run):
    path, expected, base = run
    for image, levels in ((LARGE, 3), (SMALL, 1)):
        (node,) = Reader(parse_url(path / f"{base}{image}/labels/kmeans"))()
        assert len(node.data) == levels
        for level, data in enumerate(node.data):
            array = expected[f"{base}{image}/labels/kmeans/s{level}/labels"]
            np.testing.assert_array_equal(data.compute(), array)
        scales = [step[0]["scale"] for step in node.metadata["coordinateTransformations"]]
        assert scales == [[2.0**level] * 2 for level in range(levels)]
        name = name_of_key(image.removeprefix("images/"))
        with pytest.raises(UsageError, match=f"levels 0 to {levels - 1}$"):
            open_run(path / base).images[name].labels(level=levels)


@pytest.mark.slow
def test_zarrita(run, request):
    path, expected, _base = run
    folder = zarrita_folder(request.config.cache.mkdir("zarrita"))
    # A module resolves its imports from where it lies.
    script = shutil.copy(Path(__file__).with_name("read_run.mjs"), folder)
    done = subprocess.run(
        ["node", script, str(path), *expected],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == "complete"
    for key, array in expected.items():
        assert found["arrays"][key] == {
            "shape": list(array.shape),
            "sha256": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest(),
        }


def zarrita_folder(folder):
    """Install zarrita once, 5 MB, into pytest's cache; skip without Node or network."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed")
    if (folder / "node_modules/zarrita").is_dir() and (folder / "complete").exists():
        return folder
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *ZARRITA]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, cwd=folder
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm install zarrita took more than two minutes")
    if done.returncode != 0:
        pytest.skip(f"npm could not install zarrita: {done.stderr.strip()[-300:]}")
    (folder / "complete").touch()
    return folder


def test_the_layout_constants_are_those_of_the_format():
    assert (layout.CHUNK, layout.SHARD, layout.SHARD_ABOVE) == (1024, 8192, 16_384)
    assert layout.ZSTD_LEVEL == 3
