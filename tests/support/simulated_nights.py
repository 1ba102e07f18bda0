"""Nights at length over a folder that grows, some killed, one on a full disk."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kmdist.nightly import verify
from kmdist.nightly.ledger import DONE, Ledger
from kmdist.store import open_run
from tests.support.folders import ROOT

START = datetime(2026, 3, 1, 1, 0, tzinfo=UTC)


BLOCK = (64, 100)
"""Rows and columns of an image that fills a block of 0.01 Mpx."""


ONE_NIGHT = """
import sys
from datetime import datetime
from pathlib import Path
from kmdist.nightly import Settings, run_night
from kmdist.recipes.quantize import blocks, model
inbox, results, now, log, refit = sys.argv[1:6]
def logged(function, what):
    def call(piece, *further):
        with open(log, "a") as file:
            file.write(f"{what} {piece.source.mtime_ns} {piece.source.name}\\n")
        return function(piece, *further)
    return call
model.decode_piece = logged(model.decode_piece, "label")
blocks.decode_piece = logged(blocks.decode_piece, "fit")
settings = Settings((inbox,), Path(results), grace=600, refit=refit,
                    options={"k": 4, "workers": 1, "block_mpx": 0.01})
run_night(settings, clock=lambda: datetime.fromisoformat(now))
"""


@dataclass
class World:
    """A folder that grows, and what is true of it.

    Parameters
    ----------
    good, bad : names of files that can and cannot be used, as they are now.
    """

    folder: Path
    seed: int
    good: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)
    now: datetime = START
    versions: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.inbox.mkdir(parents=True)

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def log(self) -> Path:
        return self.folder / "decoded"

    def write(self, name: str, *, bad: bool) -> None:
        """A file that has not been there before under this name and time."""
        self.versions += 1
        path = self.inbox / name
        path.parent.mkdir(exist_ok=True)
        rng = np.random.default_rng(self.versions)
        pixels = rng.integers(0, 256, (*BLOCK, 1), dtype=np.uint8) // 64 * 64 + np.arange(
            3, dtype=np.uint8
        ) * int(rng.integers(1, 20))
        data = cv2.imencode(".png", pixels.astype(np.uint8))[1].tobytes()
        if bad:
            data = (b"", data[: len(data) // 2], b"no image")[self.versions % 3]
        path.write_bytes(data)
        then_s = self.now.timestamp() - self.random.uniform(700, 80_000)
        os.utime(path, (then_s, then_s))
        (self.bad if bad else self.good).add(name)
        (self.good if bad else self.bad).discard(name)

    def day(self, arriving: int) -> None:
        """What happens between two nights: files arrive, change, are mended, vanish."""
        for _ in range(arriving):
            name = f"{self.versions % 7}/{self.versions:06}.png"
            self.write(name, bad=self.random.random() < 0.02)
        for name in sorted(self.good):
            chance = self.random.random()
            if chance < 0.004:
                self.write(name, bad=False)
            elif chance < 0.006:
                (self.inbox / name).unlink()
                self.good.discard(name)
        for name in sorted(self.bad):
            if self.random.random() < 0.02:
                self.write(name, bad=False)

    def start(self) -> "subprocess.Popen[bytes]":
        """One night, in a process of its own that can be killed."""
        arguments = (self.inbox, self.results, self.now.isoformat(), self.log, "10")
        return subprocess.Popen(
            [sys.executable, "-c", ONE_NIGHT, *map(str, arguments)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )

    def night(self) -> None:
        """One night that must end well."""
        process = self.start()
        errors = process.communicate()[1].decode()
        if process.returncode:
            raise RuntimeError(f"night of {self.now}: exit {process.returncode}: {errors}")
        self.now += timedelta(minutes=10)


@dataclass
class Outcome:
    """What a simulation came to; `faults` is empty if all was well."""

    nights: int
    kills: int
    killed_in_run: int
    good: int
    quarantined: int
    gone: int
    models: list[int]
    labelled: int
    decoded: int
    twice: int
    faults: list[str]


def simulate(
    folder: Path, *, nights: int, files: int, kills: int, full_disk: bool = True, seed: int = 0
) -> Outcome:
    """Run nights, kill some at a random moment, fill the disk on one, and look at the end.

    Parameters
    ----------
    kills : nights on which SIGKILL comes, at a moment drawn from the length of the last night;
        the same night is started again after, as systemd would.
    full_disk : results lie on a tmpfs, full on one night (needs the right to mount).
    """
    world = World(folder, seed)
    chance = random.Random(seed + 1)
    killed = set(chance.sample(range(1, nights), kills))
    full = chance.choice(sorted(set(range(1, nights)) - killed)) if full_disk else -1
    world.results.mkdir()
    in_run, took_s = 0, 4.0
    world.log.touch()
    with _disk(world.results) if full_disk else _nothing() as resize:
        for number in range(nights):
            world.now = START + timedelta(days=number)
            world.day(files // nights)
            if number in killed:
                process = world.start()
                time.sleep(chance.uniform(0.1, 1.0) * took_s)
                process.kill()
                process.communicate()
                in_run += bool(list((world.results / "runs").glob(".*.partial")))
                world.now += timedelta(minutes=10)
            if number == full:
                resize(_used(world.results) + 300_000)
                process = world.start()
                errors = process.communicate()[1].decode()
                if not process.returncode or ("full" not in errors and "No space" not in errors):
                    raise RuntimeError(f"a full disk was not told of: {errors}")
                resize(1 << 30)
            started_s = time.monotonic()
            world.night()
            took_s = time.monotonic() - started_s
        return _judge(world, nights, kills, in_run)


def _judge(world: World, nights: int, kills: int, in_run: int) -> Outcome:
    """Hold ledger, results and the log of decodes against what is true."""
    faults = verify(world.results)
    with Ledger.open(world.results / "ledger.sqlite") as ledger:
        rows = {row.name: row for row in ledger.files().values()}
        models = ledger.models()
        runs = {str(run["run"]): int(run["model"]) for run in ledger.runs("published")}
    for name in world.good:
        if rows[name].state != DONE or rows[name].gone:
            faults.append(f"{name}: good, but {rows[name].state}")
    for name in world.bad:
        if rows[name].state != "quarantined" or not rows[name].error:
            faults.append(f"{name}: bad, but {rows[name].state}")
    for name in set(rows) - world.good - world.bad:
        if not rows[name].gone:
            faults.append(f"{name}: not there, but {rows[name].state}")
    centroids = {n: open_run(world.results / f"models/{n:04}.zarr").centroids for n in models}
    for run, model in runs.items():
        made = open_run(world.results / "runs" / f"{run}.zarr").centroids
        if not np.array_equal(made, centroids[model]):
            faults.append(f"run {run}: its centroids are not those of model {model}")
        at_s = datetime.strptime(run, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if model != max(number for number, made_s in models.items() if made_s <= at_s):
            faults.append(f"run {run}: model {model} was not the newest")
    for row in rows.values():
        if row.state == DONE and row.run is not None and runs[row.run] != row.model:
            faults.append(f"{row.name}: model {row.model} in run {row.run} of another")
    lines = [line.split(" ", 2) for line in world.log.read_text().splitlines()]
    labelled = Counter((name, mtime) for what, mtime, name in lines if what == "label")
    counts = Counter(
        "gone" if row.gone else "good" if row.state == DONE else "bad" for row in rows.values()
    )
    return Outcome(
        nights=nights,
        kills=kills,
        killed_in_run=in_run,
        good=counts["good"],
        quarantined=counts["bad"],
        gone=counts["gone"],
        models=sorted(models),
        labelled=len(labelled),
        decoded=sum(labelled.values()),
        twice=sum(n - 1 for n in labelled.values()),
        faults=faults,
    )


@contextmanager
def _disk(folder: Path) -> Any:
    """A tmpfs on the folder; yields a function that sets its size."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", str(folder)], check=True)

    def resize(size_bytes: int) -> None:
        options = f"remount,size={size_bytes // 4096 * 4096}"
        subprocess.run(["mount", "-o", options, str(folder)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def _nothing() -> Any:
    yield lambda size_bytes: None


def _used(folder: Path) -> int:
    return shutil.disk_usage(folder).used
