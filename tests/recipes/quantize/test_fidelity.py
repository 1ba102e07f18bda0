"""PSNR, SSIM and CIEDE2000 that a run says of itself, and numbers of colours chosen by them."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

import kmdist
from kmdist.cli import cli
from kmdist.errors import KmdistError, UsageError
from kmdist.images import Piece, Window
from kmdist.recipes.quantize.fidelity import DELTA_E_UNIT, added, delta_e_step, fidelity_of
from kmdist.recipes.quantize.kernels import fidelity as kernels
from kmdist.recipes.quantize.kernels.fidelity import (
    CHUNK,
    NOTHING_SKIPPED,
    UNIT,
    squared_error,
    ssim_sum,
    window_step,
)

PALETTE = np.random.default_rng(3).integers(0, 256, (5, 3), np.uint8)


def pictures(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, labels and where it is transparent."""
    random = np.random.default_rng(height)
    pixels = cv2.GaussianBlur(random.integers(0, 256, (height, width, 3), np.uint8), (9, 9), 3)
    labels = random.integers(0, 5, (height, width), np.uint8)
    return pixels, labels, random.random((height, width)) < 0.1


@pytest.mark.parametrize("step", [1, 3, 8])
@pytest.mark.parametrize("masked", [False, True])
def test_the_kernels_are_those_of_scikit_image(step: int, masked: bool) -> None:
    pixels, labels, skip = pictures(40, 55)
    shown = PALETTE[labels]
    counts = ~skip if masked else np.ones(labels.shape, bool)
    shown[~counts] = pixels[~counts]
    given = pixels, labels, PALETTE, skip if masked else NOTHING_SKIPPED
    error, n = squared_error(*given)
    assert n == 3 * counts.sum()
    assert error == ((pixels.astype(int) - shown) ** 2)[counts].sum()
    _, full = structural_similarity(pixels, shown, channel_axis=2, data_range=255, full=True)
    windows = full[3:-3, 3:-3][::step, ::step][counts[3:-3, 3:-3][::step, ::step]]
    total, n_windows = ssim_sum(*given, 0, 0, step, CHUNK)
    assert n_windows == windows.size
    assert total / UNIT / n_windows == pytest.approx(windows.mean(), abs=1e-6)


@pytest.mark.parametrize("channels", [3, 6])
def test_errors_of_wide_rows_and_of_colours_over_two_backgrounds(channels: int) -> None:
    random = np.random.default_rng(channels)
    pixels, palette = (random.choice(np.uint8([0, 255]), (n, channels)) for n in (10_000, 5))
    pixels, labels = pixels.reshape(2, 5000, channels), random.integers(0, 5, (2, 5000), np.uint16)
    skip = random.random((2, 5000)) < 0.1
    error, n = squared_error(pixels, labels, palette, skip)
    assert n == channels * (~skip).sum()
    assert error == ((pixels.astype(int) - palette[labels]) ** 2)[~skip].sum()


def test_sums_do_not_depend_on_how_an_image_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Along chunks, of which the kernels' is 1,024 pixels wide."""
    pixels, labels, _ = pictures(1500, 1100)
    step = window_step(1500, 1100)
    whole = ssim_sum(pixels, labels, PALETTE, NOTHING_SKIPPED, 0, 0, step, CHUNK)
    parts = []
    for y, x in ((0, 0), (0, 1024), (1024, 0), (1024, 1024)):
        part = np.s_[y : y + 1024, x : x + 1024]
        given = pixels[part], labels[part], PALETTE, NOTHING_SKIPPED, y, x
        parts.append(ssim_sum(*given, step, CHUNK))
    assert whole == tuple(map(sum, zip(*parts, strict=True)))
    source = SimpleNamespace(height=1500, width=1100)
    cuts = [(0, 0, 1500, 1100)], [(0, 0, 1000, 517), (0, 517, 1000, 1100), (1000, 0, 1500, 1100)]
    totals = []
    for cut in cuts:
        figures = [
            fidelity_of(Piece(source, Window(*w)), pixels[s], labels[s], PALETTE, None)
            for w in cut
            for s in [np.s_[w[0] : w[2], w[1] : w[3]]]
        ]
        one = added(figures)
        totals.append((one.squared_error, one.delta_e, one.n_colors))
    assert totals[0] == totals[1]
    few = np.s_[:: delta_e_step(1500, 1100), :: delta_e_step(1500, 1100)]
    expected = deltaE_ciede2000(rgb2lab(pixels[few]), rgb2lab(PALETTE[labels[few]]))
    assert totals[0][2] == expected.size
    assert totals[0][1] / DELTA_E_UNIT == pytest.approx(expected.sum(), rel=1e-6)
    assert 0.5 * kernels.MOST_WINDOWS < whole[1] / 3 <= kernels.MOST_WINDOWS


@pytest.mark.parametrize("shared", [True, False])
def test_a_run_says_how_good_it_is(shared: bool, photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs, tmp_path / "r.zarr", k=5, shared=shared)
    rows = {row.image: row for row in kmdist.export(run, tmp_path / "out")}
    assert set(run.fidelity) == set(rows)
    for name, near in run.fidelity.items():
        assert near.psnr_db == pytest.approx(rows[name].psnr_db, rel=1e-12)
        assert near.ssim == pytest.approx(rows[name].ssim, abs=0.02)
        assert near.delta_e == pytest.approx(rows[name].delta_e, abs=0.001)
    said = run.attributes["fidelity"]
    error = sum(row.squared_error for row in rows.values())
    n_values = sum(row.n_values for row in rows.values())
    expected = 10 * np.log10(255**2 * n_values / error)
    assert said["psnr_db"] == pytest.approx(expected, abs=1e-4)
    worst = min(rows.values(), key=lambda row: row.psnr_db)
    assert said["worst"]["image"] == worst.image
    delta_e = np.mean([row.delta_e for row in rows.values()])
    assert said["delta_e"] == pytest.approx(delta_e, abs=0.001)
    done = CliRunner().invoke(cli, ["info", str(tmp_path / "r.zarr")])
    assert f"PSNR {expected:.2f} dB, SSIM 0." in done.output
    assert f", ΔE {said['delta_e']:.2f}; worst {worst.image}: {worst.psnr_db:.2f} dB" in done.output
    for name, row in rows.items():
        assert f"{row.psnr_db:.2f} dB" in done.output
        assert f"ΔE {run.fidelity[name].delta_e:.2f}" in done.output
    assert [one["delta_e"] for one in run.info()["images"]] == [
        round(one.delta_e, 4) for one in run.fidelity.values()
    ]


def test_new_photographs_too(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs, tmp_path / "r.zarr", k=5)
    again = kmdist.predict(run, photographs, tmp_path / "p.zarr")
    assert again.fidelity == run.fidelity
    assert again.attributes["fidelity"] == run.attributes["fidelity"]


@pytest.mark.parametrize("shared", [True, False])
def test_nothing_of_it_depends_on_blocks_and_workers(
    shared: bool, photographs: Path, tmp_path: Path
) -> None:
    one = kmdist.quantize(photographs, k=5, shared=shared, workers=1)
    other = kmdist.quantize(photographs, k=5, shared=shared, workers=3, block_mpx=0.01)
    assert one.fidelity == other.fidelity


def test_an_image_of_few_colours_is_exact(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    run = kmdist.quantize(tmp_path / "a.png", tmp_path / "r.zarr", k=1)
    assert run.fidelity == {"a.png": (np.inf, 1.0, 0.0)}
    assert run.info()["images"][0]["psnr_db"] is None
    done = CliRunner().invoke(cli, ["info", str(tmp_path / "r.zarr")])
    assert "PSNR ∞ (exact), SSIM 1.0000" in done.output


def test_auto_takes_the_knee_of_quality(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs, tmp_path / "r.zarr", k="auto")
    selection = run.attributes["selection"]
    ks = np.array([row["k"] for row in selection["scores"]])
    psnrs = np.array([row["psnr_db"] for row in selection["scores"]])
    assert (ks[0], ks[-1]) == (2, 32)
    x, y = (ks - 2) / 30, (psnrs - psnrs[0]) / (psnrs[-1] - psnrs[0])
    assert run.k == ks[np.argmax(y - x)]
    assert 4 < run.k < 20
    assert selection["reason"].startswith(f"k = {run.k}: the knee of PSNR")
    again = kmdist.quantize(photographs, k=run.k)
    np.testing.assert_array_equal(again.centroids, run.centroids)


@pytest.mark.parametrize("n_colors", [1, 2, 3, 40])
def test_auto_of_few_colours(n_colors: int, tmp_path: Path) -> None:
    pixels = np.zeros((10, 40, 3), np.uint8)
    pixels[..., 0] = np.arange(40) % n_colors
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    run = kmdist.quantize(tmp_path / "a.png", k="auto")
    assert run.k == n_colors if n_colors < 32 else 2 <= run.k <= 32


def test_a_quality_that_cannot_be_reached(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise, flat = random.integers(0, 256, (60, 60, 3), np.uint8), np.zeros((60, 60, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    cv2.imwrite(str(tmp_path / "flat.png"), flat)
    inputs = [str(tmp_path / "noise.png"), str(tmp_path / "flat.png")]
    for how in ([], ["--per-image"]):
        words = ["quantize", *inputs, "-o", str(tmp_path / "r.zarr"), "--psnr", "60", *how]
        done = CliRunner().invoke(cli, [*words, "--overwrite"])
        assert done.exit_code == 0, done.output
        said = "k up to 256, by image, inertia" if how else "k = 256, inertia"
        assert said in done.stdout
        named = "noise.png: " if how else ""
        assert f"{named}60 dB cannot be reached: 256 colours reach " in done.stderr
        assert kmdist.open_run(tmp_path / "r.zarr").k == 256
        strict = CliRunner().invoke(cli, [*words, "--strict", *(["-o", str(tmp_path / "s.zarr")])])
        assert strict.exit_code != 0
        assert "60 dB cannot be reached" in strict.stderr
        assert not (tmp_path / "s.zarr").exists()
        assert not list(tmp_path.glob(".s.zarr*"))
    with pytest.raises(UsageError, match="cannot be reached"):
        kmdist.quantize(inputs, psnr=60, strict=True)
    with pytest.raises(KmdistError, match=r"noise\.png: 60 dB cannot be reached"):
        kmdist.quantize(inputs, psnr=60, shared=False, strict=True)


def test_labels_of_what_does_not_count_are_not_looked_up() -> None:
    pixels, palette = np.zeros((1, 2, 4), np.uint8), np.zeros((2, 4), np.uint8)
    labels, skip = np.array([[1, 15]], np.uint8), np.array([[False, True]])
    assert squared_error.py_func(pixels, labels, palette, skip) == (0, 4)
    alone = pixels[:, 1:], labels[:, 1:], palette, skip[:, 1:]
    assert squared_error.py_func(*alone) == (0, 0)
