"""Colours that must be in a palette: they are there to the bit, and the others fit around them."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import kmdist
from kmdist.errors import UsageError
from kmdist.recipes.quantize.kernels.histogram import count_colors
from kmdist.recipes.quantize.palette import ColorCloud, PaletteOptions, fit_palette, psnr
from kmdist.recipes.quantize.wanted import read_palette

CORPORATE = np.array([[255, 0, 255], [0, 255, 64]], np.uint8)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for n in (1200, 1500):
        Image.fromarray(_photograph(n)).save(folder / f"{n}.png")
    return folder


def _photograph(n: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(3)
    return (
        rng.normal(rng.integers(40, 200, (6, 1, 3)), 20, (6, n // 6, 3)).clip(0, 255).astype("u1")
    )


@settings(deadline=None, max_examples=25)
@given(
    locked=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=6, unique=True),
    further=st.integers(0, 5),
    space=st.sampled_from(["rgb", "lab", "oklab", "hsv"]),
    alpha=st.booleans(),
)
def test_locked_colours_are_in_the_palette(
    locked: list[tuple[int, ...]], further: int, space: str, alpha: bool
) -> None:
    cloud = ColorCloud.of(count_colors(_photograph(600)), space, alpha=alpha)
    options = PaletteOptions(locked=np.array(locked, np.uint8))
    fit = fit_palette(cloud, len(locked) + further, options)
    assert fit.k == len(locked) + further
    np.testing.assert_array_equal(fit.palette[list(fit.locked), :3], locked)
    assert np.all(np.diff(fit.state.counts) <= 0)
    nearest = ((cloud.points[:, None] - fit.state.centroids) ** 2).sum(2).argmin(1)
    np.testing.assert_array_equal(fit.labels, nearest)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_colours_that_no_pixel_has_cost_nothing_but_their_places(metric: str, init: str) -> None:
    """Empty clusters of locked colours are left empty, and the fit comes to an end."""
    colors = count_colors(_photograph())
    cloud, free = ColorCloud(colors), PaletteOptions(init=init, metric=metric, n_init=4)
    locked = PaletteOptions(init=init, metric=metric, n_init=4, locked=CORPORATE)
    alone, beside = fit_palette(cloud, 6, free), fit_palette(cloud, 8, locked)
    assert beside.state.stop_reason != "max_iter"
    assert not beside.state.counts[list(beside.locked)].any()
    reached = [psnr(colors, fit.palette, fit.labels) for fit in (alone, beside)]
    assert reached[1] > reached[0] - 0.1


def test_as_many_colours_as_there_are() -> None:
    pixels = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 255]], np.uint8)
    cloud = ColorCloud(count_colors(pixels))
    fit = fit_palette(cloud, 8, PaletteOptions(locked=CORPORATE))
    assert {*map(tuple, fit.palette.tolist())} == {*map(tuple, np.vstack([pixels, CORPORATE[1:]]))}
    assert fit.state.inertia == 0


@pytest.mark.parametrize("shared", [True, False])
def test_a_run_names_them(photographs: Path, shared: bool) -> None:
    run = kmdist.quantize(photographs, k=5, shared=shared, lock=CORPORATE)
    fits = [run] if shared else [run.images[name] for name in run.images]
    for fit in fits:
        colors = np.asarray(fit.palette)[fit.attributes["locked"]]
        np.testing.assert_array_equal(colors, CORPORATE)
    assert run.parameters["lock"] == CORPORATE.tolist()


@pytest.mark.parametrize(("more", "k"), [({"psnr": 24.0}, None), ({"k": "1..12"}, 12)])
def test_where_k_is_chosen(photographs: Path, more: dict[str, Any], k: int | None) -> None:
    run = kmdist.quantize(photographs, lock=CORPORATE, **more)
    assert {*map(tuple, CORPORATE)} <= {*map(tuple, run.palette)}
    assert len(CORPORATE) <= run.k <= (k or 256)
    if "psnr" in more:
        assert run.attributes["fidelity"]["psnr_db"] >= more["psnr"]


def test_files_of_every_kind_hold_the_same_colours(tmp_path: Path) -> None:
    (tmp_path / "a.gpl").write_text(
        "GIMP Palette\nName: x\n#\n255 0 255 pink\n  0 255  64\tgreen\n"
    )
    (tmp_path / "a.hex").write_text("FF00FF\n00FF40\n")
    (tmp_path / "a.css").write_text(":root { --a: #ff00ff; --b: #00ff40; }\n")
    np.save(tmp_path / "a.npy", CORPORATE)
    Image.fromarray(CORPORATE[None]).save(tmp_path / "a.png")
    for path in tmp_path.iterdir():
        assert {*map(tuple, read_palette(path, "lock"))} == {*map(tuple, CORPORATE)}, path


def _ase(*blocks: tuple[int, bytes]) -> bytes:
    parts = [struct.pack(">HI", kind, len(body)) + body for kind, body in blocks]
    return b"ASEF" + struct.pack(">HHI", 1, 0, len(parts)) + b"".join(parts)


def _swatch(model: bytes, *values: float) -> tuple[int, bytes]:
    name = struct.pack(">H", 2) + "a\0".encode("utf-16-be")
    return 1, name + model + struct.pack(f">{len(values)}fH", *values, 0)


def test_swatches_of_adobes_programs(tmp_path: Path) -> None:
    group = (0xC001, struct.pack(">H", 1) + b"\0\0"), (0xC002, b"")
    colors = _swatch(b"RGB ", 1, 0, 0.2), _swatch(b"Gray", 0.6)
    (tmp_path / "a.ase").write_bytes(_ase(group[0], *colors, group[1]))
    np.testing.assert_array_equal(read_palette(tmp_path / "a.ase"), [[255, 0, 51], [153] * 3])
    grey = struct.pack(">12H", 1, 2, 0, 65535, 0, 257 * 51, 0, 8, 6000, 0, 0, 0)
    (tmp_path / "a.aco").write_bytes(grey)
    np.testing.assert_array_equal(read_palette(tmp_path / "a.aco"), [[255, 0, 51], [153] * 3])
    for name, content, said in (
        ("b.ase", _ase(_swatch(b"CMYK", 0, 1, 0, 0)), "a colour in CMYK"),
        ("c.ase", _ase(colors[0])[:-4], "holds no palette"),
        ("d.ase", b"GIMP Palette", "begins with ASEF"),
        ("e.ase", b"ASEF" + b"\xff" * 8, "holds no palette"),
        ("f.ase", _ase(*group), "a palette is"),
        ("b.aco", struct.pack(">7H", 1, 1, 2, 0, 0, 0, 0), "colour space 2"),
        ("c.aco", struct.pack(">2H", 1, 9), "holds no palette"),
        ("d.aco", b"", "holds no palette"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=f"{name}: .*{said}"):
            read_palette(tmp_path / name, "lock")


def test_what_is_refused(photographs: Path, tmp_path: Path) -> None:
    Image.fromarray(_photograph()).save(tmp_path / "photo.png")
    many = [[i, 0, 0] for i in range(9)]
    for lock, more, said in [
        (str(tmp_path / "none.gpl"), {}, "--lock .*none.gpl.*not there"),
        (str(tmp_path / "photo.png"), {}, "--lock .*photo.png.*at most 256"),
        (many, {"k": 8}, "9 colours are locked"),
        (many, {"k": "2..8"}, "9 colours are locked"),
        ([1, 2, 3], {}, "lock must be colours"),
        ([[1, 2, 3, 4]], {}, "transparent colours"),
        (CORPORATE, {"init": CORPORATE, "k": 2}, "give one"),
    ]:
        with pytest.raises(UsageError, match=said):
            kmdist.quantize(photographs, lock=lock, **more)
