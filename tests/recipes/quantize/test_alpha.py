"""Palettes with alpha, and what transparency shows without: right by definition, the same bytes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from click.testing import CliRunner
from PIL import Image
from sklearn.cluster import KMeans

import kmdist
from kmdist.cli import cli
from kmdist.errors import UsageError
from kmdist.images.color import SPACES, alpha_from_space, alpha_to_space, over_black_and_white
from kmdist.pictures.export import export
from kmdist.pictures.extract import extract
from kmdist.pictures.view import view
from kmdist.recipes.quantize.wanted import read_palette
from tests.support.runs import bytes_of


@pytest.fixture
def shadow(tmp_path: Path) -> Path:
    """A red disc with a soft black shadow on nothing, as icons have; 4 rows of glass."""
    y, x = np.mgrid[:60, :90]
    picture = np.zeros((60, 90, 4), np.uint8)
    picture[..., 3] = np.clip(255 - 6 * np.hypot(y - 30, x - 60), 0, 255)
    picture[np.hypot(y - 30, x - 30) < 20] = (200, 40, 20, 255)
    picture[56:] = (10, 200, 250, 128)
    folder = tmp_path / "icons"
    folder.mkdir()
    Image.fromarray(picture).save(folder / "shadow.png")
    return folder


def pixels_of(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGBA"))


def visible(rgba: np.ndarray) -> np.ndarray:
    """(n, 6) colours over black and over white, by Pillow."""
    picture = Image.fromarray(rgba.reshape(1, -1, 4))
    papers = [Image.new("RGBA", picture.size, paper) for paper in ("black", "white")]
    shown = [np.array(Image.alpha_composite(paper, picture).convert("RGB")) for paper in papers]
    return np.concatenate(shown, axis=2).reshape(-1, 6).astype(float)


def test_each_colour_with_its_alpha_is_found(tmp_path: Path) -> None:
    colors = [(255, 0, 0, 255), (255, 0, 0, 100), (0, 0, 0, 1), (9, 200, 77, 254), (5, 5, 5, 0)]
    counts = [5, 4, 3, 2, 6]
    row = np.repeat(np.array(colors, np.uint8), counts, axis=0)[None]
    Image.fromarray(row).save(tmp_path / "a.png")
    run = kmdist.quantize(tmp_path / "a.png", tmp_path / "r.zarr", k=4, alpha=True)
    palette = run.palette
    assert palette is not None
    assert palette[[0, 1, 3]].tolist() == [list(color) for color in (*colors[:2], colors[3])]
    assert palette[2, 3] == 1  # of so little alpha the colour cannot be told
    assert run.labels("a.png")[0].tolist() == np.repeat([0, 1, 2, 3, 255], counts).tolist()
    assert run.inertia == pytest.approx(0, abs=1e-6)


def test_objective_is_that_of_kmeans_over_black_and_white(shadow: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(shadow, tmp_path / "r.zarr", k=6, alpha=True, n_init=2, tol=0)
    rgba = pixels_of(shadow / "shadow.png").reshape(-1, 4)
    points = over_black_and_white(rgba[rgba[:, 3] > 0])
    theirs = KMeans(6, n_init=4, random_state=0, tol=0).fit(points)
    assert run.inertia is not None
    assert run.inertia <= theirs.inertia_ / 2 * 1.001
    labels = run.labels("shadow.png")[:].ravel()
    assert run.centroids is not None
    differences = points - run.centroids[labels[labels < 255]]
    assert run.inertia == pytest.approx((differences**2).sum() / 2, rel=1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_spaces_give_colours_back(space: str) -> None:
    rgba = np.random.default_rng(1).integers(0, 256, (500, 4), np.uint8)
    rgba[:, 3] = np.maximum(rgba[:, 3], 20)
    found = alpha_from_space(alpha_to_space(rgba, space), space)
    assert np.abs(visible(found) - visible(rgba)).max() <= 2
    np.testing.assert_allclose(alpha_to_space(rgba, "rgb"), visible(rgba), atol=1)


def test_opaque_pictures_get_the_palette_they_get_without(
    photographs: Path, tmp_path: Path
) -> None:
    plain = kmdist.quantize(photographs / "0.png", tmp_path / "p.zarr", k=9)
    run = kmdist.quantize(photographs / "0.png", tmp_path / "r.zarr", k=9, alpha=True)
    assert plain.palette is not None
    assert run.palette is not None
    np.testing.assert_array_equal(run.palette[:, :3], plain.palette)
    assert (run.palette[:, 3] == 255).all()
    assert run.inertia == plain.inertia
    np.testing.assert_array_equal(run.labels("0.png")[:], plain.labels("0.png")[:])


def test_exported_png_is_indexed_with_alpha(shadow: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(shadow, tmp_path / "r.zarr", k=7, alpha=True)
    (row,) = export(run, tmp_path / "out")
    picture = Image.open(tmp_path / "out" / "shadow.png")
    assert picture.mode == "P"
    shown, original = pixels_of(tmp_path / "out/shadow.png"), pixels_of(shadow / "shadow.png")
    labels = run.labels("shadow.png")[:]
    assert run.palette is not None
    np.testing.assert_array_equal(shown[labels < 7], run.palette[labels[labels < 7]])
    assert (shown[labels == 255] == 0).all()
    error = np.square(visible(shown[labels < 7]) - visible(original[labels < 7])).mean()
    assert row.psnr_db == pytest.approx(10 * np.log10(255**2 / error), abs=0.05)
    listed = json.loads((tmp_path / "out/palette.json").read_text())["palette"]
    assert [[*one["rgb"], one["alpha"]] for one in listed] == run.palette.tolist()
    assert listed[0]["hex"] == "#{:02x}{:02x}{:02x}{:02x}".format(*run.palette[0])
    np.testing.assert_array_equal(read_palette(tmp_path / "out/palette.json"), run.palette)
    strip = pixels_of(tmp_path / "out/palette.png")
    np.testing.assert_array_equal(strip[16, 16::32], run.palette)
    with pytest.raises(UsageError, match="alpha"):
        export(run, tmp_path / "dithered", dither=True)
    assert not (tmp_path / "dithered").exists()


def test_more_colours_than_an_index_holds_keep_alpha(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    run = kmdist.quantize(tmp_path / "a.png", tmp_path / "r.zarr", k=256, alpha=True)
    export(run, tmp_path / "out")
    shown, labels = pixels_of(tmp_path / "out/a.png"), run.labels("a.png")[:]
    there = rgba[..., 3] > 0
    assert run.palette is not None
    np.testing.assert_array_equal(shown[there], run.palette[labels[there]])
    assert (shown[~there] == 0).all()


def test_cutouts_and_pictures_keep_alpha(shadow: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(shadow, tmp_path / "r.zarr", k=5, alpha=True)
    original = pixels_of(shadow / "shadow.png")
    cut = extract(run, "shadow.png", tmp_path / "cut.png", at=[(5, 58), (62, 30)])
    kept = np.isin(run.labels("shadow.png")[:], cut.clusters)
    shown = pixels_of(tmp_path / "cut.png")
    np.testing.assert_array_equal(shown[kept], original[kept])
    assert (shown[~kept] == 0).all()
    assert kept.sum() == cut.n_kept
    for image in (None, "shadow.png"):
        assert Image.open(view(run, tmp_path / "v.png", image=image)).size[0] > 100
    (shadow / "shadow.png").unlink()
    extract(run, "shadow.png", tmp_path / "gone.png", clusters=cut.clusters)
    assert run.palette is not None
    labels = run.labels("shadow.png")[:]
    np.testing.assert_array_equal(pixels_of(tmp_path / "gone.png")[kept], run.palette[labels[kept]])


def test_labels_are_the_same_however_they_are_made(shadow: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(shadow, tmp_path / "r.zarr", k=5, alpha=True)
    labels = run.labels("shadow.png")[:]
    np.testing.assert_array_equal(run.predict(shadow / "shadow.png"), labels)
    np.testing.assert_array_equal(run.predict(pixels_of(shadow / "shadow.png")), labels)
    predicted = kmdist.predict(run, shadow, tmp_path / "p.zarr")
    np.testing.assert_array_equal(predicted.labels("shadow.png")[:], labels)
    np.testing.assert_array_equal(predicted.palette, run.palette)
    assert predicted.inertia == pytest.approx(run.inertia)
    each = kmdist.quantize(shadow, tmp_path / "e.zarr", k=5, alpha=True, shared=False)
    np.testing.assert_array_equal(each.labels("shadow.png")[:], labels)
    np.testing.assert_array_equal(each.image("shadow.png").palette, run.palette)
    several = kmdist.quantize(shadow, tmp_path / "s.zarr", k=(2, 5), alpha=True)
    np.testing.assert_array_equal(several.runs[5].labels("shadow.png")[:], labels)
    exported = export(predicted, tmp_path / "out")  # as what it was made of clustered
    assert exported[0].psnr_db == pytest.approx(export(run, tmp_path / "o2")[0].psnr_db)


@pytest.mark.slow
@pytest.mark.parametrize("keep_pixels", ["never", "always"])
def test_tiles_give_the_bytes_of_the_whole(tmp_path: Path, keep_pixels: str) -> None:
    rgba = np.random.default_rng(0).integers(0, 4, (1500, 1100, 4), np.uint8) * np.uint8(85)
    tifffile.imwrite(
        tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"], rowsperstrip=64
    )
    runs = [
        kmdist.quantize(
            tmp_path / "a.tif",
            tmp_path / f"{block_mpx}.zarr",
            k=20,
            alpha=True,
            block_mpx=block_mpx,
            keep_pixels=keep_pixels,
        )
        for block_mpx in (0.5, 16)
    ]
    tiled, whole = (run.labels("a.tif")[:] for run in runs)
    np.testing.assert_array_equal(tiled, whole)
    np.testing.assert_array_equal(whole == 255, rgba[..., 3] == 0)
    np.testing.assert_array_equal(runs[0].palette, runs[1].palette)


def test_same_bytes_twice_and_resumed(shadow: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        kmdist.quantize(shadow, tmp_path / f"{name}.zarr", k=5, alpha=True, space="oklab")
    assert bytes_of(tmp_path / "a.zarr") == bytes_of(tmp_path / "b.zarr")


def test_sixteen_bits_of_alpha(tmp_path: Path) -> None:
    bgra = np.full((2, 8, 4), 65535, np.uint16)
    bgra[0, :, 3] = [0, 1, 100, 257, 32896, 65278, 65535, 65535]
    cv2.imwrite(str(tmp_path / "deep.png"), bgra)
    run = kmdist.quantize(tmp_path / "deep.png", tmp_path / "r.zarr", k=8, alpha=True)
    labels = run.labels("deep.png")[:]
    assert run.palette is not None
    alpha = np.append(run.palette[:, 3], np.zeros(256 - run.k))[labels[0]]
    assert alpha.tolist() == [0, 1, 1, 1, 128, 254, 255, 255]
    assert (labels == 255).sum() == 1


@pytest.mark.parametrize(
    ("background", "shown"),
    [("white", (255, 128, 128)), ("#000", (128, 0, 0)), ("#00ff00", (128, 127, 0))],
)
def test_transparency_shows_the_background(
    tmp_path: Path, background: str, shown: tuple[int, ...]
) -> None:
    row = np.array([[(255, 0, 0, 128)] * 3 + [(7, 7, 7, 0)]], np.uint8)
    Image.fromarray(row).save(tmp_path / "a.png")
    spec = {"recipe": "quantize", "input": str(tmp_path / "a.png"), "k": 1}
    spec |= {"output": str(tmp_path / "r.zarr"), "background": background}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(spec))
    done = CliRunner().invoke(cli, ["run", str(tmp_path / "job.yaml")])
    assert done.exit_code == 0, done.output
    run = kmdist.open_run(tmp_path / "r.zarr")
    assert run.palette is not None
    np.testing.assert_allclose(run.palette[0].astype(int), shown, atol=1)
    assert run.labels("a.png")[0].tolist() == [0, 0, 0, 255]
    assert run.parameters["background"] in done.output  # what was laid under is said
    assert run.predict(tmp_path / "a.png")[0].tolist() == [0, 0, 0, 255]
    (row_of_table,) = export(run, tmp_path / "out")
    assert row_of_table.psnr_db > 45  # compared with what was clustered


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": True, "metric": "manhattan"}, "medians"),
        ({"alpha": True, "background": "black"}, "background"),
        ({"background": "blau"}, "blau"),
        ({"background": "#ffffff80"}, "opaque"),
        ({"alpha": False, "init": np.zeros((3, 4)), "k": 3}, "shape"),
    ],
)
def test_what_does_not_go_together_is_refused(
    shadow: Path, tmp_path: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        kmdist.quantize(shadow, tmp_path / "r.zarr", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "r.zarr").exists()
