"""Pages as files: what they hold, how large they grow, and that names are text."""

import base64
import json
import os
import platform
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import kmdist
from kmdist.cli import cli
from kmdist.job.exhibits import Curves
from kmdist.pages import run_report
from kmdist.pages.page import line_chart
from kmdist.store import RunWriter
from tests.support.writing import released

EVIL = "<img src=x onerror=alert(1)>.png"


def _data(page: Path) -> dict:
    """What the page's script reads."""
    found = re.search(r'id="run-data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    return json.loads(found[1])


def _labels(image: dict, fit: dict) -> np.ndarray:
    raw = zlib.decompress(base64.b64decode(fit["labels"]))
    return np.frombuffer(raw, f"<u{fit['bytes']}").reshape(image["rows"], image["columns"])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with a malicious name and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    for name in (EVIL, "b.png"):
        Image.fromarray(pixels).save(folder / name)
    (folder / "</script><script>alert(2)</script>.png").parent.mkdir(parents=True)
    (folder / "</script><script>alert(2)</script>.png").write_bytes(b"none")
    run = kmdist.quantize(folder, folder / "run.zarr", k=[2, 3], workers=1)
    return kmdist.report(run, folder / "report.html")


def test_labels_in_the_page_are_those_of_the_run(page: Path) -> None:
    run = kmdist.open_run(page.with_name("run.zarr"))
    for image in _data(page)["images"]:
        for fit, one in zip(image["fits"], run.runs.values(), strict=True):
            assert image["step"] == 1
            assert np.array_equal(_labels(image, fit), one.labels(image["name"])[:])
            psnr, similarity, difference, size, share = fit["quality"]
            assert 0 < float(psnr.removeprefix("PSNR ").removesuffix(" dB")) < 60
            assert similarity.startswith("SSIM 0.")
            assert 0 < float(difference.removeprefix("ΔE ")) < 100
            assert size.endswith(" bytes as PNG")
            assert share.endswith("% of the original")


def test_a_picture_that_lost_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (9, 8), (3, 200, 7)).save(tmp_path / "plain.png")
    run = kmdist.quantize(tmp_path / "plain.png", tmp_path / "r.zarr", k=1, workers=1)
    (image,) = _data(kmdist.report(run, tmp_path / "r.html"))["images"]
    assert image["fits"][0]["quality"][0] == "PSNR inf dB"


def test_clusters_without_colours_have_those_of_a_label_map(tmp_path: Path) -> None:
    with released(
        RunWriter.create(
            tmp_path / "r.zarr", recipe="quantize", parameters={}, fingerprint="f", images=["a.png"]
        )
    ) as writer:
        writer.write_labels("a.png", np.eye(30, dtype=np.uint8), k=2)
        writer.publish({"k": 2, "seed": 0})
    run = kmdist.open_run(tmp_path / "r.zarr")
    (image,) = _data(kmdist.report(run, tmp_path / "r.html"))["images"]
    assert len(set(image["fits"][0]["palette"])) == 2
    assert "a.png" in run._repr_html_()


def test_names_and_reasons_are_escaped(page: Path) -> None:
    text = page.read_text("utf-8")
    assert EVIL in {image["name"] for image in _data(page)["images"]}
    assert "<img src=x" not in text
    assert "alert(2)</script>" not in text
    assert "&lt;script&gt;alert(2)" in text, "the file that was left out is listed"


def test_a_page_may_load_nothing(page: Path) -> None:
    text = page.read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe" not in policy
    assert not re.search(r'(src|href)="(https?:|//|[a-z]+\.)', text)


def test_a_page_does_not_grow_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "MOST_IMAGES", 6)
    monkeypatch.setattr(run_report, "PAGE_BYTES", 60_000)
    rng, sizes = np.random.default_rng(1), []
    palette = rng.integers(0, 255, (4, 3), np.uint8)
    for n in (2, 12):
        names = [f"{i:03d}.png" for i in range(n)]
        path = tmp_path / f"{n}.zarr"
        with released(
            RunWriter.create(
                path, recipe="quantize", parameters={"k": 4}, fingerprint="f", images=names
            )
        ) as writer:
            for name in names:
                labels = rng.integers(0, 4, (301, 403)).astype(np.uint8)
                writer.write_labels(name, labels, k=4, palette=palette)
            writer.write_array("palette", palette, ("cluster", "channel"))
            writer.write_array("counts", np.full(4, 100), ("cluster",))
            writer.publish({"k": 4, "seed": 0})
        page = kmdist.report(path, tmp_path / f"{n}.html")
        data, run = _data(page), kmdist.open_run(path)
        assert len(data["images"]) == min(n, 6)
        for image in data["images"]:
            whole, step = run.labels(image["name"])[:], image["step"]
            assert np.array_equal(_labels(image, image["fits"][0]), whole[::step, ::step])
            assert "is gone" in image["note"]
        sizes.append(sum(len(image["fits"][0]["labels"]) for image in data["images"]))
    assert max(sizes) < 60_000


def test_labels_of_more_clusters_than_a_byte_holds(tmp_path: Path) -> None:
    labels = np.arange(300 * 4).reshape(30, 40).astype(np.uint16) % 300
    palette = np.zeros((300, 3), np.uint8)
    with released(
        RunWriter.create(
            tmp_path / "r.zarr", recipe="quantize", parameters={}, fingerprint="f", images=["a.png"]
        )
    ) as writer:
        writer.write_labels("a.png", labels, k=300, palette=palette)
        writer.write_array("palette", palette, ("cluster", "channel"))
        writer.write_array("counts", np.bincount(labels.ravel()), ("cluster",))
        writer.publish({"k": 300, "seed": 0})
    (image,) = _data(kmdist.report(tmp_path / "r.zarr", tmp_path / "r.html"))["images"]
    assert np.array_equal(_labels(image, image["fits"][0]), labels)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1], [5.0]),
        ([2, 8, 25], [1e9, 5e8, 2e8]),
        ([1, 2, 3], [np.nan, 1.0, np.inf]),
        ([1, 2], [1.22551e10, 1.22549e10]),
    ],
)
def test_charts_stay_within_their_box(x: list[float], y: list[float]) -> None:
    chart = line_chart(Curves("t", "k", x, {"a": y}, mark=x[0]))
    points = chart.lines[0].points
    assert len(points) == np.isfinite(y).sum()
    for px, py, _ in points:
        assert chart.left <= px <= chart.right
        assert chart.top <= py <= chart.bottom
    assert all(chart.top <= place <= chart.bottom for place, _ in chart.y_ticks)
    for ticks in (chart.x_ticks, chart.y_ticks):
        assert len({text for _, text in ticks}) == len(ticks), "no two say the same"


def test_axes_of_whole_numbers_and_of_shares() -> None:
    chart = line_chart(Curves("t", "night", [1], {"a": [7.0]}, from_zero=True))
    assert [text for _, text in chart.x_ticks] == ["1"]
    assert chart.y_ticks[0][1] == "0"


def test_the_page_of_one_k_is_titled_with_its_run(page: Path) -> None:
    one = kmdist.report(page.with_name("run.zarr") / "k2", page.with_name("k2.html"))
    assert "<title>run.zarr/k2: quantize" in one.read_text("utf-8")


def test_the_overview_says_where_a_run_was_made_and_its_fits_do_not(page: Path) -> None:
    run = kmdist.open_run(page.with_name("run.zarr"))
    host = run.attributes["host"]
    assert host["workers"] == 1
    assert host["memory_bytes"] > 1e6
    text = page.read_text("utf-8")
    assert f"<b>1</b> worker of {platform.node()}" in text
    assert f"<b>{host['memory_bytes'] / 1e9:.2f} GB</b> memory" in text
    assert all("host" not in fit.attributes for fit in run.runs.values()), "these are compared"


def test_commands_write_pages_and_refuse_other_names(page: Path, tmp_path: Path) -> None:
    run = str(page.with_name("run.zarr"))
    done = CliRunner().invoke(cli, ["report", run, "-o", str(tmp_path / "r.html")])
    assert done.exit_code == 0
    assert "report: " in done.output
    wrong = CliRunner().invoke(cli, ["report", run, "-o", str(tmp_path / "r.pdf")])
    assert wrong.exit_code == 2
    assert ".html" in wrong.output
    assert os.listdir(tmp_path) == ["r.html"]


def test_cutouts_of_all_images(page: Path, tmp_path: Path) -> None:
    run = page.with_name("run.zarr") / "k3"
    command = ["extract", "--clusters", "1", "--mask", "-o", str(tmp_path / "cut"), str(run)]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "2 images" in done.output
    expected = kmdist.open_run(run).labels("b.png")[:] == 1
    assert np.array_equal(np.asarray(Image.open(tmp_path / "cut/b.png")) == 255, expected)
    refused = CliRunner().invoke(cli, [*command, "--at", "1,1"])
    assert refused.exit_code == 2
    assert "--at" in refused.output
