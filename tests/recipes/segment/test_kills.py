"""kill -9 of the whole command over the tiles of scenes."""

from pathlib import Path

import pytest
import tifffile

from tests.support.kills import check_killed_at_random
from tests.support.scenes import fields

pytestmark = pytest.mark.slow


def test_killed_at_random_moments(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number in range(2):
        scene = fields(2100, 1100, n_channels=3, seed=number)
        scene[: 100 * number] = 0
        tifffile.imwrite(
            folder / f"{number}.tif", scene, tile=(256, 256), photometric="minisblack",
            planarconfig="contig",
        )  # fmt: skip
    words = ["segment", str(folder), "--nodata", "0", "--block-mpx", "1.1"]
    words += ["--keep-pixels", "never"]
    check_killed_at_random(words, tmp_path, n_kills=2)
