"""Data, pictures and clusters that several tests share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("KMDIST_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def data_folder(name: str) -> Path:
    """A folder of the public material, or a skip that says what is missing."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"public material {name!r} is not there (KMDIST_DATA)")
    return folder


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of small made photographs: smooth, noisy, grey, with transparency."""
    import cv2

    folder = tmp_path / "photographs"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        y, x = np.mgrid[0 : 60 + 10 * i, 0:90]
        waves = np.stack([np.sin(x / (5 + i)), np.cos(y / 9), np.sin((x + y) / 14)], axis=-1)
        pixels = np.clip(127 + 90 * waves + rng.normal(0, 6, waves.shape), 0, 255)
        name = f"sub/{i}.png" if i % 2 else f"{i}.png"
        cv2.imwrite(str(folder / name), pixels.astype(np.uint8))
    alpha = np.full((40, 50, 4), 200, np.uint8)
    alpha[:20, :, 3] = 0
    alpha[..., 1] = np.arange(50)
    cv2.imwrite(str(folder / "transparent.png"), alpha)
    return folder


class DaskProcesses:
    """A scheduler and workers as separate processes, as `dask scheduler` and `dask worker`."""

    def __init__(self, folder: Path, n_workers: int) -> None:
        self.folder = folder
        self._file = folder / "scheduler.json"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        self._start = lambda *args: subprocess.Popen(
            [sys.executable, "-m", "dask", *args],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        file = ["--scheduler-file", str(self._file)]
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *file
        )
        self.workers = [self.add_worker() for _ in range(n_workers)]

    def add_worker(self) -> "subprocess.Popen[bytes]":
        """One more worker process, without a nanny: killed, it stays dead."""
        return self._start(
            "worker",
            "--scheduler-file",
            str(self._file),
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--host",
            "127.0.0.1",
            "--local-directory",
            str(self.folder),
        )

    @property
    def address(self) -> str:
        """The scheduler's address, once it listens and all workers are there."""
        import json
        import time

        from distributed import Client

        while not (self._file.exists() and self._file.read_text().strip()):
            time.sleep(0.05)
        address = str(json.loads(self._file.read_text())["address"])
        with Client(address, timeout=60) as client:
            client.wait_for_workers(len(self.workers), timeout=120)
        return address

    def close(self) -> None:
        """Kill every process."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def dask_processes(tmp_path: Path) -> Iterator[DaskProcesses]:
    """A scheduler and two workers started as separate processes."""
    folder = tmp_path / "dask"
    folder.mkdir()
    processes = DaskProcesses(folder, 2)
    yield processes
    processes.close()
