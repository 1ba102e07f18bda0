"""A block that kills three workers is set aside with its images named, and the run goes on."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr

import kmdist
from kmdist.job.progress import Event, Message
from kmdist.nightly import find, verify
from kmdist.store import open_run
from tests.support.deaths import deaths, poisoned_workers
from tests.support.nights import World
from tests.support.runs import bytes_of

pytestmark = pytest.mark.slow

POISON = """
import kmdist.job.work as work
import kmdist.recipes.quantize.procedure
decode = work.decode
def read(source, window=None):
    die_if("poison" in source.name)
    return decode(source, window)
work.decode = read
"""


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with poisoned_workers(tmp_path_factory.mktemp("poison"), POISON) as armed:
        yield armed


@pytest.fixture
def armed(poisoned: Path) -> Iterator[Path]:
    """A file; while it is there, decoding an image called poison kills the worker process."""
    yield poisoned
    poisoned.unlink(missing_ok=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("0.png", "1.png", "2-poison.png", "3.png", "4.png", "5.png"):
        pixels = rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / name), pixels)
    return folder


DEATHS = 6
"""Three among others, and three alone."""
PROCESSES = {"workers": 2, "worker_kind": "process", "block_mpx": 0.01}


def test_a_block_lost_after_it_was_counted_has_no_labels(
    folder: Path, armed: Path, tmp_path: Path
) -> None:
    def arm(event: Event | Message) -> None:
        if isinstance(event, Event) and event.stage == "fit":
            armed.touch()

    run = kmdist.quantize(
        folder, tmp_path / "run.zarr", k=4, keep_pixels="never", watch=arm, **PROCESSES
    )
    assert deaths(armed) == DEATHS
    (rejected,) = run.attributes["rejected"]
    assert (rejected["image"], rejected["code"]) == ("2-poison.png", "lost")
    assert "several workers" in rejected["reason"]
    assert "counted in the palette" in rejected["reason"]
    assert len(run.images) == 5
    os.unlink(armed)
    whole = kmdist.quantize(folder, tmp_path / "whole.zarr", k=4, block_mpx=0.01)
    assert _but_fidelity(run) == {
        k: v for k, v in _but_fidelity(whole).items() if "poison" not in k
    }
    place = list(whole.images).index("2-poison.png")
    rows = [zarr.open_array(f"{one.path}/fidelity", mode="r")[:] for one in (run, whole)]
    assert np.array_equal(rows[0], np.delete(rows[1], place, axis=0))


def _but_fidelity(run: kmdist.Run) -> dict[str, str]:
    """Digests of what a run holds, but for its table with a row an image."""
    return {k: v for k, v in bytes_of(run.path).items() if not k.startswith("fidelity/")}


def test_a_night_quarantines_it_with_its_reason(tmp_path: Path, armed: Path) -> None:
    world = World(tmp_path)
    world.put("first.png", 1)
    world.night()
    for i in range(4):
        world.put("poison.png" if i == 2 else f"{i}.png", i, shape=(100, 100))
    armed.touch()
    night = world.night(options={"k": 4, **PROCESSES})
    assert deaths(armed) == DEATHS
    assert (night.done, night.quarantined) == (3, 1)
    found = find(world.results, world.inbox / "poison.png")
    assert found["state"] == "quarantined"
    assert found["error"].startswith("lost: ")
    assert list(open_run(world.results / "runs" / f"{night.runs[0]}.zarr").images) == [
        "0.png",
        "1.png",
        "3.png",
    ]
    assert verify(world.results) == []
