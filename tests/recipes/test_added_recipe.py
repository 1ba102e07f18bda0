"""A recipe is one file: `tests.support.brightness` runs wherever kmdist's own recipes do."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from kmdist.cli import cli
from kmdist.nightly import find, verify
from kmdist.recipes import registry
from kmdist.recipes.predict import predict
from kmdist.store import Run, open_run
from tests.support import brightness
from tests.support.nights import World
from tests.support.runs import bytes_of

ROOT = Path(__file__).parents[2]
LONGEST = 150
KILLED_LATE = """
import os, signal, sys
from kmdist.cli import main
from kmdist.recipes import registry
from kmdist.store import RunWriter
registry.register("brightness", "tests.support.brightness:RECIPE")
mark, n = RunWriter.mark_done, 0
def dying(self, *given):
    global n
    mark(self, *given)
    n += 1
    if n == {n}:
        os.kill(os.getpid(), signal.SIGKILL)
RunWriter.mark_done = dying
main()
"""


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_PLACES", dict(registry._PLACES))
    registry.register("brightness", "tests.support.brightness:RECIPE")


def kmdist_command(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def run(photographs: Path, tmp_path: Path) -> Run:
    half = cv2.imread(str(photographs / "transparent.png"), cv2.IMREAD_UNCHANGED)
    half[half[..., 3] > 0, 3] = 255
    cv2.imwrite(str(photographs / "transparent.png"), half)
    output = tmp_path / "run.zarr"
    done = kmdist_command("brightness", photographs, "-o", output, "--block-mpx", 0.01)
    assert done.exit_code == 0, done.output
    return open_run(output)


def test_it_is_short() -> None:
    assert len(Path(brightness.__file__).read_text().splitlines()) <= LONGEST


def test_each_pixel_is_nearest_to_its_centroid(photographs: Path, run: Run) -> None:
    low, high = run.centroids[:, 0]
    levels, clustered = [], []
    for name in run.images:
        pixels = cv2.imread(str(photographs / name), cv2.IMREAD_UNCHANGED)
        level = pixels[..., :3].sum(axis=-1, dtype=np.uint16) // 3
        seen = pixels[..., 3] > 0 if pixels.shape[2] == 4 else np.ones(level.shape, bool)
        labels = run.labels(name)[:]
        assert np.array_equal(labels[seen], (abs(level - high) < abs(level - low))[seen])
        assert (labels[~seen] == 255).all()
        levels.append(level[seen])
        clustered.append(labels[seen])
    level, label = np.concatenate(levels), np.concatenate(clustered)
    assert run.centroids[:, 0] == pytest.approx([level[label == i].mean() for i in (0, 1)])
    assert run.counts.tolist() == [(label == 0).sum(), (label == 1).sum()]
    assert run.inertia == pytest.approx(((level - run.centroids[label, 0]) ** 2).sum())


def test_a_job_spec_does_what_the_command_does(photographs: Path, run: Run, tmp_path: Path) -> None:
    keys = {"recipe": "brightness", "input": str(photographs), "block_mpx": 0.01}
    spec = tmp_path / "job.yaml"
    spec.write_text(yaml.safe_dump({**keys, "output": str(tmp_path / "spec.zarr")}))
    planned = kmdist_command("run", spec, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert "recipe   brightness" in planned.output
    assert f"images   {len(run.images)}" in planned.output
    assert not (tmp_path / "spec.zarr").exists()
    done = kmdist_command("run", spec)
    assert done.exit_code == 0, done.output
    assert bytes_of(tmp_path / "spec.zarr") == bytes_of(run.path)
    wrong = kmdist_command("run", spec, "--set", "blok_mpx=2")
    assert wrong.exit_code == 2
    assert "block_mpx" in wrong.output


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 9])
def test_a_killed_run_goes_on(photographs: Path, run: Run, tmp_path: Path, n: int) -> None:
    output = tmp_path / "killed.zarr"
    words = ["brightness", str(photographs), "-o", str(output), "--block-mpx", "0.01"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED_LATE.format(n=n), *words]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not output.exists()
    done = kmdist_command(*words, "--resume")
    assert done.exit_code == 0, done.output
    assert bytes_of(output) == bytes_of(run.path)


def test_predict_and_pictures(photographs: Path, run: Run, tmp_path: Path) -> None:
    labelled = predict(run, photographs, tmp_path / "new.zarr")
    in_memory = run.predict({name: photographs / name for name in run.images})
    for name in run.images:
        assert np.array_equal(labelled.labels(name)[:], run.labels(name)[:])
        assert np.array_equal(in_memory[name], run.labels(name)[:])
    assert labelled.inertia == run.inertia
    for words in (
        ("info", run.path),
        ("view", run.path, "-o", tmp_path / "view.png"),
        ("export", run.path, tmp_path / "pictures"),
        ("extract", run.path, "0.png", "--clusters", 1, "-o", tmp_path / "cut.png"),
    ):
        done = kmdist_command(*words)
        assert done.exit_code == 0, done.output


def test_nights(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.settings = replace(world.settings, recipe="brightness", options={"workers": 1})
    world.put("0.png", 0)
    first = world.night()
    world.put("1.png", 1)
    second = world.night()
    assert (first.done, first.fitted, second.done, second.fitted) == (1, True, 1, False)
    new = open_run(find(world.results, world.inbox / "1.png")["run"])
    assert np.array_equal(new.centroids, open_run(world.results / "models" / "0001.zarr").centroids)
    assert verify(world.results) == []


@pytest.mark.slow
def test_an_installed_package_adds_it(photographs: Path, run: Run, tmp_path: Path) -> None:
    """By its entry point, in a process of its own and in its workers."""
    package = tmp_path / "brightness-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        f"[{registry.ENTRY_POINTS}]\nbrightness = tests.support.brightness:RECIPE\n"
    )
    output = tmp_path / "installed.zarr"
    words = ["brightness", str(photographs), "-o", str(output), "--block-mpx", "0.01"]
    done = subprocess.run(
        [sys.executable, "-m", "kmdist", *words, "--worker-kind", "process", "--workers", "2"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert bytes_of(output) == bytes_of(run.path)
