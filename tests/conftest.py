"""Data, pictures and clusters that several tests share."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.dask_processes import DaskProcesses, make_certificates

SLOW_FIXTURES = {"armed", "dask_cluster", "dask_processes", "dask_tls_processes", "small_disk"}
"""What asks for one of these belongs to the slow tier by that alone."""

COVERED = (
    "cli", "engine/test_passes", "images/test_hostile_zarr", "job", "nightly", "pages", "pictures",
    "recipes", "store",
)  # fmt: skip
"""Tests of what loses files if it is wrong; coverage, of these alone, takes half as long again."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as slow by what they use, and as not covered by where they lie."""
    for item in items:
        place = item.nodeid.removeprefix("tests/")
        if not place.startswith(COVERED):
            item.add_marker(pytest.mark.no_cover)
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


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


@pytest.fixture
def dask_tls_processes(tmp_path: Path) -> Iterator[DaskProcesses]:
    """A scheduler and two workers as separate processes that speak TLS alone."""
    yield from _cluster(tmp_path / "dask", make_certificates(tmp_path / "tls"))


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    """A scheduler and two workers as separate processes, for all tests that leave them alone."""
    yield from _cluster(tmp_path_factory.mktemp("cluster") / "dask")


@pytest.fixture
def dask_processes(tmp_path: Path) -> Iterator[DaskProcesses]:
    """A scheduler and two workers as separate processes, for a test that kills some."""
    yield from _cluster(tmp_path / "dask")


def _cluster(folder: Path, tls: Path | None = None) -> Iterator[DaskProcesses]:
    folder.mkdir()
    processes = DaskProcesses(folder, 2, tls)
    yield processes
    processes.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB, to be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
