"""The nightly run: only what is new, in the right state, with the right model, whatever happens."""

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from kmdist.cli import cli
from kmdist.errors import KmdistError, UsageError
from kmdist.nightly import find, status, verify
from kmdist.nightly.ledger import (
    LEDGER,
    PENDING,
    FileRow,
    Ledger,
    LockHeldError,
    hold_lock,
)
from kmdist.nightly.scan import compare, look
from kmdist.store import open_run
from tests.support.folders import ROOT
from tests.support.nights import BLOCK, START, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_only_what_is_new_or_changed_is_labelled(world: World) -> None:
    for i in range(5):
        world.put(f"{i}.png", i)
    first = world.night()
    assert (first.new, first.done, first.model, first.fitted) == (5, 5, 1, True)
    assert first.drift == pytest.approx(1.0)
    again = world.night()
    assert (again.new, again.done, again.runs) == (0, 0, ())
    world.put("sub/5.png", 5)
    world.put("0.png", 100)
    world.touch(world.inbox / "1.png", 7200)  # another time, the same contents
    (world.inbox / "2.png").unlink()
    third = world.night()
    assert (third.new, third.changed, third.done, third.vanished) == (1, 1, 2, 1)
    (run,) = third.runs
    opened = open_run(world.results / "runs" / f"{run}.zarr")
    assert sorted(opened.images) == ["0.png", "sub/5.png"]
    model = open_run(world.results / "models" / "0001.zarr")
    assert np.array_equal(opened.centroids, model.centroids)
    assert find(world.results, world.inbox / "2.png")["gone"]
    assert verify(world.results) == []


def test_what_vanished_and_comes_back_unchanged_is_not_done_again(world: World) -> None:
    path = world.put("a.png", 1)
    world.put("another.png", 2)
    world.night()
    content, times = path.read_bytes(), path.stat()
    path.unlink()
    assert world.night().vanished == 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    night = world.night()
    assert (night.new, night.changed, night.done) == (0, 0, 0)
    assert world.state("a.png") == "done"


def test_young_and_growing_files_wait(world: World) -> None:
    world.put("old.png", 1)
    world.put("young.png", 2, age_s=30)
    night = world.night()
    assert (night.new, night.done, night.waiting) == (2, 1, 1)
    night = world.night()
    assert (night.new, night.done, night.waiting) == (0, 1, 0)
    # A time in the future is no reason to wait for ever.
    world.put("future.png", 3, age_s=-10 * 86_400)
    assert world.night().waiting == 1
    assert world.night().done == 1


def test_bundled_pictures_do_not_wait_however_new_their_installation() -> None:
    seen, unusable = look(["sample:photos"])
    newest_s = max(one.mtime_ns for one in seen.values()) / 1e9
    found = compare(seen, unusable, {}, newest_s + 1, grace_s=600)
    assert {row.state for row in found.rows.values()} == {PENDING}


def test_bad_files_are_quarantined_until_they_change(world: World) -> None:
    world.put("good.png", 1)
    bad = world.inbox / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    world.touch(bad)
    os.mkfifo(world.inbox / "pipe.png")
    night = world.night()
    assert (night.done, night.quarantined) == (1, 2)
    reasons = status(world.results)["quarantined"]
    assert any(path.endswith("bad.jpg") and reason for path, reason in reasons.items())
    night = world.night()
    assert (night.done, night.quarantined) == (0, 0)
    world.touch(bad, 7000)  # the same bytes again
    assert world.night().quarantined == 0
    world.put("mended.png", 9).rename(bad)
    night = world.night()
    assert (night.changed, night.done, night.quarantined) == (1, 1, 0)
    assert verify(world.results) == []


def test_a_night_of_bad_files_alone(world: World) -> None:
    for name in ("a.jpg", "b.jpg"):
        (world.inbox / name).write_bytes(b"nothing")
        world.touch(world.inbox / name)
    night = world.night()
    assert (night.new, night.done, night.quarantined, night.model) == (2, 0, 2, None)
    world.put("good.png", 1)
    assert world.night().done == 1
    (world.inbox / "c.jpg").write_bytes(b"nothing")
    world.touch(world.inbox / "c.jpg")
    night = world.night()
    assert (night.done, night.quarantined, night.runs) == (0, 1, ())
    assert status(world.results)["started"] == []
    assert verify(world.results) == []


def test_a_new_model_leaves_old_label_maps_alone(world: World) -> None:
    world.put("a.png", 1)
    world.night(refit=2)
    before = {p: p.read_bytes() for p in world.results.rglob("*.zarr/**/*") if p.is_file()}
    world.put("b.png", 2)
    assert world.night(refit=2).model == 1
    world.put("c.png", 3)
    night = world.night(refit=2)
    assert (night.model, night.fitted, night.done) == (2, True, 1)
    assert find(world.results, world.inbox / "a.png")["model"] == 1
    assert find(world.results, world.inbox / "c.png")["model"] == 2
    assert all(path.read_bytes() == content for path, content in before.items())
    night = world.night(refit=2, relabel=True)
    assert night.done == 2
    assert {find(world.results, p)["model"] for p in world.inbox.iterdir()} == {2}
    assert all(path.read_bytes() == content for path, content in before.items())
    assert verify(world.results) == []


def test_drift_is_measured_against_the_model(world: World) -> None:
    flat = np.full((12, 16, 3), 40, np.uint8)
    flat[:6] = 44
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(world.inbox / name), flat + np.arange(16, dtype=np.uint8)[None, :, None])
        world.touch(world.inbox / name)
    world.night()
    world.put("noise.png", 3)
    drift = world.night().drift
    assert drift is not None
    assert drift > 10


def test_one_night_at_a_time(world: World, tmp_path: Path) -> None:
    world.put("a.png")
    with hold_lock(world.results), pytest.raises(LockHeldError) as caught:
        world.night()
    assert caught.value.exit_code == 75
    # A lock file that a crash has left behind means nothing.
    assert (world.results / "lock").exists()
    assert world.night().done == 1
    spec = tmp_path / "nightly.yaml"
    spec.write_text(f"input: {world.inbox}\nresults: {world.results}\nk: 4\n")
    with open(world.results / "lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = CliRunner().invoke(cli, ["nightly", str(spec)])
    assert done.exit_code == 75
    assert "another night is running" in done.output


def test_an_unmounted_input_is_no_folder_of_vanished_files(world: World) -> None:
    world.put("a.png")
    world.night()
    shutil.move(world.inbox, world.inbox.with_name("elsewhere"))
    with pytest.raises(KmdistError, match="is not there"):
        world.night()
    assert status(world.results)["files"] == {"done": 1}


@pytest.mark.slow
def test_it_stops_at_its_hour_and_goes_on_the_next_night(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding an image takes eight minutes of the injected clock; the night has two hours."""
    from kmdist.job import pixels

    original = pixels.read_piece
    decoded: list[str] = []

    def slow(piece: Any) -> Any:
        decoded.append(piece.source.name)
        world.now += timedelta(minutes=8)
        return original(piece)

    monkeypatch.setattr(pixels, "read_piece", slow)
    for i in range(24):
        world.put(f"{i:02}.png", i, shape=BLOCK)
    options = {"k": 4, "workers": 1, "block_mpx": 0.01}
    nights = []
    while not nights or nights[-1].stopped:
        world.now = START + timedelta(days=len(nights))
        hour = (world.now.astimezone() + timedelta(hours=2)).strftime("%H:%M")
        nights.append(world.night(options=options, until=hour))
        assert len(nights) < 10
    assert len(nights) >= 4  # 48 decodes of 8 minutes in nights of 2 hours, or some more
    assert sum(one.done for one in nights) == 24
    # Twice each, to fit and to label, but for the few that were in flight as the hour came.
    assert 48 <= len(decoded) <= 48 + 4 * len(nights)
    assert verify(world.results) == []


def test_verify_finds_loss_and_damage(world: World) -> None:
    for i in range(3):
        world.put(f"{i}.png", i)
    (run,) = world.night().runs
    images = world.results / "runs" / f"{run}.zarr" / "images"
    chunk = next(p for p in (images / "0.png").rglob("c/**/*") if p.is_file())
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    shutil.rmtree(images / "1.png")
    (images.parent / "palette" / "zarr.json").write_text("{}")
    centroids = world.results / "models" / "0001.zarr" / "centroids" / "c" / "0" / "0"
    centroids.write_bytes(centroids.read_bytes()[:-1] + b"?")
    shutil.copytree(images.parent, images.parent.with_name("20200101T000000Z.zarr"))
    findings = "\n".join(verify(world.results))
    assert "the labels of 0.png are damaged or incomplete" in findings
    assert "the labels of 1.png are missing" in findings
    assert "its attributes or arrays are not what was written" in findings
    assert "20200101T000000Z.zarr: a run that the ledger does not know" in findings
    assert "2.png" not in findings
    done = CliRunner().invoke(cli, ["nightly", "verify", "--results", str(world.results)])
    assert done.exit_code == 1
    assert "model 1: array 'centroids'" in findings
    assert "5 findings" in done.output


def test_nights_are_pruned_and_label_maps_are_not(world: World) -> None:
    for i in range(4):
        world.put(f"{i}.png", i)
        world.night(keep_nights=2)
    assert len(list((world.results / "nights").glob("*.json"))) == 2
    assert len(list((world.results / "runs").glob("*.zarr"))) == 4


def test_names_that_are_no_text_or_odd(world: World) -> None:
    names = [b"bad\xff.png", "naïve Ünï.png".encode(), b"new\nline.png", b"case.png", b"CASE.png"]
    plain = world.put("plain.png", 1)
    for i, name in enumerate(names):
        target = os.path.join(os.fsencode(world.inbox), name)
        world.put("made.png", 10 + i)
        os.rename(world.inbox / "made.png", target)
    night = world.night()
    assert night.done == len(names) + 1
    assert find(world.results, plain)["state"] == "done"
    for name in names:
        path = os.fsdecode(os.path.join(os.fsencode(world.inbox), name))
        assert find(world.results, path)["image"] == os.fsdecode(name)
    assert world.night().done == 0
    assert verify(world.results) == []


def as_version_1(path: Path) -> None:
    """A ledger as it was when a row of a file had the digest of its labels."""
    connection = sqlite3.connect(path)
    connection.executescript(
        "ALTER TABLE files ADD COLUMN digest TEXT;"
        "UPDATE files SET digest = (SELECT digest FROM labels WHERE labels.run = files.run "
        "AND labels.name = files.label_name);"
        "DROP TABLE labels; PRAGMA user_version = 1; PRAGMA wal_checkpoint(TRUNCATE);"
    )
    connection.close()


def labelled(ledger: Ledger) -> set[str]:
    runs = {str(row.run) for row in ledger.files().values()}
    return {name for run in runs for name in ledger.labels(run)}


def test_a_ledger_of_version_1_is_read(world: World) -> None:
    world.put("a.png", 1)
    world.put("b.png", 2)
    world.night()
    world.put("a.png", 3)
    world.night()
    path = world.results / LEDGER
    as_version_1(path)
    before = path.read_bytes()
    assert verify(world.results) == []
    assert status(world.results)["files"] == {"done": 2}
    assert path.read_bytes() == before  # a night that still runs goes on with it as it was
    assert world.night().done == 0
    with Ledger.open(path) as ledger:
        assert labelled(ledger) == {"a.png", "b.png"}
    assert verify(world.results) == []


def test_ledgers_of_version_1_may_be_opened_at_once(world: World, tmp_path: Path) -> None:
    world.put("a.png", 1)
    world.night()
    as_version_1(world.results / LEDGER)
    both = threading.Barrier(2)

    def names_in(path: Path) -> set[str]:
        both.wait()
        with Ledger.open(path) as ledger:
            return labelled(ledger)

    with ThreadPoolExecutor(2) as threads:
        for number in range(20):
            path = tmp_path / f"{number}.sqlite"
            shutil.copy(world.results / LEDGER, path)
            assert list(threads.map(names_in, [path, path])) == [{"a.png"}] * 2


def test_a_ledger_keeps_what_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    rows = [
        FileRow(b"/a/\xff", "\udcff", 1, 2, 3, "h", error="x: \udcff'; DROP TABLE files; --"),
        FileRow("/a/ü".encode(), "ü", state="done", run="r", label_name="ü", model=1),
    ]
    with Ledger.open(path) as ledger, ledger.transaction():
        ledger.put_files(rows)
    with Ledger.open(path) as ledger:
        found = ledger.files()
        assert found[rows[1].path] == rows[1]
        assert found[b"/a/\xff"].name == "\udcff"
        assert ledger.files("name = ?", os.fsencode("ü")).keys() == {rows[1].path}
        spoilt = replace(rows[1], state="pending")
        with pytest.raises(AttributeError), ledger.transaction():
            ledger.put_files([spoilt, None])  # type: ignore[list-item]
        assert ledger.files()[rows[1].path].state == "done"
        assert ledger.damage() == []
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(KmdistError, match=r"ledger\.sqlite"), Ledger.open(path):
        pass


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"refit": "monthly"}, "'refit' must be never, weekly"),
        ({"refit": 0}, "'refit' must be"),
        ({"grace": "soon"}, "'grace' must be seconds"),
        ({"until": "25:00"}, "'until' must be an hour"),
        ({"until": 21600}, "'until' must be an hour"),
        ({"keep_nights": 0}, "'keep_nights': 0 is not a valid integer from 1"),
        ({"relabel": "perhaps"}, "'relabel' must be true or false"),
        ({"inputs": ("s3://bucket/inbox",)}, "a night needs folders"),
        ({"results": Path("s3://bucket/results")}, "s3://bucket/results: a night needs folders"),
        ({"recipe": "sheets"}, "recipe 'sheets' is not known"),
    ],
)
def test_settings_are_checked(world: World, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        replace(world.settings, **changes)


def test_the_command_checks_its_keys(world: World, tmp_path: Path) -> None:
    spec = tmp_path / "nightly.yaml"
    spec.write_text(f"input: {world.inbox}\nresults: {world.results}\nk: 4\n")
    for override, said in (
        ("graec=10m", "did you mean 'grace'?"),
        ("k=2,4", "'k' must be one number"),
        ("overwrite=true", "'overwrite' does not apply"),
        ("seed=x", "'seed': 'x' is not a valid integer"),
        ("until=noon", "'until' must be an hour"),
    ):
        done = CliRunner().invoke(cli, ["nightly", str(spec), "--set", override])
        assert done.exit_code == 2, done.output
        assert said in done.output
    done = CliRunner().invoke(cli, ["nightly", "status", "--spec", str(spec)])
    assert done.exit_code == 2
    assert "no night has run" in done.output


def test_the_commands_say_how_things_stand(world: World, tmp_path: Path) -> None:
    world.put("a.png", 1)
    (world.inbox / "b.png").write_bytes(b"")
    world.touch(world.inbox / "b.png")
    spec = tmp_path / "nightly.yaml"
    spec.write_text(f"input: {world.inbox}\nresults: {world.results}\nk: 4\ngrace: 0\n")
    invoke = CliRunner().invoke
    done = invoke(cli, ["nightly", str(spec)])
    assert done.exit_code == 0, done.output
    assert "2 new, 0 changed, 1 done" in done.output
    assert not invoke(cli, ["nightly", str(spec), "-q"]).output
    world.put("c.png", 2)
    done = invoke(cli, ["nightly", str(spec), "--json"])
    said = [json.loads(line) for line in (done.stderr + done.stdout).splitlines()]
    assert {one["event"] for one in said[:-1]} == {"message", "progress"}
    assert (said[-1]["event"], said[-1]["new"], said[-1]["done"]) == ("result", 1, 1)
    for words in (["--spec", str(spec)], [str(spec)], ["--results", str(world.results)]):
        done = invoke(cli, ["nightly", "status", *words])
        assert "2 done, 1 quarantined" in done.output
    assert "b.png: empty" in done.output
    done = invoke(cli, ["nightly", "find", str(world.inbox / "a.png"), "--spec", str(spec)])
    assert "image   a.png" in done.output
    done = invoke(cli, ["nightly", "verify", "--spec", str(spec)])
    assert done.exit_code == 0, done.output


def test_a_full_disk_keeps_what_is_finished(world: World, small_disk: Path) -> None:
    """Results on a file system of 6 MB that fills up in the middle, and is emptied after."""
    results = small_disk / "results"
    for i in range(40):
        world.put(f"{i:02}.png", i)
    options = {"k": 4, "workers": 1, "block_mpx": 0.01}
    settings = replace(world.settings, results=results, options=options)
    world.settings = settings
    with hold_lock(results):
        pass
    world.put("first.png", 99)
    stone = small_disk / "stone"
    free = shutil.disk_usage(small_disk).free
    stone.write_bytes(b"\0" * (free - 400_000))
    with pytest.raises(KmdistError) as caught:
        world.night()
    assert "No space left" in str(caught.value) or "full" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    stone.unlink()
    assert world.night().done == 41
    assert verify(results) == []


def test_an_input_that_vanishes_in_the_middle(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was found and before it is decoded: it is left out, and not quarantined."""
    from kmdist.job import pixels

    world.put("first.png", 0)
    world.night()
    for i in range(1, 9):
        world.put(f"{i}.png", i)
    original = pixels.read_piece
    lock = threading.Lock()

    def vanishing(piece: Any) -> Any:
        with lock:
            (world.inbox / "5.png").unlink(missing_ok=True)
        return original(piece)

    monkeypatch.setattr(pixels, "read_piece", vanishing)
    night = world.night()
    assert (night.done, night.quarantined) == (7, 0)
    night = world.night()
    assert (night.done, night.vanished, night.pending) == (0, 1, 0)
    assert verify(world.results) == []


NIGHT = """
import sys
from datetime import datetime, timedelta, UTC
from kmdist.nightly import Settings, run_night
inbox, results, now, log = sys.argv[1:5]
import kmdist.job.pixels as pixels
decode = pixels.read_piece
def logged(piece):
    with open(log, "a") as file:
        file.write(piece.source.name + "\\n")
    return decode(piece)
pixels.read_piece = logged
settings = Settings((inbox,), __import__("pathlib").Path(results), grace=600,
                    options={"k": 4, "workers": 1, "block_mpx": 0.01})
run_night(settings, clock=lambda: datetime.fromisoformat(now))
"""


def start_night(world: World, log: Path, script: str = NIGHT) -> "subprocess.Popen[bytes]":
    arguments: Sequence[str] = (
        str(world.inbox), str(world.results), world.now.isoformat(), str(log)
    )  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=ROOT)


@pytest.mark.slow
def test_killed_at_every_step_nothing_is_lost_or_done_twice(world: World, tmp_path: Path) -> None:
    """SIGKILL as the n-th image is decoded, for growing n; then a night that is left alone."""
    for i in range(20):
        world.put(f"{i:02}.png", i)
    world.night()
    for i in range(20, 80):
        world.put(f"{i:02}.png", i, shape=BLOCK)
    log = tmp_path / "decoded"
    log.touch()
    kills = 0
    for stop in (5, 25, 45):
        process = start_night(world, log)
        while process.poll() is None and len(log.read_text().splitlines()) < stop:
            time.sleep(0.001)  # a busy wait would take a core from the night
        process.kill()
        process.wait()
        kills += 1
        world.now += timedelta(hours=1)
    process = start_night(world, log)
    assert process.wait() == 0
    decoded = log.read_text().splitlines()
    assert set(decoded) == {f"{i:02}.png" for i in range(20, 80)}
    # What was in flight at a kill is decoded again: one block on the only worker, and blocks
    # that were finished and not yet in the manifest.
    assert len(decoded) <= 60 + 3 * kills
    assert status(world.results)["files"] == {"done": 80}
    assert status(world.results)["started"] == []
    assert verify(world.results) == []
