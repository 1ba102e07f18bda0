"""Inputs of a night stand alone: what fails in one hides nothing of the others."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from kmdist.cli import cli
from kmdist.errors import KmdistError
from kmdist.nightly import status, verify
from kmdist.nightly.ledger import LEDGER, Ledger
from tests.support.nights import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two folders, of which the second is the one that fails."""
    world = World(tmp_path)
    second = tmp_path / "second"
    second.mkdir()
    world.settings = replace(world.settings, inputs=(str(world.inbox), str(second)))
    for i in range(3):
        world.put(f"{i}.png", i)
        shutil.move(world.put(f"moved{i}.png", 10 + i), second)
    return world


def missing(folder: Path, _: pytest.MonkeyPatch) -> None:
    shutil.move(folder, folder.with_name("elsewhere"))


def unmounted(folder: Path, _: pytest.MonkeyPatch) -> None:
    missing(folder, _)
    folder.mkdir()


def emptied(folder: Path, _: pytest.MonkeyPatch) -> None:
    for file in folder.iterdir():
        file.unlink()


def unreadable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def failing(path: Any = ".") -> Any:
        if path == str(folder):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", failing)


FAILURES = (missing, unmounted, emptied, unreadable)


@pytest.mark.slow
@pytest.mark.parametrize("fail", FAILURES)
def test_an_input_that_fails_stands_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, fail: Callable[..., None]
) -> None:
    world.night()
    world.put("new.png", 5)
    (world.inbox / "0.png").unlink()
    second = Path(world.settings.inputs[1])
    with monkeypatch.context() as patch:
        fail(second, patch)
        night = world.night()
    assert list(night.errors) == [str(second)]
    assert (night.new, night.done, night.vanished) == (1, 1, 1)
    assert status(world.results)["files"] == {"done": 6, "vanished": 1}
    with Ledger.open(world.results / LEDGER) as ledger:
        assert all(os.path.isabs(path) for path in ledger.files())
    assert verify(world.results) == []


@pytest.mark.parametrize("fail", FAILURES)
def test_where_the_only_input_fails_nothing_is_changed(
    world: World, monkeypatch: pytest.MonkeyPatch, fail: Callable[..., None]
) -> None:
    world.night(inputs=(world.settings.inputs[1],))
    with monkeypatch.context() as patch:
        fail(Path(world.settings.inputs[1]), patch)
        with pytest.raises(KmdistError, match="nothing was changed") as caught:
            world.night(inputs=(world.settings.inputs[1],))
    assert caught.value.exit_code == 3
    assert status(world.results)["files"] == {"done": 3}


def test_a_folder_inside_that_cannot_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        world.put(f"sub/{i}.png", 20 + i)
    world.night()
    world.put("new.png", 5)
    with monkeypatch.context() as patch:
        unreadable(world.inbox / "sub", patch)
        night = world.night()
    assert list(night.errors) == [str(world.inbox / "sub")]
    assert (night.done, night.vanished, night.quarantined) == (1, 0, 0)
    night = world.night()
    assert (night.errors, night.new, night.changed, night.vanished) == ({}, 0, 0, 0)
    assert status(world.results)["files"] == {"done": 10}


@pytest.mark.parametrize("pattern", ["*.tif", "nowhere/*.png"])
def test_an_empty_glob_beside_a_good_folder(world: World, pattern: str) -> None:
    world.night()
    world.put("new.png", 5)
    glob = str(world.inbox.parent / pattern)
    night = world.night(inputs=(*world.settings.inputs, glob))
    assert (night.done, night.vanished) == (1, 0)
    assert list(night.errors) == ([glob] if "nowhere" in pattern else [])


def test_a_glob_that_matched_and_does_no_more(world: World) -> None:
    glob = f"{world.settings.inputs[1]}/*.png"
    inputs = (str(world.inbox), glob)
    world.night(inputs=inputs)
    emptied(Path(world.settings.inputs[1]), pytest.MonkeyPatch())
    night = world.night(inputs=inputs)
    assert (list(night.errors), night.vanished) == ([glob], 0)


def test_the_command_says_it_and_ends_with_3(world: World) -> None:
    spec = world.inbox.parent / "night.yaml"
    first, second = world.settings.inputs
    spec.write_text(
        f"recipe: quantize\ninput: [{first}, {second}]\nresults: {world.results}\nk: 4\n"
        "grace: 0\nworkers: 1\n"
    )
    assert CliRunner().invoke(cli, ["nightly", str(spec), "-q"]).exit_code == 0
    missing(Path(second), pytest.MonkeyPatch())
    world.put("new.png", 5)
    done = CliRunner().invoke(cli, ["nightly", str(spec)])
    assert done.exit_code == 3
    assert f"input {second} is not there" in done.output
    assert "1 done" in done.output
    told = CliRunner().invoke(cli, ["nightly", "status", "--spec", str(spec)])
    assert f"input {second}: is not there" in told.output


@pytest.mark.parametrize("rename", [False, True])
def test_other_contents_of_the_same_size_and_time_are_seen(world: World, rename: bool) -> None:
    path = world.inbox / "image.bmp"

    def write(value: int) -> None:
        import cv2

        pixels = np.full((8, 8, 3), value, np.uint8)
        fresh = path.with_name("fresh") if rename else path
        fresh.write_bytes(cv2.imencode(".bmp", pixels)[1].tobytes())
        world.touch(fresh, (world.now - first).total_seconds() + 3600)
        fresh.rename(path)

    first = world.now
    write(1)
    world.night()
    size = path.stat().st_size
    write(2)
    assert path.stat().st_size == size
    night = world.night()
    assert (night.changed, night.done) == (1, 1)


def test_a_copy_that_keeps_an_old_time_waits_the_grace_period(world: World) -> None:
    world.night()
    world.now = world.now.now(world.now.tzinfo)
    path = world.put("copied.png", 5, age_s=10 * 86_400)
    night = world.night()
    assert (night.new, night.waiting, night.done) == (1, 1, 0)
    world.now = world.now - timedelta(days=1) + timedelta(minutes=11)
    assert world.night().done == 1
    assert world.state(path.name) == "done"


def test_a_zarr_image_grows_by_chunks(world: World) -> None:
    path = world.inbox / "a.zarr"
    array = zarr.create_array(str(path), shape=(40, 40, 3), chunks=(20, 20, 3), dtype="u1")
    array[:20] = 7
    for file in path.rglob("*"):
        world.touch(file)
    night = world.night()
    assert (night.new, night.done, night.quarantined) == (7, 7, 0)
    array[20:] = 200
    for file in path.rglob("*"):
        world.touch(file, 86_400 + 3600)
    night = world.night()
    assert (night.changed, night.done) == (1, 1)
    assert world.night().done == 0
    assert verify(world.results) == []


def test_a_lost_file_is_tried_again_the_next_night(world: World) -> None:
    world.night()
    for error in ("lost: its worker died", "memory: needs more than there is"):
        with Ledger.open(world.results / LEDGER) as ledger, ledger.transaction():
            row = next(iter(ledger.files().values()))
            ledger.put_files([replace(row, state="quarantined", error=error, run=None)])
        night = world.night()
        assert (night.done, night.changed) == (1, 0), error
    assert world.night().done == 0
