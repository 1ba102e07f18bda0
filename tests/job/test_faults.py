"""Faults of the machine, met by the commands: permissions, a full disk, files that vanish."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import kmdist
from kmdist.errors import KmdistError
from kmdist.job import pixels
from kmdist.job.progress import Event, Message
from tests.support.folders import ROOT
from tests.support.permissions import as_user
from tests.support.runs import bytes_of

pytestmark = pytest.mark.slow

CALLS = """
import json, sys
from click.testing import CliRunner
from kmdist.cli import cli
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(cli, words)
    print(json.dumps([done.exit_code, done.output]))
"""


def kmdist_as_user(*calls: list[str]) -> list[tuple[int, str]]:
    """Exit code and output of commands in a process that the modes of files bind."""
    words = as_user([sys.executable, "-c", CALLS, json.dumps(calls)])
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that may be read and not written."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)


def test_permission_denied_is_said_plainly(photographs: Path, locked: Path, tmp_path: Path) -> None:
    (photographs / "0.png").chmod(0)
    shut = tmp_path / "shut"
    shutil.copytree(photographs / "sub", shut)
    shut.chmod(0o300)
    nightly = tmp_path / "nightly.yaml"
    nightly.write_text(f"input: {photographs}\nresults: {tmp_path}/results\nk: 3\ngrace: 0\n")
    spec, inside = str(nightly), f"results={locked}/results"
    quantize = ["quantize", str(photographs), "-k", "3", "-q", "-o"]
    output, night = str(tmp_path / "run.zarr"), ["nightly", spec]
    try:
        unwritable, deep, rejected, unreadable, no_results, quarantined = kmdist_as_user(
            [*quantize, str(locked / "run.zarr")],
            [*quantize, str(locked / "new" / "run.zarr")],
            [*quantize, output, "-v"],
            ["quantize", str(shut), "-o", str(tmp_path / "other.zarr")],
            [*night, "--set", inside],
            night,
        )
    finally:
        shut.chmod(0o700)
    for code, said in (unwritable, deep, unreadable, no_results):
        assert code in (1, 2)
        assert "Permission denied" in said
        assert "Traceback" not in said
    assert str(locked / "run.zarr") in unwritable[1]
    assert str(locked / "new") in deep[1]
    assert str(shut) in unreadable[1]
    assert str(locked / "results") in no_results[1]
    assert not list(locked.iterdir())
    assert rejected[0] == 0, rejected[1]
    (reason,) = kmdist.open_run(output).attributes["rejected"]
    assert (reason["image"], reason["code"]) == ("0.png", "unreadable")
    assert "Permission denied" in reason["reason"]
    assert "6 done" in quarantined[1]
    assert "1 quarantined" in quarantined[1]
    # A new mode is enough for the next night to try again.
    (photographs / "0.png").chmod(0o600)
    assert "1 done" in kmdist_as_user(night)[0][1]


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path,
    small_disk: Path,
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        noise = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"{i:02}.png"), noise)
    keys: dict[str, Any] = {"k": 16, "block_mpx": 0.02, "workers": 1}
    stone, output = small_disk / "stone", small_disk / "run.zarr"
    said: list[Event | Message] = []

    def fill(event: Event | Message) -> None:
        said.append(event)
        if isinstance(event, Event) and event.stage == "label" and not stone.exists():
            free = shutil.disk_usage(small_disk).free
            stone.write_bytes(b"\0" * max(0, free - 100_000))

    with pytest.raises(KmdistError, match="No space left on device") as caught:
        kmdist.quantize(folder, output, watch=fill, **keys)
    assert str(small_disk) in str(caught.value)
    assert any("--resume" in one.text for one in said if isinstance(one, Message))
    assert not output.exists()
    stone.unlink()
    run = kmdist.quantize(folder, output, resume=True, **keys)
    fresh = kmdist.quantize(folder, tmp_path / "fresh.zarr", **keys)
    assert bytes_of(run.path) == bytes_of(fresh.path)


@pytest.mark.parametrize("stage", ["count", "label"])
def test_an_input_that_vanishes_in_the_middle(
    stage: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is counted it is rejected; after, the run waits for it."""
    victim, stored = photographs / "4.png", tmp_path / "4.png"
    original, counted = pixels.read_piece, []

    def vanishing(piece: Any) -> Any:
        counted.append(piece.source.name)
        if victim.exists() and (stage == "count") == (len(counted) <= 7):
            shutil.move(victim, stored)
        return original(piece)

    monkeypatch.setattr(pixels, "read_piece", vanishing)
    keys: dict[str, Any] = {"k": 4, "block_mpx": 0.01, "keep_pixels": "never", "workers": 1}
    output = tmp_path / "run.zarr"
    if stage == "count":
        run = kmdist.quantize(photographs, output, **keys)
        (rejected,) = run.attributes["rejected"]
        assert rejected["image"] == "4.png"
        assert "vanished while the job ran" in rejected["reason"]
        return
    with pytest.raises(
        KmdistError, match=r"4\.png: vanished while the job ran.*resume=True/--resume"
    ):
        kmdist.quantize(photographs, output, **keys)
    shutil.move(stored, victim)
    monkeypatch.undo()
    run = kmdist.quantize(photographs, output, resume=True, **keys)
    fresh = kmdist.quantize(photographs, tmp_path / "fresh.zarr", **keys)
    assert bytes_of(run.path) == bytes_of(fresh.path)
