"""kill -9 of the whole command: nothing half-written, nothing lost, and resumable."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.folders import ROOT
from tests.support.runs import bytes_of

pytestmark = pytest.mark.slow

N_KILLS = int(os.environ.get("KMDIST_KILLS", "4"))


def start(arguments: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "kmdist", "quantize", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.fixture
def collection(photographs: Path, tmp_path: Path) -> Path:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(300):
        shutil.copy(photographs / f"{2 * (i % 3)}.png", many / f"{i:03d}.png")
    return many


def test_killed_at_random_moments(collection: Path, tmp_path: Path) -> None:
    """An earlier run stays readable until the new one replaces it; --resume ends the same."""
    target = tmp_path / "r.zarr"
    options = [str(collection), "-o", str(target), "--block-mpx", "0.01", "--keep-pixels", "never"]
    options += ["--workers", "2", "-q"]
    assert start([*options, "-k", "3"]).wait() == 0
    earlier = bytes_of(target)
    calm = tmp_path / "calm.zarr"
    started_s = time.monotonic()
    arguments = [str(collection), "-o", str(calm), *options[3:], "-k", "7"]
    assert start(arguments).wait() == 0
    lasts_s = time.monotonic() - started_s
    expected = bytes_of(calm)
    chance = random.Random(0)
    n_killed = 0
    while n_killed < N_KILLS:
        process = start([*options, "-k", "7", "--overwrite", "--resume"])
        try:
            process.wait(timeout=chance.uniform(0.1, 1.0) * lasts_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        n_killed += 1
        assert bytes_of(target) in (earlier, expected)
    assert start([*options, "-k", "7", "--overwrite", "--resume"]).wait() == 0
    assert bytes_of(target) == expected
    assert [path.name for path in tmp_path.glob(".*")] == []
