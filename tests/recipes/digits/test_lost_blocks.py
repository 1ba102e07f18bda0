"""A block of digits that kills three workers is set aside, and stays so; the rest is fitted."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from kmdist.job.progress import Event, Message
from kmdist.recipes.digits.recipe import digits
from kmdist.recipes.digits.stacks import open_stack
from kmdist.recipes.digits.tree import split
from kmdist.recipes.predict import predict
from kmdist.store import Run
from tests.support.deaths import deaths, poisoned_workers
from tests.support.runs import bytes_of

pytestmark = pytest.mark.slow

POISON = """
import kmdist.recipes.digits.procedure
import kmdist.recipes.digits.stacks.arrays as arrays
import kmdist.recipes.digits.stacks.files as files
read, grey = arrays.ArrayStack.read, files.decoded_grey
def read_rows(self, start, stop):
    die_if(start <= 700 < stop)
    return read(self, start, stop)
def read_file(source):
    die_if("poison" in source.name)
    return grey(source)
arrays.ArrayStack.read, files.decoded_grey = read_rows, read_file
"""

DEATHS = 6
"""Three among others, and three alone."""
PROCESSES = {"workers": 2, "worker_kind": "process", "block_mpx": 0.06}
BLOCK = slice(468, 702)
"""Images 468 to 701: the third of eight blocks of 8 × 8 px, of which image 700 kills."""


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with poisoned_workers(tmp_path_factory.mktemp("poison"), POISON) as armed:
        yield armed


@pytest.fixture
def armed(poisoned: Path) -> Iterator[Path]:
    """A file; while it is there, reading image 700, or one called poison, kills the worker."""
    yield poisoned
    poisoned.unlink(missing_ok=True)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    opened = open_stack("sample:digits")[0]
    np.savez(tmp_path / "x.npz", images=opened.read(0, 1797), labels=opened.classes)
    return tmp_path / "x.npz"


def require_set_aside(run: Run) -> None:
    """All but the images of the block are labelled, scored and counted."""
    (rejected,) = run.attributes["rejected"]
    assert rejected["image"].endswith("x.npz, images 468 to 701")
    assert rejected["code"] == "lost"
    assert "several workers" in rejected["reason"]
    labels = run.labels()[:]
    assert run.attributes["unclustered"] == np.iinfo(labels.dtype).max
    inside = np.zeros(1797, bool)
    inside[BLOCK] = True
    np.testing.assert_array_equal(labels == run.attributes["unclustered"], inside)
    np.testing.assert_array_equal(run.counts, np.bincount(labels[~inside], minlength=run.k))
    assert run.attributes["n_images"] == run.array("confusion").sum() == 1797 - 234
    assert not inside[run.array("members/drawn")].any()


class StopError(Exception):
    """Ends a job where a test wants."""


def test_a_block_is_set_aside_and_stays_so(stack: Path, armed: Path, tmp_path: Path) -> None:
    armed.touch()
    options = {"preset": "gradient", "k": 10, "max_iter": 3, **PROCESSES}

    def stop(event: Event | Message) -> None:
        if isinstance(event, Event) and event.stage == "fit":
            raise StopError

    with pytest.raises(StopError):
        digits(stack, tmp_path / "run.zarr", watch=stop, **options)
    died = deaths(armed)
    assert died == DEATHS
    run = digits(stack, tmp_path / "run.zarr", resume=True, **options)
    assert deaths(armed) == died
    require_set_aside(run)
    whole = digits(stack, tmp_path / "whole.zarr", **options)
    assert bytes_of(run.path) == bytes_of(whole.path)
    finer = split(run, tmp_path / "finer.zarr", cluster=2, k=2)
    require_set_aside(finer)


def test_rows_of_pixels_that_are_kept(stack: Path, armed: Path, tmp_path: Path) -> None:
    armed.touch()
    options = {"preset": "raw", "k": 5, "max_iter": 3, **PROCESSES}
    kept = digits(stack, tmp_path / "kept.zarr", keep_pixels="always", **options)
    assert deaths(armed) == DEATHS
    require_set_aside(kept)


def test_a_block_lost_after_it_was_fitted(stack: Path, armed: Path, tmp_path: Path) -> None:
    def arm(event: Event | Message) -> None:
        if isinstance(event, Event) and event.stage == "fit":
            armed.touch()

    options = {"preset": "landmark", "k": 10, "keep_pixels": "always", **PROCESSES}
    run = digits(stack, tmp_path / "run.zarr", watch=arm, **options)
    require_set_aside(run)
    armed.unlink()
    whole = digits(stack, tmp_path / "whole.zarr", preset="landmark", k=10, block_mpx=0.06)
    expected = whole.labels()[:]
    expected[BLOCK] = 255
    # Clusters were numbered while the block had rows, so the others have the labels they had.
    np.testing.assert_array_equal(run.labels()[:], expected)


def test_new_images(stack: Path, armed: Path, tmp_path: Path) -> None:
    model = digits("sample:digits", tmp_path / "model.zarr", preset="landmark", k=10)
    armed.touch()
    require_set_aside(predict(model, stack, tmp_path / "new.zarr", **PROCESSES))


def test_files_are_as_if_never_there(armed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    for number, image in enumerate(open_stack("sample:digits")[0].read(0, 90)):
        part = folder / str(number % 2)
        part.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(part / f"{number}{'-poison' * (number == 40)}.png"), image)
    armed.touch()
    options = {**PROCESSES, "block_mpx": 0.01, "preset": "raw", "k": 3}
    run = digits(folder, tmp_path / "run.zarr", **options)
    assert deaths(armed) == DEATHS
    lost = [one["image"] for one in run.attributes["rejected"]]
    assert "0/40-poison.png" in lost
    assert len(lost) == 39
    assert len(run.names) == len(run.labels()[:]) == 90 - 39
    assert run.attributes["unclustered"] is None
    for name in lost:
        (folder / name).unlink()
    without = digits(folder, tmp_path / "without.zarr", preset="raw", k=3, block_mpx=0.01)
    assert bytes_of(run.path) == bytes_of(without.path)
