"""Exports, cutouts and the figures beside them, against Pillow, scikit-image and the label maps."""

import csv
import io
import json
import shutil
import struct
from pathlib import Path
from unicodedata import normalize

import cv2
import numpy as np
import oxipng
import pytest
from click.testing import CliRunner
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import kmdist
from kmdist.cli import cli
from kmdist.errors import KmdistError, UsageError
from kmdist.pictures import run_pictures as run_images
from kmdist.pictures.export import TABLE_NAME, export, file_stems
from kmdist.pictures.extract import extract, extract_all
from kmdist.pictures.palette_files import write_palette
from kmdist.pictures.png import PngWriter
from kmdist.recipes.quantize.fidelity import Comparison, delta_e_step
from kmdist.recipes.quantize.wanted import read_palette
from kmdist.store import Run


@pytest.fixture
def run(photographs: Path, tmp_path: Path) -> Run:
    return kmdist.quantize(photographs, tmp_path / "r.zarr", k=6)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("n_colors", [1, 2, 3, 16, 17, 256])
@pytest.mark.parametrize("width", [1, 7, 16])
def test_indexed_png_written_in_bands_reads_back(n_colors: int, width: int) -> None:
    random = np.random.default_rng(n_colors)
    palette = random.integers(0, 256, (n_colors, 3), np.uint8)
    indices = random.integers(0, n_colors, (9, width), np.uint8)
    file = io.BytesIO()
    writer = PngWriter(file, width, 9, palette=palette, transparent=n_colors - 1)
    for rows in (indices[:4], indices[4:5], indices[5:]):
        writer.write_rows(rows)
    writer.close()
    picture = Image.open(file)
    assert picture.mode == "P"
    rgba = np.asarray(picture.convert("RGBA"))
    np.testing.assert_array_equal(rgba[..., :3], palette[indices])
    np.testing.assert_array_equal(rgba[..., 3] == 0, indices == n_colors - 1)


def test_exports_are_as_small_as_oxipng_makes_them(run: Run, tmp_path: Path) -> None:
    for row in export(run, tmp_path / "out"):
        data = (tmp_path / "out" / row.file).read_bytes()
        kept = {"bit_depth_reduction": False, "palette_reduction": False}
        assert len(data) <= 1.01 * len(oxipng.optimize_from_memory(data, level=4, **kept))
        labels = run.labels(row.image)[:]
        indices = np.where(labels == run.unclustered, run.k, labels)
        np.testing.assert_array_equal(read(tmp_path / "out" / row.file), indices)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_other_png_written_in_bands_reads_back(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 5, channels), np.uint8)
    file = io.BytesIO()
    writer = PngWriter(file, 5, 8, channels=channels)
    for rows in np.split(pixels, [1, 3]):
        writer.write_rows(rows[..., 0] if channels == 1 else rows)
    writer.close()
    np.testing.assert_array_equal(np.asarray(Image.open(file)).reshape(8, 5, channels), pixels)


def test_png_of_the_wrong_height_is_refused() -> None:
    writer = PngWriter(io.BytesIO(), 2, 3, channels=1)
    writer.write_rows(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="1 rows are missing"):
        writer.close()


@pytest.mark.parametrize("height", [3, 7, 40, 200])
@pytest.mark.parametrize("cuts", [(1 / 3, 1 / 2), (0.02, 0.04, 0.06, 0.08)])
def test_a_comparison_in_bands_is_that_of_the_whole(height: int, cuts: tuple[float, ...]) -> None:
    random = np.random.default_rng(height)
    a = random.integers(0, 256, (height, 50, 3), np.uint8)
    palette = random.integers(0, 256, (40, 3), np.uint8)
    labels = random.integers(0, 40, (height, 50), np.uint8)
    b = palette[labels]
    comparison = Comparison(palette, step=2)
    for rows in np.split(np.arange(height), [int(cut * height) for cut in cuts]):
        comparison.add(a[rows], labels[rows], None)
    means = comparison.means
    assert means.psnr_db == pytest.approx(peak_signal_noise_ratio(a, b), rel=1e-12)
    differences = deltaE_ciede2000(rgb2lab(a), rgb2lab(b))[::2, ::2]
    assert means.delta_e == pytest.approx(differences.mean(), rel=1e-9)
    if height >= 7:
        expected = structural_similarity(a, b, channel_axis=2)
        assert means.ssim == pytest.approx(expected, rel=1e-7)
    else:
        assert np.isnan(means.ssim)


@pytest.mark.parametrize("side", [1, 20])
def test_pixels_that_do_not_count(side: int) -> None:
    a = np.random.default_rng(0).integers(0, 128, (side, side, 3), np.uint8)
    labels, skip = np.arange(side * side).reshape(side, side), np.zeros((side, side), bool)
    palette = a.reshape(-1, 3).copy()
    palette[labels[:, side // 2 :]] ^= 128
    skip[:, side // 2 :] = True
    comparison = Comparison(palette)
    comparison.add(a, labels, skip)
    assert comparison.n_values == 3 * side * (side // 2)
    psnr_db, _, apart = comparison.means
    assert psnr_db == np.inf if side > 1 else np.isnan(psnr_db)
    assert apart == 0 if side > 1 else np.isnan(apart)


def test_pictures_are_the_label_maps(run: Run, photographs: Path, tmp_path: Path) -> None:
    rows = export(run, tmp_path / "out", workers=2)
    assert len(rows) == 7
    for row in rows:
        path = tmp_path / "out" / row.file
        picture = Image.open(path)
        assert picture.mode == "P"
        labels = run.labels(row.image)[:]
        rgba = np.asarray(picture.convert("RGBA"))
        clustered = labels < 6
        np.testing.assert_array_equal(rgba[..., 3] == 255, clustered)
        np.testing.assert_array_equal(rgba[clustered][:, :3], run.palette[labels[clustered]])
        assert row.bytes == path.stat().st_size
        assert row.original_bytes == (photographs / row.image).stat().st_size
        if row.image != "transparent.png":
            original = cv2.imread(str(photographs / row.image))[..., ::-1]
            shown = rgba[..., :3]
            assert row.psnr_db == pytest.approx(peak_signal_noise_ratio(original, shown))
            expected = structural_similarity(original, shown, channel_axis=2)
            assert row.ssim == pytest.approx(expected, rel=1e-7)
            step = delta_e_step(*labels.shape)
            differences = deltaE_ciede2000(rgb2lab(original), rgb2lab(shown))[::step, ::step]
            assert row.delta_e == pytest.approx(differences.mean(), rel=1e-9)
    assert {row.file for row in rows} == {
        "0.png", "2.png", "4.png", "sub/1.png", "sub/3.png", "sub/5.png", "transparent.png",
    }  # fmt: skip
    table = list(csv.DictReader((tmp_path / "out" / TABLE_NAME).open()))
    assert [line["image"] for line in table] == [row.image for row in rows]
    assert float(table[0]["psnr_db"]) == pytest.approx(rows[0].psnr_db, abs=1e-3)


def test_palette_files_read_back(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    for suffix in ("json", "gpl", "css", "ase", "aco"):
        np.testing.assert_array_equal(read_palette(tmp_path / f"out/palette.{suffix}"), run.palette)
    entries = json.loads((tmp_path / "out/palette.json").read_text())["palette"]
    assert sum(entry["share"] for entry in entries) == pytest.approx(1)
    assert [entry["count"] for entry in entries] == run.counts.tolist()
    strip = read(tmp_path / "out/palette.png")
    assert strip.shape == (32, 6 * 32)
    np.testing.assert_array_equal(strip[16, 16::32], np.arange(6))


def test_each_image_with_its_own_palette(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs, tmp_path / "each.zarr", k=4, shared=False)
    export(run, tmp_path / "out")
    own = run.image("sub/3.png").palette
    np.testing.assert_array_equal(read_palette(tmp_path / "out/palettes/sub/3.gpl"), own)
    picture = Image.open(tmp_path / "out/sub/3.png")
    np.testing.assert_array_equal(
        np.asarray(picture.convert("RGB")), own[run.labels("sub/3.png")[:]]
    )
    assert not (tmp_path / "out/palette.json").exists()


def test_several_k_go_to_a_folder_each(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs / "0.png", tmp_path / "many.zarr", k=(2, 5))
    rows = export(run, tmp_path / "out")
    assert [row.k for row in rows] == [2, 5]
    for k in (2, 5):
        assert read(tmp_path / f"out/k{k}/0.png").max() == k - 1
        assert (tmp_path / f"out/k{k}/palette.gpl").exists()


def test_256_colours_and_transparency_need_full_colour(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[..., :3] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    pixels[1:, :, 3] = 255
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    run = kmdist.quantize(tmp_path / "a.png", tmp_path / "r.zarr", k=256)
    export(run, tmp_path / "out")
    rgba = read(tmp_path / "out/a.png")
    assert np.all(rgba[0, :, 3] == 0)
    np.testing.assert_array_equal(rgba[1:, :, :3], run.palette[run.labels("a.png")[1:]])


def test_dithered_pictures_are_nearer_to_the_mean(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (64, 1, 3))
    cv2.imwrite(str(tmp_path / "ramp.png"), ramp)
    run = kmdist.quantize(tmp_path / "ramp.png", tmp_path / "r.zarr", k=4)
    error = {}
    for dither in (False, True):
        export(run, tmp_path / "out", dither=dither, overwrite=True)
        shown = np.asarray(Image.open(tmp_path / "out/ramp.png").convert("RGB"))
        # Between the darkest and the lightest colour, which no mixture goes beyond.
        between = slice(int(run.palette.min()) + 8, int(run.palette.max()) - 8)
        means = shown[..., 0].mean(axis=0)
        smooth = np.convolve(means, np.full(9, 1 / 9), mode="same")
        error[dither] = np.abs(smooth - np.arange(256))[between].mean()
    assert error[False] > 12
    assert error[True] < 2


def test_bands_and_threads_change_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = export(run, tmp_path / "a", dither=True, workers=1)
    monkeypatch.setattr(run_images, "BAND_PIXELS", 1)
    monkeypatch.setattr(run_images, "BAND_ROWS", 13)
    second = export(run, tmp_path / "b", dither=True, workers=3)
    for one, other in zip(first, second, strict=True):
        assert one.squared_error == other.squared_error
        np.testing.assert_array_equal(
            read(tmp_path / "a" / one.file), read(tmp_path / "b" / one.file)
        )


def test_originals_that_are_gone_or_changed(run: Run, photographs: Path, tmp_path: Path) -> None:
    (photographs / "0.png").unlink()
    shutil.copy(photographs / "4.png", photographs / "2.png")
    rows = {row.image: row for row in export(run, tmp_path / "out", dither=True)}
    assert "is gone" in rows["0.png"].note
    assert "not dithered" in rows["0.png"].note
    assert "has changed" in rows["2.png"].note
    assert rows["0.png"].original_bytes is None
    assert rows["0.png"].row()["psnr_db"] is None
    assert rows["4.png"].note == ""
    np.testing.assert_array_equal(read(tmp_path / "out/0.png"), run.labels("0.png")[:])
    cutout = extract(run, "0.png", tmp_path / "cut.png", clusters=(1,))
    assert "is gone" in cutout.note
    rgba = read(tmp_path / "cut.png")
    np.testing.assert_array_equal(
        rgba[rgba[..., 3] > 0][:, :3], np.tile(run.palette[1], (cutout.n_kept, 1))
    )


def test_a_folder_with_something_in_it_is_kept(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "diary.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        export(run, folder)
    assert [path.name for path in folder.iterdir()] == ["diary.txt"]
    export(run, folder, overwrite=True)
    assert (folder / "diary.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="is a file"):
        export(run, folder / "diary.txt", overwrite=True)


def test_nothing_half_written_is_left(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PngWriter, "close", full)
    with pytest.raises(KmdistError, match="No space left"):
        export(run, tmp_path / "out", workers=1)
    assert not [p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


def test_folders_and_names_are_kept() -> None:
    names = ["2024/day1/IMG_1.jpg", "2024/day 1/北京.webp", "ü é.v2.png", "d", "2024/IMG_1.jpg"]
    assert file_stems(names) == {
        "2024/day1/IMG_1.jpg": "2024/day1/IMG_1",
        "2024/day 1/北京.webp": "2024/day 1/北京",
        "ü é.v2.png": "ü é.v2",
        "d": "d",
        "2024/IMG_1.jpg": "2024/IMG_1",
    }


def test_file_names_are_safe_and_different() -> None:
    names = ["a.jpg", "a.png", "A.webp", "palette.png", "palettes/b.png", "b.png", "../x.png"]
    names += ["c.jpg", "c.png/d.jpg", "u\u0308.jpg", "ü.png", "a.jpg.png", "/y.png"]
    names += ["北" * 100 + ".png", "q" * 300 + ".png", "folder/" + "q" * 300 + ".png"]
    stems = file_stems(names)
    assert len({normalize("NFC", stem).casefold() for stem in stems.values()}) == len(names)
    for stem in stems.values():
        assert all(0 < len(part.encode()) < 250 for part in stem.split("/"))
        assert not {"..", "."} & set(stem.split("/"))
    assert stems["b.png"] == "b"
    assert stems["a.jpg"] == "a.jpg-2"
    assert stems["palette.png"] == "palette.png"
    assert stems["palettes/b.png"] == "palettes/b.png"
    assert stems["c.jpg"] == "c.jpg"


def test_names_that_had_to_be_changed_are_said(photographs: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        shutil.copy(photographs / "0.png", tmp_path / name)
    inputs = [tmp_path / "a.png", tmp_path / "a.jpg"]
    rows = export(kmdist.quantize(inputs, tmp_path / "r.zarr", k=2), tmp_path / "out")
    assert [row.file for row in rows] == ["a.jpg.png", "a.png.png"]
    assert rows[0].note == "is written as a.jpg.png"
    assert all((tmp_path / "out" / row.file).exists() for row in rows)


def test_extract_by_cluster_and_point(run: Run, photographs: Path, tmp_path: Path) -> None:
    labels = run.labels("0.png")[:]
    original = cv2.imread(str(photographs / "0.png"))[..., ::-1]
    at = (71, 13)
    cutout = extract(run, "0.png", tmp_path / "cut.png", clusters=(2,), at=[at])
    kept = {2, int(labels[at[1], at[0]])}
    assert set(cutout.clusters) == kept
    inside = np.isin(labels, list(kept))
    rgba = read(tmp_path / "cut.png")
    np.testing.assert_array_equal(rgba[..., 3], np.where(inside, 255, 0))
    np.testing.assert_array_equal(rgba[inside][:, :3], original[inside])
    assert not rgba[~inside].any()
    assert cutout.n_kept == inside.sum()
    extract(run, "0.png", tmp_path / "mask.png", clusters=sorted(kept), mask=True)
    np.testing.assert_array_equal(read(tmp_path / "mask.png"), np.where(inside, 255, 0))


def test_points_are_column_and_row_after_exif_orientation(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[15:, 25:] = 250
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = 6  # shown turned clockwise: 20 wide, 30 high; the light corner lower left
    picture.save(tmp_path / "turned.png", exif=exif)
    run = kmdist.quantize(tmp_path / "turned.png", tmp_path / "r.zarr", k=2)
    assert (run.image("turned.png").width, run.image("turned.png").height) == (20, 30)
    cutout = extract(run, "turned.png", tmp_path / "cut.png", at=[(2, 28)])
    assert cutout.n_kept == 25
    assert read(tmp_path / "cut.png")[28, 2].tolist() == [250, 250, 250, 255]


def test_an_image_by_the_path_of_its_file(run: Run, photographs: Path, tmp_path: Path) -> None:
    cutout = extract(run, str(photographs / "sub" / "3.png"), tmp_path / "c.png", clusters=[0])
    assert cutout.n_kept == (run.labels("sub/3.png")[:] == 0).sum()


def test_extract_refuses_what_is_not_there(run: Run, photographs: Path, tmp_path: Path) -> None:
    def attempt(image: str = "0.png", output: Path = tmp_path / "c.png", **what: object) -> None:
        extract(run, image, output, **what)

    with pytest.raises(UsageError, match="clusters 0 to 5"):
        attempt(clusters=(6,))
    with pytest.raises(UsageError, match="clusters 0 to 5"):
        attempt(clusters=(-1,))
    with pytest.raises(UsageError, match="columns are 0 to 89 and rows 0 to 59"):
        attempt(at=[(90, 0)])
    with pytest.raises(UsageError, match="transparent"):
        attempt("transparent.png", at=[(3, 3)])
    with pytest.raises(UsageError, match="nothing to extract"):
        attempt()
    with pytest.raises(UsageError, match=r"no image 'nine\.png'"):
        attempt("nine.png", clusters=(0,))
    with pytest.raises(UsageError, match=r"must end in \.png"):
        attempt(output=tmp_path / "c.jpg", clusters=(0,))
    with pytest.raises(UsageError, match="does not exist"):
        attempt(output=tmp_path / "no" / "c.png", clusters=(0,))
    with pytest.raises(UsageError, match="original photograph"):
        attempt(output=photographs / "0.png", clusters=(0,))
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize("made", ["export", "extract"])
@pytest.mark.parametrize("recipe", ["quantize", "segment"])
def test_originals_are_never_overwritten(made: str, recipe: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    pixels = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
    for name in ("a.png", "b/c.png", "d.jpg", "e.tif"):
        Image.fromarray(pixels).save(folder / name)
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    run = getattr(kmdist, recipe)(folder, tmp_path / "r.zarr", k=2, workers=1)

    def write(place: Path) -> None:
        if made == "export":
            kmdist.export(run, place, overwrite=True)
        else:
            extract_all(run, place, [0])

    (tmp_path / "link").symlink_to(folder)
    for place in (folder, tmp_path / "link"):
        with pytest.raises(UsageError, match="original photograph"):
            write(place)
        assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    write(folder / "b")
    write(tmp_path / "other")
    assert (tmp_path / "other/b/c.png").exists(), "folders are those of the images"
    assert {path: path.read_bytes() for path in before} == before


def test_colors_that_only_tell_clusters_apart_are_not_compared(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    run = kmdist.segment(tmp_path / "a.tif", tmp_path / "r.zarr", k=3, workers=1)
    (row,) = kmdist.export(run, tmp_path / "out")
    assert row.row()["psnr_db"] is None
    assert row.row()["ssim"] is None
    assert row.original_bytes == (tmp_path / "a.tif").stat().st_size
    with pytest.raises(UsageError, match="only tell clusters apart"):
        kmdist.export(run, tmp_path / "dithered", dither=True)
    assert not (tmp_path / "dithered").exists()


PALETTE = np.array(
    [(128, 128, 128), (0, 0, 255), (255, 0, 0), (255, 255, 0), (0, 0, 0), (20, 90, 20)], np.uint8
)


def test_swatches_of_other_programs(tmp_path: Path) -> None:
    write_palette(tmp_path / "p", "run", PALETTE, None)
    css = (tmp_path / "p.css").read_text().splitlines()
    assert css[0] == ":root {"
    assert css[2:4] == ["  --color-1: #0000ff;", "  --color-2: #ff0000;"]
    ase = (tmp_path / "p.ase").read_bytes()
    assert ase[:12] == b"ASEF" + struct.pack(">HHI", 1, 0, 6)
    at, found = 12, []
    for _ in PALETTE:
        kind, length = struct.unpack_from(">HI", ase, at)
        assert kind == 1
        block = ase[at + 6 : at + 6 + length]
        n = 2 * int.from_bytes(block[:2], "big")
        assert block[2 : 2 + n].decode("utf-16-be")[0] == "#"
        assert block[2 + n : 6 + n] == b"RGB "
        *rgb, use = struct.unpack(">3fH", block[6 + n :])
        assert use == 0
        found.append(np.rint(np.array(rgb) * 255))
        at += 6 + length
    assert at == len(ase)
    np.testing.assert_array_equal(found, PALETTE)
    aco = (tmp_path / "p.aco").read_bytes()
    assert aco[:4] == struct.pack(">2H", 1, 6)
    first = np.frombuffer(aco[4 : 4 + 60], ">u2").reshape(6, 5)
    np.testing.assert_array_equal(first[:, 1:4], PALETTE.astype(int) * 257)
    assert not first[:, [0, 4]].any()
    named = aco[64:]
    assert named[:4] == struct.pack(">2H", 2, 6)
    assert len(named) == 4 + 6 * (10 + 4 + 16)
    assert named[18:34].decode("utf-16-be") == "#808080\0"


def test_palettes_sorted(tmp_path: Path) -> None:
    orders = {"share": list(range(6)), "lightness": [4, 5, 1, 0, 2, 3], "hue": [2, 3, 5, 1, 4, 0]}
    for sort, expected in orders.items():
        write_palette(tmp_path / "p", "run", PALETTE, np.arange(6, 0, -1), sort)  # type: ignore[arg-type]
        listed = json.loads((tmp_path / "p.json").read_text())["palette"]
        assert [one["label"] for one in listed] == expected
        assert [one["count"] for one in listed] == [6 - label for label in expected]
        for suffix in ("json", "gpl"):
            np.testing.assert_array_equal(read_palette(tmp_path / f"p.{suffix}"), PALETTE[expected])
        strip = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
        np.testing.assert_array_equal(strip[16, 16::32], PALETTE[expected])


def test_a_share_of_dithering(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs / "0.png", tmp_path / "one.zarr", k=4)
    psnr = {}
    for amount in (0, 0.4, 1, True, False):
        (row,) = export(run, tmp_path / "out", dither=amount, overwrite=True)
        psnr[f"{amount}"] = row.psnr_db
    assert psnr["1"] == psnr["True"] < psnr["0.4"] < psnr["0"] == psnr["False"]
    words = [str(run.path), str(tmp_path / "cli"), "--sort", "hue", "--dither"]
    for amount, expected in (([], "1"), (["0.4"], "0.4")):
        done = CliRunner().invoke(cli, ["export", *words, *amount, "--overwrite"])
        assert done.exit_code == 0, done.output
        with (tmp_path / "cli" / TABLE_NAME).open() as file:
            (line,) = csv.DictReader(file)
        assert float(line["psnr_db"]) == pytest.approx(psnr[expected], abs=1e-3)
    for wrong, options in (("1.5", {"dither": 1.5}), ("'loud'", {"sort": "loud"})):
        with pytest.raises(UsageError, match=wrong):
            export(run, tmp_path / "out", overwrite=True, **options)  # type: ignore[arg-type]
