"""Pictures of runs: what they show, pixel by pixel where it can be said."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import kmdist
from kmdist.errors import KmdistError, UsageError
from kmdist.pictures import drawing
from kmdist.pictures.drawing import justified, label_colors, palette_bar, resized
from kmdist.pictures.view import SHEET_PX, view
from kmdist.store import Run

MARGIN = 2 * drawing.GAP_PX


@pytest.fixture
def run(photographs: Path, tmp_path: Path) -> Run:
    return kmdist.quantize(photographs, tmp_path / "r.zarr", k=6)


def panels_of(path: Path, run: Run, name: str) -> list[np.ndarray]:
    """The panels of a picture of one image, enlarged by a whole factor, back in its own pixels."""
    image = run.image(name)
    factor = int(min(768 / image.width, 768 / image.height))
    picture = np.asarray(Image.open(path).convert("RGB"))
    top = MARGIN + 62 + drawing.GAP_PX
    found = []
    for column in range(3):
        left = MARGIN + column * (image.width * factor + drawing.GAP_PX)
        panel = picture[top:, left:][: image.height * factor, : image.width * factor]
        found.append(panel[factor // 2 :: factor, factor // 2 :: factor])
    return found


def test_original_recoloured_and_labels(run: Run, photographs: Path, tmp_path: Path) -> None:
    assert view(run, tmp_path / "v.png", "0.png") == tmp_path / "v.png"
    original, recolored, labels = panels_of(tmp_path / "v.png", run, "0.png")
    expected = cv2.imread(str(photographs / "0.png"))[..., ::-1]
    np.testing.assert_array_equal(original, expected)
    np.testing.assert_array_equal(recolored, run.palette[run.labels("0.png")[:]])
    np.testing.assert_array_equal(labels, label_colors(6)[run.labels("0.png")[:]])


def test_overlay_mixes_labels_and_original(run: Run, photographs: Path, tmp_path: Path) -> None:
    view(run, tmp_path / "v.png", str(photographs / "0.png"), overlay=0.5)
    original, _, mixed = panels_of(tmp_path / "v.png", run, "0.png")
    expected = (original.astype(int) + label_colors(6)[run.labels("0.png")[:]]) / 2
    assert np.abs(mixed - expected).max() <= 1


def test_an_original_that_is_gone_is_said_and_the_rest_drawn(
    run: Run, photographs: Path, tmp_path: Path
) -> None:
    (photographs / "0.png").unlink()
    view(run, tmp_path / "v.png", "0.png")
    original, recolored, _ = panels_of(tmp_path / "v.png", run, "0.png")
    assert (original == drawing.LINE).all(axis=2).mean() > 0.5
    np.testing.assert_array_equal(recolored, run.palette[run.labels("0.png")[:]])
    view(run, tmp_path / "sheet.png", overlay=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_contact_sheet(run: Run, tmp_path: Path, suffix: str) -> None:
    view(run, tmp_path / f"sheet{suffix}")
    picture = Image.open(tmp_path / f"sheet{suffix}")
    assert abs(picture.width - SHEET_PX - 2 * MARGIN) < 60
    assert picture.getcolors(64) is None


@pytest.mark.slow
def test_each_image_with_its_palette_and_several_k(photographs: Path, tmp_path: Path) -> None:
    each = kmdist.quantize(photographs, tmp_path / "each.zarr", k=3, shared=False)
    view(each, tmp_path / "each.png")
    view(each, tmp_path / "one.png", "transparent.png")
    several = kmdist.quantize(photographs, tmp_path / "many.zarr", k=(2, 4, 40))
    view(several, tmp_path / "many.png")
    view(several, tmp_path / "many-one.png", "0.png", overlay=0.3)
    sizes = {p.name: Image.open(p).size for p in tmp_path.glob("*.png")}
    assert sizes["many.png"][1] > 2 * sizes["each.png"][1]
    view(several.runs[40], tmp_path / "k40.png", "0.png")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (2, 900), (700, 3), (1300, 1100)])
def test_odd_sizes(shape: tuple[int, int], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    run = kmdist.quantize(tmp_path / "a.png", tmp_path / "r.zarr", k=1)
    view(run, tmp_path / "one.png", "a.png")
    view(run, tmp_path / "sheet.png", overlay=0.5)
    for name in ("one.png", "sheet.png"):
        assert max(Image.open(tmp_path / name).size) < 4000


def test_many_colours_and_transparency(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[:30, :30, 3] = 0
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    run = kmdist.quantize(tmp_path / "a.png", tmp_path / "r.zarr", k=256)
    view(run, tmp_path / "v.png", "a.png")
    _, recolored, labels = panels_of(tmp_path / "v.png", run, "a.png")
    expected = run.palette[run.labels("a.png")[30:]]
    np.testing.assert_array_equal(recolored[30:], expected)
    for panel in (recolored, labels):
        assert len(np.unique(panel[:30, :30].reshape(-1, 3), axis=0)) == 2  # the chequer


def test_wrong_usage(run: Run, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.png or \.jpg"):
        view(run, tmp_path / "v.gif")
    with pytest.raises(UsageError, match="no image"):
        view(run, tmp_path / "v.png", "nine.png")
    with pytest.raises(UsageError, match="overlay"):
        view(run, tmp_path / "v.png", overlay=1.5)
    with pytest.raises(UsageError, match="original photograph"):
        view(run, photographs / "0.png", "0.png")
    with pytest.raises(KmdistError, match="cannot write"):
        view(run, tmp_path / ("v" * 300 + ".png"))


def test_palette_bar_is_as_wide_as_the_shares() -> None:
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    row = np.asarray(palette_bar(palette, np.array([50, 0, 150]), 100))[0]
    np.testing.assert_array_equal(row, np.repeat(palette[[0, 2]], [25, 75], axis=0))


def test_small_pictures_are_enlarged_by_whole_factors() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    large = np.asarray(resized(pixels, (10, 10)))
    np.testing.assert_array_equal(large, np.repeat(np.repeat(pixels, 3, axis=0), 3, axis=1))


def test_rows_of_a_sheet_fill_its_width() -> None:
    sizes = [(768, 512)] * 7 + [(512, 768)] * 5
    rows = justified(sizes, 1920, 236)
    assert [i for row, _ in rows for i in row] == list(range(12))
    for row, height in rows[:-1]:
        width = sum(sizes[i][0] / sizes[i][1] * height for i in row) + 16 * (len(row) - 1)
        assert 1900 < width <= 1920


def test_neighbouring_labels_are_told_apart() -> None:
    colors = label_colors(256).astype(int)
    assert len(np.unique(colors[:64], axis=0)) == 64
    assert np.abs(colors[1:24] - colors[:23]).sum(axis=1).min() > 90


def test_transparent_originals_are_drawn_on_a_chequer(run: Run, tmp_path: Path) -> None:
    view(run, tmp_path / "v.png", "transparent.png")
    original, recolored, _ = panels_of(tmp_path / "v.png", run, "transparent.png")
    np.testing.assert_array_equal(original[:20], recolored[:20])
    assert set(np.unique(original[:20])) == {208, 236}


def test_labels_index_the_palette_where_pixels_are_transparent(run: Run) -> None:
    labels = run.labels("transparent.png")[:]
    picture = run.palette[labels]
    assert type(picture) is np.ndarray
    assert np.all(picture[:20] == 255)
    np.testing.assert_array_equal(picture[20:], np.asarray(run.palette)[labels[20:]])
    np.testing.assert_array_equal(
        run.palette[labels[30, 7]], np.asarray(run.palette)[labels[30, 7]]
    )
    assert run.palette[labels.astype(np.int64)[20:]].shape == (20, 50, 3)


@pytest.mark.parametrize("text", ["北京 東京タワー 서울", "Привет Ελλάδα", "عربي"])
def test_letters_of_other_scripts_are_no_boxes(text: str) -> None:
    """Each letter is drawn as another shape than one that no font has."""

    def drawn(letter: str) -> bytes:
        picture = drawing.Image.new("RGB", (60, 60), "white")
        drawing.write(picture, (10, 10), letter, 32, bold=True)
        return picture.tobytes()

    shapes = {drawn(letter) for letter in text if letter != " "}
    assert len(shapes) == len(set(text) - {" "})
    assert drawn("\U0010fffd") not in shapes
    assert drawn("?") not in shapes


def test_one_of_several_k_is_asked_for(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs / "0.png", tmp_path / "many.zarr", k=(1, 3))
    for ask in (run.image, run.labels, run.predict):
        with pytest.raises(UsageError, match=r"several k \(1, 3\); take one: run.runs\[1\]"):
            ask("0.png")
    assert run.runs[3].labels("0.png").shape == (60, 90)


def test_one_image_of_several_k_is_drawn_as_by_its_name(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs / "0.png", tmp_path / "one.zarr", k=(2, 4, 8))
    view(run, tmp_path / "sheet.png")
    view(run, tmp_path / "named.png", "0.png")
    sheet, named = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("sheet", "named"))
    np.testing.assert_array_equal(sheet, named)
    paper = (sheet == drawing.PAPER).all(axis=(0, 2))
    assert paper.mean() < 0.3  # columns on which nothing is drawn
