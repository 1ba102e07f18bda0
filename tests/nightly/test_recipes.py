"""The nightly run with the recipes other than quantize: models, labels, refits, what verifies."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from kmdist.cli import cli
from kmdist.errors import UsageError
from kmdist.nightly import find, status, verify
from kmdist.store import open_run
from tests.support.nights import World

TEXTURE = {"k": 3, "preset": "gabor", "workers": 1}


def put_stripes(world: World, name: str, pitch_px: int, age_s: float = 3600) -> Path:
    """A photograph of stripes, one half lying, the other standing."""
    y, x = np.mgrid[0:48, 0:96]
    wave = np.where(x < 48, np.sin(2 * np.pi * y / pitch_px), np.sin(2 * np.pi * x / pitch_px))
    noise = np.random.default_rng(pitch_px).normal(0, 3, wave.shape)
    grey = np.clip(127 + 80 * wave + noise, 0, 255).astype(np.uint8)
    path = world.inbox / name
    assert cv2.imwrite(str(path), grey)
    return world.touch(path, age_s)


@pytest.fixture
def textures(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.settings = replace(world.settings, recipe="texture", options=TEXTURE)
    return world


def test_nights_of_textures(textures: World) -> None:
    world = textures
    for i in range(3):
        put_stripes(world, f"{i}.png", 4 + 2 * i)
    first = world.night(refit=2)
    assert (first.new, first.done, first.model, first.fitted) == (3, 3, 1, True)
    assert first.drift == pytest.approx(1.0)  # the images that it was fitted to
    model = open_run(world.results / "models" / "0001.zarr")
    assert model.recipe == "texture"
    assert not any((model.path / "images").rglob("labels"))
    before = {p: p.read_bytes() for p in world.results.rglob("*.zarr/**/*") if p.is_file()}

    put_stripes(world, "3.png", 7)
    (world.inbox / "bad.jpg").write_bytes(b"\xff\xd8 nothing")
    world.touch(world.inbox / "bad.jpg")
    second = world.night(refit=2)
    assert (second.done, second.quarantined, second.model, second.fitted) == (1, 1, 1, False)
    run = open_run(find(world.results, world.inbox / "3.png")["run"])
    assert list(run.images) == ["3.png"]
    assert np.array_equal(run.centroids, model.centroids)
    assert np.array_equal(run.palette, model.palette)

    put_stripes(world, "4.png", 12)
    third = world.night(refit=2, relabel=True)
    assert (third.model, third.fitted, third.done) == (2, True, 5)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert status(world.results)["files"] == {"done": 5, "quarantined": 1}
    assert verify(world.results) == []
    assert world.night(refit=9).runs == ()


def test_a_label_map_is_that_of_predict(textures: World, tmp_path: Path) -> None:
    from kmdist.recipes.predict import predict

    for i in range(2):
        put_stripes(textures, f"{i}.png", 5 + 3 * i)
    (stamp,) = textures.night().runs
    made = open_run(textures.results / "runs" / f"{stamp}.zarr")
    model = textures.results / "models" / "0001.zarr"
    again = predict(model, textures.inbox, tmp_path / "again.zarr")
    for name in ("0.png", "1.png"):
        assert np.array_equal(made.labels(name)[:], again.labels(name)[:])
    assert made.inertia == again.inertia


def test_a_first_night_of_bad_textures_alone(textures: World) -> None:
    (textures.inbox / "bad.png").write_bytes(b"")
    textures.touch(textures.inbox / "bad.png")
    alpha = np.zeros((20, 30, 4), np.uint8)
    cv2.imwrite(str(textures.inbox / "clear.png"), alpha)
    textures.touch(textures.inbox / "clear.png")
    night = textures.night()
    assert (night.done, night.quarantined, night.model) == (0, 2, None)
    assert verify(textures.results) == []


def test_models_of_another_recipe_are_not_taken(textures: World) -> None:
    put_stripes(textures, "0.png", 4)
    textures.night()
    put_stripes(textures, "1.png", 5)
    with pytest.raises(UsageError, match="are of the recipe texture, and quantize is asked for"):
        textures.night(recipe="quantize", options={"k": 4, "workers": 1})


@pytest.mark.parametrize("more", [{"keep_responses": True}, {"shared": False}])
def test_a_texture_model_is_shared_and_keeps_nothing(tmp_path: Path, more: dict[str, Any]) -> None:
    from kmdist.recipes.texture.recipe import texture

    with pytest.raises(UsageError, match="fit_only makes clusters"):
        texture("sample:photos", tmp_path / "m.zarr", fit_only=True, **{"shared": True, **more})


def test_the_command_runs_a_night_of_textures(textures: World, tmp_path: Path) -> None:
    put_stripes(textures, "0.png", 4)
    spec = tmp_path / "nightly.yaml"
    spec.write_text(
        f"recipe: texture\ninput: {textures.inbox}\nresults: {textures.results}\nk: 3\n"
        "preset: gabor\ngrace: 0\nblock_mpx: 1\n"
    )
    done = CliRunner().invoke(cli, ["nightly", str(spec)])
    assert done.exit_code == 0, done.output
    assert "1 new, 0 changed, 1 done" in done.output
    for key in ("keep_responses=true", "shared=true"):
        done = CliRunner().invoke(cli, ["nightly", str(spec), "--set", key])
        assert done.exit_code == 2
        assert "does not apply to a nightly job" in done.output


DIGITS = {"k": 3, "preset": "gradient", "workers": 1}


def put_strokes(world: World, name: str, kind: int, seed: int) -> Path:
    """A character of 24 × 20 px: a bar, a ring or a cross, a little to one side."""
    ink = np.zeros((24, 20), np.uint8)
    dy, dx = np.random.default_rng(seed).integers(-2, 3, 2)
    y, x = int(12 + dy), int(10 + dx)
    if kind == 0:
        cv2.line(ink, (x, y - 8), (x, y + 8), 255, 2)
    elif kind == 1:
        cv2.circle(ink, (x, y), 6, 255, 2)
    else:
        cv2.line(ink, (x - 6, y - 6), (x + 6, y + 6), 255, 2)
        cv2.line(ink, (x - 6, y + 6), (x + 6, y - 6), 255, 2)
    path = world.inbox / name
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), ink)
    return world.touch(path)


@pytest.fixture
def characters(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.settings = replace(world.settings, recipe="digits", options=DIGITS)
    return world


@pytest.mark.slow
def test_nights_of_digits(characters: World) -> None:
    world = characters
    for i in range(2):
        put_strokes(world, f"few/{i}.png", i, i)
    early = world.night(refit=3)
    assert (early.new, early.done, early.pending, early.model) == (2, 0, 2, None)
    for i in range(28):
        put_strokes(world, f"{i}.png", i % 3, i)
    first = world.night(refit=3)
    assert (first.new, first.done, first.model, first.fitted) == (28, 30, 1, True)
    assert first.drift == pytest.approx(1.0)
    before = {p: p.read_bytes() for p in world.results.rglob("*.zarr/**/*") if p.is_file()}

    kinds = [put_strokes(world, f"new{i}.png", i % 3, 100 + i) for i in range(6)]
    odd = world.inbox / "line\nbreak.png"
    put_strokes(world, "made.png", 1, 7).rename(odd)
    for bad, content in (("bad.png", b""), ("half.png", kinds[0].read_bytes()[:60])):
        (world.inbox / bad).write_bytes(content)
        world.touch(world.inbox / bad)
    second = world.night(refit=3)
    assert (second.done, second.quarantined, second.fitted) == (7, 2, False)
    found = [find(world.results, path) for path in (*kinds, odd)]
    (path,) = {one["run"] for one in found}
    run = open_run(path)
    names = bytes(run.array("names")).decode().splitlines()
    label = dict(zip(names, run.labels()[:], strict=True))
    labels = [int(label[one["image"]]) for one in found]
    assert labels[:3] == labels[3:6]
    assert len(set(labels[:3])) == 3
    assert labels[6] == labels[1]

    put_strokes(world, "last.png", 2, 9)
    world.night(refit=3)
    third = world.night(refit=3, relabel=True)
    assert (third.model, third.fitted, third.done) == (2, True, 38)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert status(world.results)["files"] == {"done": 38, "quarantined": 2}
    assert verify(world.results) == []


@pytest.mark.slow
def test_verify_finds_damage_in_labels(characters: World) -> None:
    for i in range(9):
        put_strokes(characters, f"{i}.png", i % 3, i)
    (stamp,) = characters.night().runs
    run = characters.results / "runs" / f"{stamp}.zarr"
    for chunk in (run / "labels" / "c").rglob("*"):
        if chunk.is_file():
            data = bytearray(chunk.read_bytes())
            data[-1] ^= 1
            chunk.write_bytes(data)
    findings = "\n".join(verify(characters.results))
    assert "its attributes or arrays are not what was written" in findings
    assert "the labels of 0.png cannot be read" in findings


def test_too_few_usable_characters_wait_for_more(characters: World) -> None:
    """The files are enough for k, those that can be decoded are not."""
    put_strokes(characters, "0.png", 0, 0)
    for i in range(1, 4):
        (characters.inbox / f"{i}.png").write_bytes(b"nothing")
        characters.touch(characters.inbox / f"{i}.png")
    with pytest.raises(UsageError, match="k is 3; 1 images"):
        characters.night()
    for i in range(4, 9):
        put_strokes(characters, f"{i}.png", i % 3, i)
    night = characters.night()
    assert (night.done, night.quarantined) == (6, 3)
    assert verify(characters.results) == []


def test_the_command_runs_a_night_of_digits(characters: World, tmp_path: Path) -> None:
    for i in range(6):
        put_strokes(characters, f"{i}.png", i % 3, i)
    other = tmp_path / "other"
    other.mkdir()
    spec = tmp_path / "nightly.yaml"
    spec.write_text(
        f"recipe: digits\ninput: [{characters.inbox}, {other}]\nresults: {characters.results}\n"
        "k: 3\ngrace: 0\npolarity: light\n"
    )
    done = CliRunner().invoke(cli, ["nightly", str(spec)])
    assert done.exit_code == 0, done.output
    assert "6 new, 0 changed, 6 done" in done.output
    done = CliRunner().invoke(cli, ["nightly", str(spec), "--set", "test=more/"])
    assert done.exit_code == 2
    assert "'test' does not apply to a nightly job" in done.output


def test_nights_of_channels(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.settings = replace(world.settings, recipe="segment", options={"k": 3, "workers": 1})
    put_stripes(world, "0.png", 4)
    put_stripes(world, "1.png", 8)
    first = world.night()
    assert (first.new, first.done, first.model, first.fitted) == (2, 2, 1, True)
    model = open_run(world.results / "models" / "0001.zarr")
    assert model.recipe == "segment"
    assert not any((model.path / "images").rglob("labels"))

    put_stripes(world, "2.png", 6)
    second = world.night()
    assert (second.new, second.done, second.model, second.fitted) == (1, 1, 1, False)
    run = open_run(find(world.results, world.inbox / "2.png")["run"])
    assert np.array_equal(run.centroids, model.centroids)
    world.settings = replace(world.settings, options={"k": 3, "scale": "standard"})
    with pytest.raises(UsageError, match="'scale' is 'standard', and model 0001 was fitted"):
        world.night()
