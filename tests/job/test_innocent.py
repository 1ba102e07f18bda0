"""Only the photograph that is at fault is left out, whatever was in flight beside it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import kmdist
from kmdist.cli import cli
from kmdist.images import ImageSource
from kmdist.job import work
from kmdist.recipes.predict import predict
from kmdist.store import Run
from tests.support.deaths import deaths, poisoned_workers
from tests.support.runs import bytes_of

POISON = """
import time
import kmdist.job.work as work
import cv2, kmdist, tempfile, numpy as np
with tempfile.TemporaryDirectory() as folder:  # so that kernels are loaded once
    cv2.imwrite(f"{folder}/a.png", np.arange(3072, dtype=np.uint8).reshape(32, 32, 3))
    kmdist.quantize(folder, f"{folder}/colors.zarr", k=2, workers=1)
    kmdist.texture(folder, f"{folder}/textures.zarr", k=2, workers=1)
decode = work.decode
def read(source, window=None):
    if "slow" in source.name:
        time.sleep(0.3)
    die_if("poison" in source.name)
    return decode(source, window)
work.decode = read
"""

ONE_EACH = {"block_mpx": 0.01, "workers": 2}
SEVERAL = {"block_mpx": 0.5, "workers": 2}
"""Megapixels of a block that holds about seven of the photographs."""


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with poisoned_workers(tmp_path_factory.mktemp("poison"), POISON) as armed:
        yield armed


@pytest.fixture
def armed(poisoned: Path) -> Iterator[Path]:
    """A file; while it is there, decoding a poison kills the worker; slow ones take a while."""
    yield poisoned
    poisoned.unlink(missing_ok=True)


@contextmanager
def threads(armed: Path) -> Iterator[dict[str, Any]]:
    """Threads of this process, which is short of memory where others would die."""
    read = work.decode

    def short_of_memory(source: ImageSource, window: Any = None) -> np.ndarray:
        if "poison" in source.name and armed.exists():
            with armed.open("a") as log:
                log.write("death\n")
            raise MemoryError
        return read(source, window)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(work, "decode", short_of_memory)
        yield {"worker_kind": "thread"}


@contextmanager
def processes(armed: Path) -> Iterator[dict[str, Any]]:
    """Processes that the job starts."""
    yield {"worker_kind": "process"}


@contextmanager
def cluster(armed: Path) -> Iterator[dict[str, Any]]:
    """A cluster that was there before, whose workers a nanny brings back."""
    from distributed import Client, LocalCluster

    with ExitStack() as closing:
        workers = closing.enter_context(
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        )
        yield {"client": closing.enter_context(Client(workers)), "workers": None}


PLACES = {"threads": (threads, "memory"), "processes": (processes, "lost")}
PLACES_AND_CLUSTER = {**PLACES, "cluster": (cluster, "lost")}


def photographs(folder: Path, *poisons: int, n: int = 40) -> Path:
    """Some small photographs, of which some kill; those beside them are slow."""
    folder.mkdir()
    for number in range(n):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        name = "poison" if number in poisons else "slow" if number % 9 == 4 else "plain"
        assert cv2.imwrite(str(folder / f"{number:02}-{name}.png"), pixels)
    return folder


def quantize(folder: Path, output: Path, **how: Any) -> Run:
    return kmdist.quantize(folder, output, k=4, **how)


def quantize_each(folder: Path, output: Path, **how: Any) -> Run:
    return kmdist.quantize(folder, output, k=4, shared=False, **how)


def texture(folder: Path, output: Path, **how: Any) -> Run:
    """Of 7,680 cells, and textons of more than there are: both are sampled."""
    return kmdist.texture(folder, output, k=3, preset="textons", shared=True, sample=0.5, **how)


def texture_each(folder: Path, output: Path, **how: Any) -> Run:
    return kmdist.texture(folder, output, k=3, preset="gabor", **how)


def model_of(recipe: Callable[..., Run], folder: Path) -> Run:
    """Clusters that were fitted to other photographs."""
    return recipe(photographs(folder / "others", n=3), folder / "model.zarr", workers=1)


def predict_colors(folder: Path, output: Path, **how: Any) -> Run:
    return predict(model_of(quantize, output.parent), folder, output, **how)


def predict_textures(folder: Path, output: Path, **how: Any) -> Run:
    return predict(model_of(texture, output.parent), folder, output, **how)


RECIPES = [
    quantize,
    quantize_each,
    texture,
    texture_each,
    predict_colors,
    predict_textures,
]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("place", PLACES)
def test_one_of_forty(recipe: Callable[..., Run], place: str, armed: Path, tmp_path: Path) -> None:
    check(recipe, place, armed, tmp_path, ONE_EACH, 17)


@pytest.mark.parametrize("place", PLACES_AND_CLUSTER)
def test_three_poisons_among_slow_neighbours(place: str, armed: Path, tmp_path: Path) -> None:
    check(quantize, place, armed, tmp_path, ONE_EACH, 3, 4, 30)


@pytest.mark.parametrize("recipe", [quantize, texture_each])
def test_a_block_is_halved_down_to_the_one(
    recipe: Callable[..., Run], armed: Path, tmp_path: Path
) -> None:
    check(recipe, "processes", armed, tmp_path, SEVERAL, 17)


def check(
    recipe: Callable[..., Run],
    place: str,
    armed: Path,
    tmp_path: Path,
    blocks: dict[str, Any],
    *poisons: int,
) -> None:
    """A run beside poisons, and one of the others alone."""
    folder = photographs(tmp_path / "photographs", *poisons)
    armed.touch()
    begin, code = PLACES_AND_CLUSTER[place]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with begin(armed) as how:
        run = recipe(folder, tmp_path / "a" / "run.zarr", **{**blocks, **how})
    assert deaths(armed) > len(poisons)
    at_fault = sorted(folder.glob("*poison*"))
    rejected = [(one["image"], one["code"]) for one in run.attributes["rejected"]]
    assert rejected == [(path.name, code) for path in at_fault]
    for path in at_fault:
        path.unlink()
    without = recipe(folder, tmp_path / "b" / "run.zarr", **blocks)
    assert bytes_of(run.path) == bytes_of(without.path)


def test_a_command_says_that_another_try_may_do_better(armed: Path, tmp_path: Path) -> None:
    folder, output = photographs(tmp_path / "photographs", 1, n=3), tmp_path / "run.zarr"
    armed.touch()
    with threads(armed):
        words = ["quantize", str(folder), "-o", str(output), "-k", "2", "--worker-kind", "thread"]
        done = CliRunner().invoke(cli, words)
    assert done.exit_code == 3
    assert "[memory]" in done.output
    assert len(kmdist.open_run(output).images) == 2
