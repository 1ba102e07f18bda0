"""New photographs with an old palette: right, complete, the same bytes however it runs."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import kmdist
from kmdist.cli import cli
from kmdist.errors import ImageError, UsageError
from kmdist.recipes.predict import predict
from kmdist.store import Run
from tests.support.runs import bytes_of, recomputed_inertia


@pytest.fixture
def model(photographs: Path, tmp_path: Path) -> Run:
    return kmdist.quantize(photographs, tmp_path / "model.zarr", k=9, workers=2)


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Other photographs than those of the model; one has transparent pixels, two are tiled."""
    folder = tmp_path / "others"
    folder.mkdir()
    random = np.random.default_rng(5)
    for i in range(5):
        pixels = random.integers(0, 256, (30 + i, 40, 4 if i == 2 else 3), np.uint8)
        if i == 2:
            pixels[:9, :, 3], pixels[9:, :, 3] = 0, 255
        cv2.imwrite(str(folder / f"{i}.png"), pixels)
    for name, channels in (("tiled.tif", 3), ("tiled-alpha.tif", 4)):
        tiled = random.integers(0, 256, (1500, 2100, channels), np.uint8)
        if channels == 4:
            tiled[..., 3] = 255
            tiled[1200:, 1100:, 3] = 0
        extra = ["unassalpha"] if channels == 4 else []
        path = folder / name
        tifffile.imwrite(path, tiled, tile=(512, 512), photometric="rgb", extrasamples=extra)
    return folder


def nearest(pixels: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    difference = pixels[..., None, :].astype(np.float64) - centroids.astype(np.float64)
    return (difference**2).sum(axis=-1).argmin(axis=-1)


@pytest.mark.slow
def test_labels_are_nearest_centroids_and_figures_are_exact(
    model: Run, others: Path, tmp_path: Path
) -> None:
    run = predict(model, others, tmp_path / "new.zarr", workers=2, block_mpx=1.0)
    assert sorted(run.images) == sorted(path.name for path in others.iterdir())
    np.testing.assert_array_equal(run.centroids, model.centroids)
    np.testing.assert_array_equal(run.palette, model.palette)
    for path in others.glob("[0-9].png"):
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        expected = nearest(pixels[..., 2::-1], model.centroids)
        if pixels.shape[2] == 4:
            expected[pixels[..., 3] == 0] = 255
        np.testing.assert_array_equal(run.labels(path.name)[:], expected)
    whole = run.labels("tiled.tif")[:]
    np.testing.assert_array_equal(
        whole, nearest(tifffile.imread(others / "tiled.tif"), model.centroids)
    )
    np.testing.assert_array_equal(run.labels("tiled.tif", level=1)[:], whole[::2, ::2])
    assert np.all(run.labels("tiled-alpha.tif")[1200:, 1100:] == 255)
    assert run.image("tiled-alpha.tif").unclustered == 255
    assert run.image("tiled.tif").unclustered is None
    counts = sum(np.bincount(run.labels(n)[:].ravel(), minlength=256)[:9] for n in run.images)
    np.testing.assert_array_equal(run.counts, counts)
    (others / "tiled.tif").unlink(), (others / "tiled-alpha.tif").unlink()
    small = predict(model, others, tmp_path / "small.zarr")
    assert small.inertia == pytest.approx(recomputed_inertia(small, others), rel=1e-12)


def test_its_own_photographs_get_their_labels_back(
    model: Run, photographs: Path, tmp_path: Path
) -> None:
    run = predict(model, photographs, tmp_path / "again.zarr")
    for name in model.images:
        np.testing.assert_array_equal(run.labels(name)[:], model.labels(name)[:])
    np.testing.assert_array_equal(run.counts, model.counts)
    assert run.inertia == pytest.approx(model.inertia, rel=1e-12)
    assert run.parameters["model"]["fingerprint"] == model.attributes["fingerprint"]
    assert run.recipe == "quantize"
    assert run.info()["stop_reason"] == "predicted"


@pytest.mark.slow
def test_the_same_bytes_however_it_runs(model: Run, others: Path, tmp_path: Path) -> None:
    first = predict(model, others, tmp_path / "a.zarr", workers=1, block_mpx=1.0)
    second = predict(model, others, tmp_path / "b.zarr", workers=3, block_mpx=1.0)
    third = predict(
        model, others, tmp_path / "c.zarr", workers=2, worker_kind="process", block_mpx=1.0
    )
    expected = bytes_of(tmp_path / "a.zarr")
    assert bytes_of(tmp_path / "b.zarr") == expected
    assert bytes_of(tmp_path / "c.zarr") == expected
    assert first.inertia == second.inertia == third.inertia


@pytest.mark.slow
def test_resume_gives_the_same_bytes(
    model: Run, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kmdist.recipes.quantize import model as labelling

    calls: list[str] = []
    stop_at = 0
    decode = labelling.decode_piece

    def failing(*arguments: Any) -> object:
        calls.append("")
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return decode(*arguments)

    monkeypatch.setattr(labelling, "decode_piece", failing)
    predict(model, others, tmp_path / "a.zarr", workers=1, block_mpx=1.0)
    n_decoded = len(calls)
    calls.clear()
    stop_at = n_decoded - 3
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        predict(
            model,
            others,
            tmp_path / "b.zarr",
            workers=1,
            block_mpx=1.0,
            watch=lambda event: said.append(str(event)),
        )
    assert not (tmp_path / "b.zarr").exists()
    assert any("kmdist predict" in line and "--resume" in line for line in said)
    calls.clear()
    predict(model, others, tmp_path / "b.zarr", workers=1, block_mpx=1.0, resume=True)
    assert bytes_of(tmp_path / "b.zarr") == bytes_of(tmp_path / "a.zarr")
    assert len(calls) < n_decoded / 2


@pytest.mark.slow
def test_bad_files_are_left_out_and_strict_stops(model: Run, others: Path, tmp_path: Path) -> None:
    whole = (others / "0.png").read_bytes()
    (others / "broken.png").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray((others / "tiled.tif").read_bytes())
    compressed = others / "deflate.tif"
    pixels = np.random.default_rng(1).integers(0, 9, (1100, 2100, 3), np.uint8)
    tifffile.imwrite(compressed, pixels, tile=(512, 512), photometric="rgb", compression="zlib")
    damaged = bytearray(compressed.read_bytes())
    middle = len(damaged) * 3 // 4
    damaged[middle : middle + 4000] = bytes(4000)
    compressed.write_bytes(damaged)
    run = predict(model, others, tmp_path / "new.zarr", workers=1, block_mpx=1.0)
    assert {one["image"] for one in run.attributes["rejected"]} == {"broken.png", "deflate.tif"}
    assert "deflate.tif" not in run.images
    assert len(run.images) == 7
    good = tmp_path / "good"
    shutil.copytree(others, good, ignore=shutil.ignore_patterns("broken.png", "deflate.tif"))
    alone = predict(model, good, tmp_path / "good.zarr", workers=1, block_mpx=1.0)
    np.testing.assert_array_equal(run.counts, alone.counts)
    assert run.inertia == pytest.approx(alone.inertia, rel=1e-12)
    result = CliRunner().invoke(
        cli, ["predict", str(model.path), str(others), "-o", str(tmp_path / "s.zarr"), "--strict"]
    )
    assert result.exit_code == 1
    assert "--strict" in result.output
    assert not list(tmp_path.glob("*s.zarr*"))


def test_models_without_one_palette_are_refused(photographs: Path, tmp_path: Path) -> None:
    each = kmdist.quantize(photographs, tmp_path / "each.zarr", k=3, shared=False)
    with pytest.raises(UsageError, match="palette for each image"):
        predict(each, photographs, tmp_path / "n.zarr")
    with pytest.raises(UsageError, match="each image has its own"):
        each.predict(photographs / "0.png")
    several = kmdist.quantize(photographs, tmp_path / "many.zarr", k=(2, 5))
    with pytest.raises(UsageError, match=r"many\.zarr/k5"):
        predict(several, photographs, tmp_path / "n.zarr")
    with pytest.raises(UsageError, match="several k"):
        several.predict(photographs / "0.png")
    assert predict(several.path / "k5", photographs, tmp_path / "n.zarr").k == 5


def test_in_memory(model: Run, photographs: Path) -> None:
    path = photographs / "transparent.png"
    expected = model.labels("transparent.png")[:]
    np.testing.assert_array_equal(model.predict(path), expected)
    rgba = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
    np.testing.assert_array_equal(model.predict(rgba), expected)
    first, second = model.predict([str(path), rgba])
    np.testing.assert_array_equal(first, second)
    named = model.predict(kmdist.open_images([photographs]))
    assert set(named) == set(model.images)
    for name, labels in named.items():
        np.testing.assert_array_equal(labels, model.labels(name)[:])
    grey = np.array([[0, 200]], np.uint8)
    expected = nearest(np.repeat(grey[..., None], 3, axis=2), model.centroids)
    np.testing.assert_array_equal(model.predict(grey), expected)
    assert np.all(model.predict(np.zeros((2, 2, 4), np.uint8)) == 255)
    with pytest.raises(UsageError, match="received shape"):
        model.predict(np.zeros((2, 2, 5), np.uint8))
    with pytest.raises(ImageError, match=r"gone\.png"):
        model.predict(photographs / "gone.png")


def test_other_spaces(photographs: Path, tmp_path: Path) -> None:
    model = kmdist.quantize(photographs, tmp_path / "lab.zarr", k=6, space="lab")
    run = predict(model, photographs, tmp_path / "again.zarr")
    for name in model.images:
        np.testing.assert_array_equal(run.labels(name)[:], model.labels(name)[:])
    np.testing.assert_array_equal(model.predict(photographs / "0.png"), model.labels("0.png")[:])
