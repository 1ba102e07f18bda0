"""A writer that dies at any moment leaves the old run or the whole new one, and can be resumed."""

import os
import random
import subprocess
import sys

import pytest

from kmdist.store import open_run, targets
from kmdist.store.claims import claims
from tests.support.folders import ROOT
from tests.support.small_run import IMAGES, write_run

pytestmark = pytest.mark.slow


def generation_of(path):
    """Open the run, and check that it is of one piece."""
    assert [name for name in os.listdir(path.parent) if not name.startswith(".")] == [path.name]
    run = open_run(path)
    generation = int(run.centroids[0, 0])
    assert (run.centroids == generation).all()
    assert run.attributes["fingerprint"] == f"g{generation}"
    assert sorted(run.images) == IMAGES
    for image in IMAGES:
        for level in range(run.image(image).levels):
            assert (run.image(image).labels(level)[...] == generation % 250).all()
    return generation


def files_of(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def only_new_folders_beside(path):
    """Folders that were never seen as a partial run stay for a minute; nothing else does."""
    names = set(os.listdir(path.parent)) - {path.name}
    return all(name.startswith(f".{path.name}.new-") for name in names)


# Starting Python for each death would take most of the time: one process imports, and its
# children die.
NURSERY = """
import os, random, signal, sys, time
from pathlib import Path
from tests.support.small_run import write_run

path = Path(sys.argv[1])
for line in sys.stdin:
    generation, delay_s = line.split()
    child = os.fork()
    if child == 0:
        write_run(path, int(generation))
        os._exit(0)
    if float(delay_s) >= 0:
        time.sleep(float(delay_s))
        os.kill(child, signal.SIGKILL)
    start = time.perf_counter()
    status = os.waitpid(child, 0)[1]
    print(status, time.perf_counter() - start, flush=True)
"""


def test_kill_9_at_20_random_moments(tmp_path):
    path = tmp_path / "killed/r.zarr"
    chance = random.Random(5)
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as nursery:

        def run_child(generation, delay_s=-1.0):
            nursery.stdin.write(f"{generation} {delay_s}\n")
            nursery.stdin.flush()
            status, elapsed_s = nursery.stdout.readline().split()
            return int(status), float(elapsed_s)

        try:
            assert run_child(0)[0] == 0
            durations = [run_child(1)[1], run_child(2)[1]]
            last, deaths = 2, 0
            while deaths < 20:
                status, _ = run_child(last + 1, chance.uniform(0, 1.1 * max(durations)))
                deaths += status != 0
                now = generation_of(path)
                assert now in (last, last + 1)
                last = now
            assert run_child(last + 1)[0] == 0
            assert generation_of(path) == last + 1
        finally:
            nursery.stdin.close()
    fresh = tmp_path / "fresh/r.zarr"
    write_run(fresh, last + 1)
    assert files_of(fresh) == files_of(path)
    assert only_new_folders_beside(path)


class Killed(BaseException):
    """Stands for the death of the process: nothing in the package catches it."""


@pytest.mark.parametrize("exchange", ["at once", "by two renames"])
def test_death_at_every_change_of_the_folder(tmp_path, monkeypatch, exchange):
    """Die after the nth call that changes names on the disk, which is before the next."""
    if exchange == "by two renames":
        monkeypatch.setattr(claims, "_exchange_at_once", lambda *_: False)
    # Waiting for the disk after each of 300 runs is most of the time, and changes no names.
    monkeypatch.setattr(claims, "sync", lambda folder: None)
    monkeypatch.setattr(claims.os, "fsync", lambda descriptor: None)
    left = [0]

    def mortal(function):
        def call(*arguments, **options):
            left[0] -= 1
            result = function(*arguments, **options)
            if left[0] == 0:
                raise Killed
            return result

        return call

    def arm():
        for module, names in (
            (claims.os, ("rename", "replace", "mkdir", "unlink", "rmdir")),
            (claims, ("_exchange_at_once",)),
            (targets, ("_write_all",)),
        ):
            for name in names:
                patch.setattr(module, name, mortal(getattr(module, name)))

    path, shape = tmp_path / "r.zarr", (4, 5)
    write_run(path, 0, shape)
    generation, step, survived = 1, 0, False
    while not survived:
        step += 1
        left[0] = step
        with monkeypatch.context() as patch:
            arm()
            try:
                write_run(path, generation, shape)
                survived = left[0] > 0
            except Killed:
                pass
        if exchange == "by two renames" and not path.exists():
            claims.sweep(path, complete=False)
        now = generation_of(path)
        assert now in (generation - 1, generation)
        write_run(path, generation, shape)
        assert generation_of(path) == generation
        generation += 1
    assert step > 40
    fresh = tmp_path / "fresh/r.zarr"
    write_run(fresh, generation - 1, shape)
    assert files_of(path) == files_of(fresh)
    fresh.parent.rename(tmp_path.with_name(f"{tmp_path.name}-fresh"))
    assert only_new_folders_beside(path)
