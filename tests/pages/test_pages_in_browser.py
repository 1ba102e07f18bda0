"""Pages as people meet them: in a browser, by mouse and keyboard, on small and large screens."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys

import kmdist
from kmdist.images.color import hex_color
from kmdist.pages.server import Server
from kmdist.pictures.extract import extract_all
from kmdist.store import RunWriter
from tests.support.browser import Browser, axe_core, browser
from tests.support.writing import released

pytestmark = pytest.mark.slow

PRESSED = """return [...document.querySelectorAll("[aria-pressed=true]")]
    .map((button) => Number(button.dataset.cluster))"""
EVIL = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("downloads")) as opened:
        yield opened


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return axe_core(tmp_path_factory.mktemp("axe"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:70, 0:101]
    for i, name in enumerate(("a.png", EVIL, "b ' \" & c.png")):
        waves = np.stack([x * 2 + 9 * i, y * 3, (x + y) % (50 + i)], axis=-1)
        noisy = np.clip(waves + rng.normal(0, 9, waves.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / name)
    holes = np.full((40, 50, 4), 180, np.uint8)
    holes[:9, :, 3], holes[..., 1] = 0, np.arange(50)
    Image.fromarray(holes).save(folder / "holes.png")
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """Runs of each recipe, and a page of each."""
    folder = tmp_path_factory.mktemp("pages")
    kmdist.quantize(pictures, folder / "quantize.zarr", k=[3, 6], workers=1)
    kmdist.texture(pictures / "a.png", folder / "texture.zarr", k=3, workers=1)
    kmdist.segment(pictures, folder / "segment.zarr", k=3, workers=1)
    kmdist.digits("sample:digits", folder / "digits.zarr", k=[4, 8, 12], preset="raw", workers=1)
    for run in folder.glob("*.zarr"):
        kmdist.report(run, folder / f"{run.stem}.html")
    return folder


@pytest.mark.parametrize("recipe", ["quantize", "texture", "segment", "digits"])
def test_a_page_opens_from_a_file_and_asks_for_nothing(
    window: Browser, axe: Path, pages: Path, recipe: str
) -> None:
    page = pages / f"{recipe}.html"
    for width in (390, 1920):
        for scheme in ("light", "dark"):
            window.open(page, width, scheme)
            if recipe != "digits":
                window.ready()
            wide = window.run("return document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{width} px: the page is {wide} px wider than the window"
            assert window.violations(axe) == []
            assert window.requests() == [page.as_uri()]
            assert window.complaints() == []


def test_a_click_chooses_a_cluster_and_the_saved_mask_is_that_of_extract(
    window: Browser, pages: Path, tmp_path: Path
) -> None:
    window.open(pages / "quantize.html")
    window.ready()
    run = kmdist.open_run(pages / "quantize.zarr/k3")
    labels = run.labels("holes.png")[:]
    number = window.run("return viewer.data.images.findIndex((one) => one.name === 'holes.png')")
    window.click(f"#thumbnails button[data-number='{number}']")
    window.wait(lambda: window.text("#name") == "holes.png")
    _click_pixel(window, 20, 30)
    window.wait(lambda: window.run(PRESSED))
    assert window.run(PRESSED) == [labels[30, 20]]
    kmdist.extract(run, "holes.png", tmp_path / "mask.png", at=[(20, 30)], mask=True)
    window.click("#save-mask")
    with (
        Image.open(window.saved("holes-mask.png")) as saved,
        Image.open(tmp_path / "mask.png") as own,
    ):
        assert saved.mode == own.mode == "L"
        assert np.array_equal(saved, own)
    window.click("#save-cutout")
    with Image.open(window.saved("holes-cutout.png")) as saved:
        assert np.array_equal(np.asarray(saved)[..., 3] == 255, labels == labels[30, 20])
    _click_pixel(window, 20, 2)
    window.wait(lambda: window.text("#chosen") == "This pixel is in no cluster")
    _click_pixel(window, 20, 30)
    window.wait(lambda: window.run(PRESSED) == [])
    assert window.complaints() == []


def test_a_large_map_is_served_panned_zoomed_and_picked(
    window: Browser, axe: Path, tmp_path: Path
) -> None:
    side = int(os.environ.get("KMDIST_SERVED_SIDE", "5000"))
    run = _large_run(tmp_path / "large.zarr", side)
    with Server(run) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        window.open(server.url)
        window.ready()
        window.wait(lambda: _tiles(window) and window.run(LOADED))
        before = _tiles(window)
        assert max(before.values()) < 2, "the whole map is drawn from small levels"
        window.run("viewer.surface.viewer.viewport.zoomTo(40, null, true).applyConstraints(true)")
        window.wait(lambda: window.run(LOADED))
        window.run("viewer.surface.viewer.viewport.panBy(new OpenSeadragon.Point(0.2, 0.1), true)")
        window.wait(lambda: window.run(LOADED))
        window.wait(lambda: len(_tiles(window)) > len(before))
        window.run("viewer.point(arguments[0], arguments[1])", side - 1, side // 2)
        window.wait(lambda: window.run("return viewer.chosen.size"))
        assert window.run("return [...viewer.chosen]") == [_expected_label(side - 1, side // 2)]
        assert window.violations(axe) == []
        assert all(url.startswith(server.url) for url in window.requests())
        assert window.complaints() == []
        server.shutdown()


LOADED = """const world = viewer.surface.viewer.world;
    return world.getItemCount() > 0
        && [...Array(world.getItemCount()).keys()].every(
            (i) => world.getItemAt(i).getFullyLoaded());"""


def _tiles(window: Browser) -> dict[str, int]:
    """Addresses of the tiles that the page has asked for, and how often."""
    asked = window.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    return dict(Counter(url for url in asked if "/tiles/" in url))


def _expected_label(x: int, y: int) -> int:
    return (x // 97 + y // 61) % 4


def _large_run(path: Path, side: int) -> Path:
    """A label map of many tiles, written shard by shard."""
    palette = np.array([[20, 40, 90], [200, 180, 60], [60, 150, 90], [240, 240, 240]], np.uint8)
    with released(
        RunWriter.create(
            path, recipe="quantize", parameters={"k": 4}, fingerprint="f", images=["map.tif"]
        )
    ) as writer:
        opened = writer.open_labels("map.tif", (side, side), k=4, marked=False)
        for y0, x0, y1, x1 in opened.windows(0):
            y, x = np.ogrid[y0:y1, x0:x1]
            labels = ((x // 97 + y // 61) % 4).astype(np.uint8)
            writer.write_label_window(opened, y0, x0, labels)
        for level in range(1, len(opened.levels)):
            for part in opened.windows(level):
                writer.write_pyramid_window(opened, level, part)
        writer.write_array("palette", palette, ("cluster", "channel"))
        writer.write_array("counts", np.full(4, side * side // 4), ("cluster",))
        writer.publish({"k": 4, "seed": 0})
    return path


def _click_pixel(window: Browser, x: int, y: int) -> None:
    """Click the middle of a pixel of the picture."""
    window.run(
        """const canvas = document.querySelector("#surface canvas");
        const box = canvas.getBoundingClientRect();
        canvas.dispatchEvent(new MouseEvent("click", {
          clientX: box.left + (arguments[0] + 0.5) * box.width / canvas.width,
          clientY: box.top + (arguments[1] + 0.5) * box.height / canvas.height }));""",
        x,
        y,
    )


def test_every_label_and_colour_of_every_k_is_in_the_page(window: Browser, pages: Path) -> None:
    window.open(pages / "quantize.html")
    window.ready()
    for position, k in enumerate((3, 6)):
        run = kmdist.open_run(pages / f"quantize.zarr/k{k}")
        window.run(
            "const k = document.getElementById('k'); k.value = arguments[0];"
            "k.dispatchEvent(new Event('change'))",
            position,
        )
        for number, name in enumerate(run.images):
            window.run(
                "window.shown = false; viewer.show(arguments[0]).then(() => { shown = true })",
                number,
            )
            window.wait(lambda: window.run("return shown"))
            expected = run.labels(name)[:]
            found = window.run("return [...viewer.surface.labels]")
            assert np.array_equal(np.reshape(found, expected.shape), expected)
            colors = window.run("return viewer.fit.palette")
            assert colors == [hex_color(color) for color in run.palette.tolist()]


def test_names_of_files_are_text(window: Browser, pages: Path) -> None:
    window.open(pages / "quantize.html")
    window.ready()
    names = window.run(
        "return [...document.querySelectorAll('#thumbnails span')].map((s) => s.textContent)"
    )
    assert EVIL in names
    assert window.run("return document.querySelectorAll('img[src=x]').length") == 0
    window.click("#thumbnails button[data-number='0']")
    window.wait(lambda: window.text("#name") == EVIL)
    assert window.complaints() == []


def test_the_keyboard_chooses_and_the_command_says_so(
    window: Browser, pages: Path, tmp_path: Path
) -> None:
    window.open(pages / "quantize.html")
    window.ready()
    surface = window.driver.find_element("id", "surface")
    surface.send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    window.wait(lambda: window.run("return viewer.chosen.size"))
    assert window.run("return viewer.mode") == "chosen"
    (cluster,) = window.run("return [...viewer.chosen]")
    command = window.run("return document.getElementById('command').value")
    run = pages / "quantize.zarr/k3"
    assert command == f"kmdist extract --clusters {cluster} -o cutouts/ -- {run}"
    window.run("document.getElementById('scope').value = 'one'; viewer.fillCommand()")
    assert window.run("return document.getElementById('command').value").endswith(f"'{EVIL}'")
    cutouts = extract_all(run, tmp_path / "cutouts", [cluster])
    assert {cut.path.name for cut in cutouts} == {p.name for p in (tmp_path / "cutouts").iterdir()}
    assert len(cutouts) == 4
