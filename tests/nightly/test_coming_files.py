"""What comes is labelled as it comes; what waits or was set aside says why, and can be retried."""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from kmdist.cli import cli
from kmdist.errors import UsageError
from kmdist.nightly import Night, find, retry, status, verify, watch_nights
from tests.support.nights import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_files_are_labelled_while_they_come(world: World) -> None:
    pytest.importorskip("watchfiles", reason="watchfiles is not installed")
    world.put("first.png", 1)
    settings = replace(world.settings, grace=1)
    nights: list[Night] = []
    stop, labelled = threading.Event(), threading.Semaphore(0)

    def on_night(night: Night) -> None:
        nights.append(night)
        for _ in range(night.done):
            labelled.release()

    watching = threading.Thread(
        target=watch_nights, args=(settings,), kwargs={"on_night": on_night, "stop": stop}
    )
    watching.start()
    try:
        labelled.acquire()
        path = world.put("sub/second.png", 2)
        os.utime(path)
        came_s = time.time()
        labelled.acquire()
        assert time.time() - came_s >= 1
    finally:
        stop.set()
        watching.join()
    assert sum(night.done for night in nights) == 2
    assert status(world.results)["files"] == {"done": 2}
    assert verify(world.results) == []


def test_there_is_no_folder_to_watch(world: World) -> None:
    pytest.importorskip("watchfiles", reason="watchfiles is not installed")
    world.put("a.png")
    with pytest.raises(UsageError, match="no folder to watch"):
        watch_nights(replace(world.settings, inputs=("sample:photos",)))


def test_what_a_glob_may_yet_match_is_watched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the part of it before the first sign is a folder itself."""
    watchfiles = pytest.importorskip("watchfiles", reason="watchfiles is not installed")
    watched: list[str] = []
    monkeypatch.setattr(
        watchfiles, "watch", lambda *folders, **_: iter(watched.extend(folders) or ())
    )
    (world.inbox / "20").mkdir(parents=True)
    watch_nights(replace(world.settings, inputs=(f"{world.inbox}/20*",)))
    assert watched == [str(world.inbox)]


def test_a_night_says_what_waits_and_what_was_set_aside(world: World) -> None:
    world.put("good.png", 1)
    young = world.put("young.png", 2, age_s=60)
    bad = world.inbox / "bad.jpg"
    bad.write_bytes(b"nothing")
    world.touch(bad)
    now_s = world.now.timestamp()
    night = world.night()
    assert list(night.waits) == [str(young)]
    assert "waits until 20" in night.waits[str(young)]
    assert night.ready_s == pytest.approx(now_s - 60 + 600)
    assert list(night.reasons) == [str(bad)]
    assert night.reasons[str(bad)].startswith("not_image: ")
    shown = CliRunner().invoke(cli, ["nightly", "status", "--results", str(world.results)])
    assert f"waiting {young}" in shown.output


def test_a_file_is_found_by_the_end_of_its_path(world: World) -> None:
    for value, name in enumerate(("2024/a.png", "2024/b.png", "2025/b.png")):
        world.put(name, value)
    world.night()
    assert find(world.results, "a.png")["image"] == "2024/a.png"
    assert find(world.results, "2025/b.png")["path"] == str(world.inbox / "2025/b.png")
    with pytest.raises(UsageError, match=r"'b.png' are 2 files: .*2024/b.png, .*2025/b.png"):
        find(world.results, "b.png")
    with pytest.raises(UsageError, match=r"'\.png' is not in the ledger"):
        find(world.results, ".png")


def test_files_are_taken_out_of_quarantine(world: World) -> None:
    for name in ("a.jpg", "sub/b.jpg"):
        path = world.inbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"nothing")
        world.touch(path)
    assert world.night().quarantined == 2
    assert world.night().quarantined == 0
    assert retry(world.results, [world.inbox / "sub"]) == [str(world.inbox / "sub/b.jpg")]
    assert world.night().quarantined == 1
    assert len(retry(world.results)) == 2
    with pytest.raises(UsageError, match="no quarantined file"):
        retry(world.results, [world.inbox / "none.png"])
    done = CliRunner().invoke(cli, ["nightly", "retry", "--results", str(world.results)])
    assert done.output.endswith("0 files will be tried again by the next night\n")
    assert world.night().quarantined == 2
    (world.inbox / "b.jpg").write_bytes(b"nothing else")
    world.touch(world.inbox / "b.jpg")
    assert world.night().quarantined == 1
    assert retry(world.results, ["a.jpg", "sub/b.jpg"]) == [
        str(world.inbox / name) for name in ("a.jpg", "sub/b.jpg")
    ]
    assert world.night().quarantined == 2
    with pytest.raises(UsageError, match=r"'b.jpg' are 2 files: .*/b.jpg, .*/sub/b.jpg"):
        retry(world.results, ["b.jpg"])
    for words in (["verify"], ["repair"], ["report", "-o", str(world.inbox / "n.html")], ["retry"]):
        quiet = ["nightly", *words, "-q", "--results", str(world.results)]
        done = CliRunner().invoke(cli, quiet)
        assert (done.exit_code, done.output) == (0, ""), words
    assert world.night().quarantined == 3
    assert verify(world.results) == []
    with pytest.raises(UsageError, match="no night has run"):
        retry(world.inbox)
    assert not (world.inbox / "lock").exists()


def test_options_that_the_model_was_not_fitted_with_are_refused(world: World) -> None:
    world.put("a.png", 1)
    world.night()
    refused: dict[str, object] = {
        "k": 5, "space": "oklab", "seed": 3, "background": "black", "init": "random",
        "lock": "brand.gpl", "weights": "masks", "tol": 0,
    }  # fmt: skip
    for name, value in refused.items():  # though there is nothing to label
        with pytest.raises(UsageError, match=rf"{name!r} is .*, and model 0001 was fitted with "):
            world.night(options={"k": 4, "workers": 1, name: value})
    with pytest.raises(UsageError, match="'k' is 16, and model 0001 was fitted with 4:"):
        world.night(options={"workers": 1})
    with pytest.raises(UsageError, match="are of the recipe quantize"):
        world.night(recipe="texture", options={"k": 4})
    world.put("b.png", 2)
    free = {"block_mpx": 0.01, "tol": 1e-4, "background": "white", "keep_pixels": "never"}
    night = world.night(options={"k": 4, "workers": 2, **free})
    assert night.done == 1
    world.put("c.png", 3)
    assert world.night(options={"k": 5, "workers": 1}, refit=1).model == 2


def test_exit_codes_are_in_the_help() -> None:
    shown = CliRunner().invoke(cli, ["nightly", "--help"]).output
    assert all(f"{code}, " in shown for code in (0, 1, 2, 3, 75))
