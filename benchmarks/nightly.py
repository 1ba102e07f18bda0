"""Nights at length: `simulate` runs many with kills and a full disk, `overhead` times one.

python -m benchmarks nightly simulate --nights 30 --files 5000 --kills 10
python -m benchmarks nightly overhead --known 100000 --new 100
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kmdist.nightly.ledger import DONE, FileRow, Ledger
from tests.support.simulated_nights import World, simulate

ROOT = Path(__file__).parent.parent
START = datetime(2026, 3, 1, 1, 0, tzinfo=UTC)


def overhead(folder: Path, *, known: int, new: int) -> dict[str, float]:
    """What a night costs beyond its new images when the ledger knows many.

    The known files are there, empty but with the size and time that the ledger has.

    Returns
    -------
    dict : seconds and peak memory of a night with the known files and of one without.
    """
    found = {}
    for n_known in (0, known):
        place = folder / str(n_known)
        inbox, results = place / "inbox", place / "results"
        inbox.mkdir(parents=True)
        results.mkdir()
        then_ns = int((START.timestamp() - 7200) * 1e9)
        rows = []
        for i in range(n_known):
            path = inbox / f"{i % 100:02}" / f"{i:06}.png"
            path.parent.mkdir(exist_ok=True)
            path.touch()
            os.utime(path, ns=(then_ns, then_ns))
            name = f"{i % 100:02}/{i:06}.png"
            rows.append(
                FileRow(os.fsencode(path), name, 0, then_ns, 0, "f" * 64, "f" * 64, state=DONE,
                        run="20260101T000000Z", label_name=name, model=1, digest="0" * 64)
            )  # fmt: skip
        with Ledger.open(results / "ledger.sqlite") as ledger, ledger.transaction():
            ledger.put_files(rows)
        world = World(place / "made", 1)
        for i in range(new + 1):
            world.write(f"new{i:03}.png", bad=False)
        shutil.move(world.inbox / "new000.png", inbox / "first.png")
        # The model is fitted and all kernels are compiled by an earlier night.
        _measure(inbox, results, START)
        for path in world.inbox.iterdir():
            shutil.move(path, inbox / path.name)
        took_s, peak_mb, done = _measure(inbox, results, START + timedelta(days=1))
        if done != new:
            raise RuntimeError(f"{done} of {new} labelled")
        found[f"seconds_{n_known}"], found[f"megabytes_{n_known}"] = took_s, peak_mb
    return found


_MEASURED = """
import json, resource, sys, time
from datetime import datetime
from pathlib import Path
from kmdist.nightly import Settings, run_night
inbox, results, now = sys.argv[1:4]
started_s = time.process_time()
settings = Settings((inbox,), Path(results), options={"k": 4, "workers": 1}, refit_images=1)
night = run_night(settings, clock=lambda: datetime.fromisoformat(now))
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
print(json.dumps([time.process_time() - started_s, peak_mb, night.done]))
"""


def _measure(inbox: Path, results: Path, now: datetime) -> tuple[float, float, int]:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(inbox), str(results), now.isoformat()],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    took_s, peak_mb, labelled = json.loads(done.stdout)
    return took_s, peak_mb, labelled


def main(arguments: Sequence[str]) -> None:
    """Entry point of ``python -m benchmarks nightly``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks nightly", description=__doc__)
    parser.add_argument("what", choices=("simulate", "overhead"))
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--known", type=int, default=100_000)
    parser.add_argument("--new", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kmdist-nights-") as folder:
        if given.what == "overhead":
            found = overhead(Path(folder), known=given.known, new=given.new)
            print(json.dumps({key: round(value, 2) for key, value in found.items()}, indent=1))
            more_s = found[f"seconds_{given.known}"] - found["seconds_0"]
            more_mb = found[f"megabytes_{given.known}"] - found["megabytes_0"]
            print(f"{given.known:,} known files cost {more_s:.2f} s CPU and {more_mb:.0f} MB")
        else:
            outcome = simulate(
                Path(folder),
                nights=given.nights,
                files=given.files,
                kills=given.kills,
                full_disk=os.geteuid() == 0,
                seed=given.seed,
            )
            print(json.dumps(outcome.__dict__, indent=1))
