"""Textures of images that are stored in shards and read by tile, and of whole processes killed."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

import kmdist
from kmdist.engine.passes import ThreadPool
from kmdist.job import block_pass
from kmdist.job.running import plan_job
from kmdist.recipes.registry import recipe_named
from kmdist.recipes.texture.options import TextureOptions
from kmdist.store import Run
from tests.support.dask_processes import DaskProcesses
from tests.support.kills import check_killed_at_random
from tests.support.runs import bytes_of
from tests.support.textures import mosaic, tiled_tiff

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 136, 16_500
"""Above 16,384 px a side label maps are stored in shards of 8,192²: here three."""


@pytest.fixture(scope="module")
def strip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("strip") / "strip.tif"
    pixels = np.hstack([mosaic(HEIGHT, 1100, number) for number in range(15)])[..., ::-1]
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", compression="deflate", predictor=True
    )
    return path


def labels_of(run: Run) -> list[np.ndarray]:
    levels = run.image("strip.tif").levels
    return [np.asarray(run.labels("strip.tif", level)[:]) for level in range(levels)]


def segment(strip: Path, output: Path, **options: object) -> Run:
    options = {"preset": "textons", **options}
    return kmdist.texture(strip, output, k=4, keep_pixels="never", **options)  # type: ignore[arg-type]


def test_shards_hold_the_labels_of_the_whole(strip: Path, tmp_path: Path) -> None:
    expected = labels_of(segment(strip, tmp_path / "whole.zarr", block_mpx=16, workers=1))
    assert expected[0].shape == (HEIGHT, WIDTH)
    for block_mpx in (0.2, 0.6):
        run = segment(strip, tmp_path / f"{block_mpx}.zarr", block_mpx=block_mpx, workers=2)
        for level, labels in enumerate(labels_of(run)):
            np.testing.assert_array_equal(labels, expected[level])


def test_shards_have_the_same_bytes_from_any_worker(
    strip: Path, tmp_path: Path, dask_cluster: DaskProcesses
) -> None:
    options = {"preset": "gabor", "shared": True, "block_mpx": 0.2}
    one = segment(strip, tmp_path / "one.zarr", workers=1, **options)
    remote = segment(strip, tmp_path / "two.zarr", scheduler=dask_cluster.address, **options)
    assert bytes_of(Path(remote.path)) == bytes_of(Path(one.path))


PASS_TASKS = {
    "each_of_block",
    "label_block",
    "measure_block",
    "merge",
    "save_texton_maps",
    "sum_features",
    "sum_moduli",
    "write_block",
}
"""Tasks over blocks; others probe files, fit the sample, or make pyramids."""


@pytest.mark.parametrize(
    ("preset", "shared", "keep", "passes"),
    [
        ("gabor", True, "never", 2),
        ("gabor", True, "always", 1),
        ("textons", True, "never", 3),
        ("textons", False, "never", 3),
    ],
)
def test_a_dry_run_counts_the_tasks(
    preset: str,
    shared: bool,
    keep: str,
    passes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    tiled_tiff(folder / "tiles.tif", 300, 1300)
    for number in range(11):
        tifffile.imwrite(folder / f"{number}.tif", mosaic(60, 70, number), photometric="rgb")
    words = {"k": (3,), "block_mpx": 0.3, "keep_pixels": keep}
    words |= {"preset": preset, "shared": shared, "workers": 2, "worker_kind": "thread"}
    rest = {"scales": "linear", "sample": None, "keep_responses": False, "seed": 0}
    rest |= {"init": "k-means++", "n_init": 1, "max_iter": 300, "tol": 1e-4, "max_pixels": 10**8}
    options = TextureOptions(**words, **rest)
    procedure = recipe_named("texture").fit([str(folder)], options)
    plan = plan_job(procedure, tmp_path / "run.zarr", options)
    submitted: list[str] = []
    submit = ThreadPool.submit

    def spy(pool: ThreadPool, function: object, *args: object) -> object:
        task = args[1] if function is block_pass._saved else function
        submitted.append(task.__name__)  # type: ignore[attr-defined]
        return submit(pool, function, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ThreadPool, "submit", spy)
    run = kmdist.texture([folder], tmp_path / "run.zarr", **words, **rest)
    counted = [name for name in submitted if name in PASS_TASKS]
    assert plan.tasks == len(counted), (counted, submitted)
    assert plan.passes == passes
    assert plan.images == len(run.images) == 12
    assert plan.memory is not None
    written = sum(f.stat().st_size for f in (tmp_path / "run.zarr").rglob("*") if f.is_file())
    assert written <= plan.disk_bytes


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """SIGKILL of the whole command on 60 blocks: resumed until it ends, the bytes are the same."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        tifffile.imwrite(folder / f"{number:02d}.tif", mosaic(60, 70, number), photometric="rgb")
    options = ["--shared", "--preset", "gabor", "--block-mpx", "0.01", "--keep-pixels", "never"]
    check_killed_at_random(["texture", str(folder), *options], tmp_path)
