"""Textures of images that are stored in shards and read by tile, and of whole processes killed."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

import kmdist
from kmdist.store import Run
from tests.conftest import DaskProcesses
from tests.test_quantize import bytes_of
from tests.test_texture import mosaic

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


@pytest.mark.parametrize(("preset", "shared"), [("textons", False), ("gabor", True)])
def test_shards_hold_the_labels_of_the_whole(
    preset: str, shared: bool, strip: Path, tmp_path: Path, dask_processes: DaskProcesses
) -> None:
    def segment(name: str, **options: object) -> Run:
        return kmdist.texture(
            strip,
            tmp_path / f"{name}.zarr",
            k=4,
            preset=preset,
            shared=shared,
            keep_pixels="never",
            **options,  # type: ignore[arg-type]
        )

    whole = segment("whole", block_mpx=16, workers=1)
    one = segment("one", block_mpx=0.3, workers=1)
    expected = labels_of(whole)
    assert expected[0].shape == (HEIGHT, WIDTH)
    for run in (one, segment("wide", block_mpx=0.9, workers=2)):
        for level, labels in enumerate(labels_of(run)):
            np.testing.assert_array_equal(labels, expected[level])
    remote = segment("remote", block_mpx=0.3, scheduler=dask_processes.address)
    assert bytes_of(Path(remote.path)) == bytes_of(Path(one.path))
