"""A run in a notebook, in xarray and in napari."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from PIL import Image

import kmdist
from kmdist.pages.napari import get_reader

EVIL = "<b>.png"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    (folder / "in/sub").mkdir(parents=True)
    for name in (EVIL, "sub/b.png"):
        Image.fromarray(rng.integers(0, 255, (33, 47, 3), np.uint8)).save(folder / "in" / name)
    kmdist.quantize(folder / "in", folder / "one.zarr", k=4, workers=1)
    kmdist.quantize(folder / "in", folder / "two.zarr", k=[2, 3], workers=1)
    kmdist.digits("sample:digits", folder / "digits.zarr", k=3, preset="raw", workers=1)
    return folder


@pytest.mark.parametrize("name", ["one", "two", "digits"])
def test_what_a_notebook_shows_is_small_and_escaped(runs: Path, name: str) -> None:
    text = kmdist.open_run(runs / f"{name}.zarr")._repr_html_()
    assert len(text) < 200_000
    assert EVIL not in text
    assert ("&lt;b&gt;.png" in text) == (name != "digits")


def test_labels_with_named_dimensions(runs: Path) -> None:
    run = kmdist.open_run(runs / "one.zarr")
    tree = run.to_xarray()
    for name in run.images:
        array = tree[f"{name}/labels"]
        assert array.dims == ("y", "x")
        assert array.chunks is not None
        assert np.array_equal(array, run.labels(name)[:])
        assert np.array_equal(run.to_xarray(name), run.labels(name)[:])
    several = kmdist.open_run(runs / "two.zarr")
    found = several.to_xarray()["k3/sub/b.png/labels"]
    assert np.array_equal(found, several.runs[3].labels("sub/b.png")[:])
    digits = kmdist.open_run(runs / "digits.zarr")
    assert isinstance(digits.to_xarray(), xarray.DataArray)
    assert digits.to_xarray().dims == ("image",)
    with pytest.raises(kmdist.UsageError, match="no image"):
        run.to_xarray("none.png")


def test_plots_are_in_the_colours_of_the_clusters(runs: Path) -> None:
    run = kmdist.open_run(runs / "one.zarr")
    _, axes = plt.subplots()
    assert run.plot(EVIL, axes) is axes
    assert np.array_equal(axes.images[0].get_array(), run.palette[run.labels(EVIL)[:]])
    assert kmdist.open_run(runs / "digits.zarr").plot().axes
    plt.close("all")


def test_napari_gets_images_labels_and_colours(runs: Path) -> None:
    reader = get_reader(str(runs / "one.zarr"))
    image, labels, *_ = reader("")
    run = kmdist.open_run(runs / "one.zarr")
    assert [image[2], labels[2]] == ["image", "labels"]
    assert image[0].shape == (33, 47, 3)
    expected = run.labels(EVIL)[:].astype(int) + 1
    assert np.array_equal(labels[0][0].compute(), expected)
    assert np.allclose(labels[1]["colormap"][2][:3], run.palette[1] / 255)
    assert get_reader(str(runs)) is None
    assert get_reader(["a", "b"]) is None
