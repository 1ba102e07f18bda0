"""Throughput of a job on worker processes: 1 and 2 workers, and with one killed every 10 seconds.

    python -m benchmarks cluster --seconds 120                  # about 9 minutes
    python -m benchmarks cluster --seconds 120 --part kills     # 2 workers, without and with kills
    python -m benchmarks cluster --seconds 60 --part scaling    # 1 worker and 2

Workers are started as `dask worker`, killed with SIGKILL, and a fresh one is started in place of
each. The time lost per kill is (time with kills − time without) / kills.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

import kmdist
from tests.support.dask_processes import DaskProcesses

SIDE = 1000
PARTS = {
    "scaling": ("1 worker", "2 workers"),
    "kills": ("2 workers", "2 workers, kills"),
    "all": ("1 worker", "2 workers", "2 workers, kills"),
}


def make_photographs(folder: Path, n_images: int) -> None:
    """PNGs of a megapixel, of few colours and much noise; hard links repeat eight of them."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 16, (SIDE, SIDE, 3), dtype=np.uint8) * np.uint8(16)
    for i in range(n_images):
        path = folder / f"{i:05}.png"
        if i < 8:
            cv2.imwrite(str(path), np.roll(pixels, 31 * i, axis=i % 2) ^ np.uint8(i))
        else:
            os.link(folder / f"{i % 8:05}.png", path)


def run_job(photographs: Path, output: Path, address: str) -> float:
    """Seconds of one job, its client included."""
    started_s = time.monotonic()
    kmdist.quantize(
        photographs, output, k=16, block_mpx=8, keep_pixels="never", scheduler=address, max_iter=20
    )
    return time.monotonic() - started_s


def digest(run: Path) -> str:
    """SHA-256 of everything but the root's record, which holds timings."""
    found = hashlib.sha256()
    for path in sorted(run.rglob("*")):
        if path.is_file() and path != run / "zarr.json":
            found.update(str(path.relative_to(run)).encode() + path.read_bytes())
    return found.hexdigest()


class Killer(threading.Thread):
    """Kills the oldest worker every so often, and starts another."""

    def __init__(self, processes: DaskProcesses, every_s: float) -> None:
        super().__init__(daemon=True)
        self._processes, self._every_s = processes, every_s
        self._stop_now = threading.Event()
        self.kills = 0

    def run(self) -> None:
        while not self._stop_now.wait(self._every_s):
            victim: subprocess.Popen[bytes] = self._processes.workers.pop(0)
            victim.kill()
            victim.wait()
            self.kills += 1
            self._processes.workers.append(self._processes.add_worker())

    def stop(self) -> int:
        """End, and say how many were killed."""
        self._stop_now.set()
        self.join()
        return self.kills


def main(arguments: Sequence[str]) -> None:
    """Entry point of ``python -m benchmarks cluster``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="length of the job, about")
    parser.add_argument("--every", type=float, default=10, help="seconds between kills")
    parser.add_argument("--part", choices=PARTS, default="all")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kmdist-cluster-") as name:
        folder = Path(name)
        n_images = 48
        make_photographs(folder / "trial", n_images)
        figures: dict[str, float] = {}
        digests = set()
        for case in ("trial", *PARTS[given.part]):
            (folder / case).mkdir(exist_ok=True)
            processes = DaskProcesses(folder / case, 1 if case == "1 worker" else 2)
            try:
                address = processes.address
                if case == "trial":
                    run_job(folder / "trial", folder / "warm.zarr", address)
                    trial_s = run_job(folder / "trial", folder / "trial.zarr", address)
                    n_images = int(n_images * given.seconds / trial_s)
                    make_photographs(folder / "photographs", n_images)
                    continue
                killer = Killer(processes, given.every)
                if "kills" in case:
                    killer.start()
                output = folder / "run.zarr" / case
                figures[case] = run_job(folder / "photographs", output, address)
                if "kills" in case:
                    figures["kills"] = killer.stop()
                digests.add(digest(output))
            finally:
                processes.close()
        print(json.dumps({key: round(value, 1) for key, value in figures.items()}, indent=1))
        print(f"{n_images} Mpx; bytes {'equal' if len(digests) == 1 else 'DIFFER'}")
        if "1 worker" in figures:
            print(f"2 workers {figures['1 worker'] / figures['2 workers']:.2f} x 1")
        if "kills" in figures:
            more_s = figures["2 workers, kills"] - figures["2 workers"]
            print(f"lost per kill {more_s / max(figures['kills'], 1):.2f} s")
        if len(digests) != 1:
            sys.exit(1)
