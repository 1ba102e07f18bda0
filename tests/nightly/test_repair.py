"""Damaged and lost results, models and ledgers: told in a line, mended where they can be."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kmdist.cli import cli
from kmdist.errors import KmdistError, UsageError
from kmdist.nightly import find, repair, retry, status, verify
from kmdist.nightly.ledger import LEDGER, Ledger, LedgerDamagedError
from kmdist.store import open_run
from tests.support.nights import World

LEDGER_FILES = (LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two nights: a.png and b.png of the first, c.png of the second."""
    world = World(tmp_path)
    world.put("a.png", 1)
    world.put("sub/b.png", 2)
    world.night()
    world.put("c.png", 3)
    world.night()
    return world


def mended(world: World) -> Any:
    return repair(world.settings, clock=lambda: world.now)


def run_of(world: World, name: str) -> Path:
    return Path(find(world.results, world.inbox / name)["run"])


def chunk_of(run: Path, name: str) -> Path:
    node = run / "images" / open_run(run).images[name].key
    return next(path for path in sorted(node.rglob("s0/labels/c/**/*")) if path.is_file())


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def lose_ledger(world: World) -> None:
    for name in LEDGER_FILES:
        (world.results / name).unlink(missing_ok=True)


def test_damaged_labels_are_made_anew_as_they_were(world: World) -> None:
    path = run_of(world, "a.png")
    before = open_run(path).image("a.png").read_labels()
    spoil(chunk_of(path, "a.png"))
    assert len(verify(world.results)) == 1
    done = mended(world)
    assert (done.remade, done.left) == (1, [])
    assert verify(world.results) == []
    found = find(world.results, world.inbox / "a.png")
    assert found["model"] == 1
    assert Path(found["run"]) != path
    assert (open_run(found["run"]).image("a.png").read_labels() == before).all()
    assert run_of(world, "sub/b.png") == path
    assert mended(world).remade == 0  # again: nothing is left to do


def test_labels_that_a_later_run_stands_for_are_verified_too(world: World) -> None:
    older = run_of(world, "a.png")
    world.put("a.png", 9)
    assert world.night().done == 1
    assert run_of(world, "a.png") != older
    spoil(chunk_of(older, "a.png"))
    text = f"{older}: the labels of a.png are damaged or incomplete"
    assert verify(world.results) == [text]
    done = mended(world)
    assert (done.remade, done.superseded, done.left) == (0, [text], [])
    assert [place.name for place in done.aside] == ["a.png"]
    assert run_of(world, "sub/b.png") == older
    assert [image["name"] for image in open_run(older).info()["images"]] == ["sub/b.png"]
    assert verify(world.results) == []
    lose_ledger(world)
    assert mended(world).left == []
    assert verify(world.results) == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["removed", "root", "palette", "images"])
def test_a_run_that_is_lost_or_damaged_as_a_whole_is_made_anew(world: World, damage: str) -> None:
    path = run_of(world, "a.png")
    if damage == "removed":
        shutil.rmtree(path)
    else:
        (path / ("" if damage == "root" else damage) / "zarr.json").write_text("{}")
    done = mended(world)
    assert (done.remade, done.left) == (2, [])
    assert verify(world.results) == []
    assert [place.name for place in done.aside] == ([] if damage == "removed" else [path.name])
    assert all(place.exists() for place in done.aside)
    assert world.night().done == 0


def test_a_model_that_vanished_is_an_error_and_not_fitted_again(world: World) -> None:
    shutil.rmtree(world.results / "models" / "0001.zarr")
    world.put("d.png", 4)
    for act in (world.night, lambda: world.night(refit=1)):
        with pytest.raises(KmdistError, match=r"0001\.zarr is not there"):
            act()
    spoil(chunk_of(run_of(world, "a.png"), "a.png"))
    done = mended(world)
    assert done.remade == 0
    assert "model 1" in "\n".join(done.left)
    assert "labels of a.png" in "\n".join(done.left)
    assert not (world.results / "models" / "0001.zarr").exists()
    lose_ledger(world)
    assert any("model 1" in text for text in mended(world).left)
    with pytest.raises(KmdistError, match=r"0001\.zarr is not there"):
        world.night()


def test_another_model_under_the_same_number_is_found(world: World) -> None:
    other = World(_folder(world, "other"))
    other.put("z.png", 9)
    other.night()
    model = world.results / "models" / "0001.zarr"
    shutil.rmtree(model)
    shutil.copytree(other.results / "models" / "0001.zarr", model)
    assert sum("another model" in finding for finding in verify(world.results)) == 2


def test_labels_of_what_is_gone_or_has_changed_are_named(world: World) -> None:
    shutil.rmtree(run_of(world, "a.png"))
    (world.inbox / "a.png").unlink()
    world.put("sub/b.png", 20)
    done = mended(world)
    assert [Path(name).name for name in done.lost] == ["a.png"]
    assert [Path(name).name for name in done.changed] == ["b.png"]
    night = world.night()
    assert (night.done, night.vanished) == (1, 1)
    assert verify(world.results) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["lost", "no database", "truncated", "emptied", "places"])
def test_a_ledger_is_rebuilt_from_the_runs(world: World, how: str) -> None:
    path = world.results / LEDGER
    with Ledger.open(path) as ledger:
        before = ledger.files()
    data = bytearray(path.read_bytes())
    if how == "lost":
        lose_ledger(world)
    elif how == "no database":
        path.write_bytes(b"no database" * 1000)
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "emptied":
        path.write_bytes(b"")
    else:
        for start in range(4096, len(data), 4096):
            data[start : start + 40] = b"\xa5" * 40
        path.write_bytes(data)
    with pytest.raises(KmdistError, match="nightly repair"):
        world.night()
    done = mended(world)
    assert (len(done.known), done.remade, done.left) == (2, 0, [])
    assert verify(world.results) == []
    with Ledger.open(path) as ledger:
        after = ledger.files()
    assert {key: replace(row, observed_s=0.0) for key, row in after.items()} == {
        key: replace(row, observed_s=0.0) for key, row in before.items()
    }
    assert world.night().done == 0
    assert status(world.results)["models"] == [1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoilt",
    [
        "UPDATE files SET state = 'dnoe'",
        "UPDATE files SET name = 7",
        "UPDATE files SET size = 'large'",
        "UPDATE files SET error = x'ff'",
        "UPDATE files SET hash = CAST(x'ff' AS TEXT)",
        "UPDATE runs SET model = 'one'",
        "UPDATE runs SET run = '../../elsewhere' WHERE run = (SELECT MIN(run) FROM runs)",
        "UPDATE models SET made_s = 'then'",
        "DROP TABLE runs",
        "ALTER TABLE files DROP COLUMN hash",
    ],
)
def test_values_that_nobody_wrote_are_one_plain_error(world: World, spoilt: str) -> None:
    connection = sqlite3.connect(world.results / LEDGER)
    connection.execute(spoilt)
    connection.commit()
    connection.close()
    world.put("d.png", 4)
    for act in (world.night, lambda: verify(world.results)):
        with pytest.raises(LedgerDamagedError, match="nightly repair"):
            act()
    assert mended(world).left == []
    assert verify(world.results) == []
    assert world.night().done == 1


@pytest.mark.parametrize(
    "spoilt", ["digest = x'ff'", "name = 7 WHERE name = (SELECT MIN(name) FROM labels)"]
)
def test_digests_that_nobody_wrote_are_found_and_mended(world: World, spoilt: str) -> None:
    connection = sqlite3.connect(world.results / LEDGER)
    connection.execute(f"UPDATE labels SET {spoilt}")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerDamagedError, match="nightly repair"):
        verify(world.results)
    assert mended(world).left == []
    assert verify(world.results) == []


@pytest.mark.parametrize("emptied", [True, False])
def test_a_ledger_that_is_lost_is_told_by_all_who_read_it(world: World, *, emptied: bool) -> None:
    lose_ledger(world)
    if emptied:
        (world.results / LEDGER).touch()
    for ask in (
        lambda: status(world.results),
        lambda: verify(world.results),
        lambda: find(world.results, "a.png"),
        lambda: retry(world.results, []),
        world.night,
    ):
        with pytest.raises(KmdistError, match="lost or empty, and there are runs"):
            ask()
    assert len(mended(world).known) == 2


def test_a_file_that_changed_since_its_run_is_labelled_when_the_ledger_is_lost(
    world: World,
) -> None:
    lose_ledger(world)
    world.put("a.png", 10)
    assert mended(world).left == []
    assert world.state("a.png") == "waiting"
    assert world.night().done == 1
    assert verify(world.results) == []


def test_damage_to_labels_is_found_though_the_ledger_is_lost(world: World) -> None:
    spoil(chunk_of(run_of(world, "a.png"), "a.png"))
    lose_ledger(world)
    done = mended(world)
    assert (done.remade, done.left) == (1, [])


def test_repair_as_a_command(world: World, tmp_path: Path) -> None:
    def invoke(*words: str) -> Any:
        return CliRunner().invoke(cli, ["nightly", *words, "--results", str(world.results)])

    spoil(chunk_of(run_of(world, "a.png"), "a.png"))
    assert invoke("verify").exit_code == 1
    done = invoke("repair")
    assert "1 file labelled anew" in done.output
    assert done.exit_code == 0
    assert invoke("verify").exit_code == 0
    shutil.rmtree(world.results / "models" / "0001.zarr")
    failed = invoke("repair")
    assert failed.exit_code == 1
    assert "model 1" in failed.output
    assert "Traceback" not in failed.output
    with pytest.raises(UsageError, match="no night has run"):
        repair(replace(world.settings, results=tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def _folder(world: World, name: str) -> Path:
    folder = world.inbox.parent / name
    folder.mkdir()
    return folder
