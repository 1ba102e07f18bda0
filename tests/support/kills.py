"""kill -9 of the whole command: nothing half-written, nothing lost, and resumable."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.folders import ROOT
from tests.support.runs import bytes_of

N_KILLS = int(os.environ.get("KMDIST_KILLS", "4"))


def start(arguments: list[str]) -> "subprocess.Popen[bytes]":
    """The command in a session of its own, heard by nobody."""
    return subprocess.Popen(
        [sys.executable, "-m", "kmdist", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def check_killed_at_random(words: list[str], folder: Path, n_kills: int = N_KILLS) -> None:
    """An earlier run stays readable until the new one replaces it; --resume ends the same.

    Parameters
    ----------
    words : recipe, input and options; -o and -k are added.
    """
    target, calm = folder / "r.zarr", folder / "calm.zarr"
    words = [*words, "--workers", "2", "-q"]
    assert start([*words, "-o", str(target), "-k", "3"]).wait() == 0
    earlier = bytes_of(target)
    started_s = time.monotonic()
    assert start([*words, "-o", str(calm), "-k", "7"]).wait() == 0
    lasts_s = time.monotonic() - started_s
    expected = bytes_of(calm)
    again = [*words, "-o", str(target), "-k", "7", "--overwrite", "--resume"]
    chance = random.Random(0)
    for _ in range(n_kills):
        process = start(again)
        try:
            process.wait(timeout=chance.uniform(0.1, 1.0) * lasts_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert bytes_of(target) in (earlier, expected)
    assert start(again).wait() == 0
    assert bytes_of(target) == expected
    assert [path.name for path in folder.glob(".*")] == []
