"""Digits after kill -9 of the command and of workers: nothing lost, the same bytes."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kmdist.job.progress import Event, Message
from kmdist.recipes.digits.recipe import digits
from kmdist.recipes.digits.stacks import open_stack
from tests.support.dask_processes import DaskProcesses
from tests.support.folders import ROOT
from tests.support.runs import bytes_of

pytestmark = pytest.mark.slow

N_KILLS = int(os.environ.get("KMDIST_KILLS", "3"))


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    images = open_stack("sample:digits")[0].read(0, 1797)
    np.save(tmp_path / "x.npy", np.concatenate([np.roll(images, i, axis=2) for i in (0, 1)]))
    return tmp_path / "x.npy"


def start(arguments: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "kmdist", "digits", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def test_killed_at_random_moments(stack: Path, tmp_path: Path) -> None:
    options = [str(stack), "--preset", "refined", "--block-mpx", "0.05", "-q", "-o"]
    calm, target = tmp_path / "calm.zarr", tmp_path / "r.zarr"
    started_s = time.monotonic()
    assert start([*options, str(calm)]).wait() == 0
    lasts_s = time.monotonic() - started_s
    expected = bytes_of(calm)
    chance = random.Random(1)
    for _ in range(N_KILLS):
        process = start([*options, str(target), "--resume"])
        try:
            process.wait(timeout=chance.uniform(0.4, 1.0) * lasts_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert not target.exists() or bytes_of(target) == expected
    assert start([*options, str(target), "--resume"]).wait() == 0
    assert bytes_of(target) == expected
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_worker_dies_in_each_stage(
    stack: Path, tmp_path: Path, dask_processes: DaskProcesses
) -> None:
    options = {"preset": "landmark", "block_mpx": 0.05, "keep_pixels": "always"}
    digits(stack, tmp_path / "calm.zarr", workers=2, **options)
    dask_processes.workers += [dask_processes.add_worker() for _ in range(2)]
    alive = list(dask_processes.workers)
    stages = {"describe": 3, "fit": 4, "label": 5}

    def kill_one(event: Event | Message) -> None:
        if isinstance(event, Event) and event.done >= stages.get(event.stage, math.inf):
            del stages[event.stage]
            alive.pop().kill()

    digits(
        stack,
        tmp_path / "killed.zarr",
        scheduler=dask_processes.address,
        watch=kill_one,
        **options,
    )
    assert not stages
    assert bytes_of(tmp_path / "killed.zarr") == bytes_of(tmp_path / "calm.zarr")
