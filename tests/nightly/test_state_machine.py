"""Nights against a model of a few lines: whatever happens between them, the states are right."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kmdist.errors import KmdistError
from kmdist.nightly import find, repair, retry, verify
from kmdist.nightly.ledger import LEDGER, LockHeldError, hold_lock
from kmdist.store import open_run
from tests.support.nights import World

pytestmark = pytest.mark.slow

RUNS = int(os.environ.get("KMDIST_NIGHT_RUNS", "4"))
"""Histories that are tried, the same ones each time; 2,000 take about 10 minutes of a core."""

PARTS = 4
"""Tests that share them, each with histories of its own, for processes side by side."""

SEED = int(os.environ.get("KMDIST_NIGHT_SEED", "0"))
"""Of the first part; the others' follow."""

MEMORY = "/dev/shm"
"""Where a history's files cost least, if the system has it: each syncs hundreds, and none lasts."""

NAMES = st.sampled_from(["a.png", "b.png", "sub/c.png", "sub/d.jpg"])
VALUES = st.integers(1, 10**6)


class Nights(RuleBasedStateMachine):
    """A folder, and what is true of each file in it: ``done``, ``quarantined`` or gone."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
        self.world = World(self.folder)
        self.true: dict[str, str] = {}
        self.known: set[str] = set()
        self.has_run = False
        self.put("keep.png", 0)  # an input that becomes empty is an error of its own

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(name=NAMES, value=VALUES)
    def put(self, name: str, value: int) -> None:
        """A file comes, or takes another's place."""
        path = self.world.put(name, value)
        self.world.touch(path, 3600 + value)
        self.true[name] = "done"

    @rule(name=NAMES, value=VALUES)
    def put_bad(self, name: str, value: int) -> None:
        path = self.world.inbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no picture %d" % value)
        self.world.touch(path)
        self.true[name] = "quarantined"

    @rule(name=NAMES, value=VALUES)
    def edit_and_keep_the_time(self, name: str, value: int) -> None:
        if name in self.true:
            path = self.world.inbox / name
            times = path.stat()
            self.world.put(name, value)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            self.true[name] = "done"

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if self.true.pop(name, None):
            (self.world.inbox / name).unlink()

    @rule()
    def night(self) -> None:
        self.world.night()
        self.has_run = True
        self.known |= set(self.true)
        self.check()

    @rule()
    def night_beside_another(self) -> None:
        with hold_lock(self.world.results), pytest.raises(LockHeldError):
            self.world.night()

    @precondition(lambda self: self.has_run)
    @rule(data=st.data())
    def damage_and_repair(self, data: st.DataObject) -> None:
        """A file of a run is damaged; labels are made anew whose originals are there."""
        files = [path for path in (self.world.results / "runs").rglob("*") if path.is_file()]
        if files:
            path = data.draw(st.sampled_from(sorted(files)))
            content = path.read_bytes()
            changed = data.draw(st.sampled_from([b"", content[: len(content) // 2], content[::-1]]))
            path.write_bytes(changed)
            assert (verify(self.world.results) == []) == (changed == content)
        self.mend()

    @precondition(lambda self: self.has_run)
    @rule()
    def lose_the_ledger(self) -> None:
        for path in self.world.results.glob(f"{LEDGER}*"):
            path.unlink()
        if list((self.world.results / "runs").glob("*.zarr")):
            with pytest.raises(KmdistError, match="repair"):
                self.world.night()
            self.known = set()  # of what was never labelled nothing is known
            self.mend()
        else:
            self.has_run = False

    @precondition(lambda self: self.has_run)
    @rule()
    def retry_all(self) -> None:
        retry(self.world.results)

    def mend(self) -> None:
        done = repair(self.world.settings, clock=lambda: self.world.now)
        assert done.left == []
        assert verify(self.world.results) == []

    def check(self) -> None:
        """What the ledger says is true, and labels are those that the model gives."""
        assert verify(self.world.results) == []
        for name in self.known:
            found = find(self.world.results, self.world.inbox / name)
            assert found["gone"] == (name not in self.true), name
            if found["gone"]:
                continue
            assert found["state"] == self.true[name], name
            if found["state"] == "done":
                labels = open_run(found["run"]).image(found["image"]).read_labels()
                model = open_run(self.world.results / "models" / f"{found['model']:04d}.zarr")
                assert np.array_equal(labels, model.predict(self.world.inbox / name)), name


@pytest.mark.parametrize("part", range(PARTS))
def test_nights(part: int) -> None:
    machine = seed(SEED + part)(Nights)
    some = settings(
        max_examples=RUNS // PARTS,
        stateful_step_count=10,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=some)
