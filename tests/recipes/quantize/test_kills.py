"""kill -9 of the whole command over a collection of photographs."""

import shutil
from pathlib import Path

import pytest

from tests.support.kills import check_killed_at_random

pytestmark = pytest.mark.slow


@pytest.fixture
def collection(photographs: Path, tmp_path: Path) -> Path:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(120):
        shutil.copy(photographs / f"{2 * (i % 3)}.png", many / f"{i:03d}.png")
    return many


def test_killed_at_random_moments(collection: Path, tmp_path: Path) -> None:
    words = ["quantize", str(collection), "--block-mpx", "0.01", "--keep-pixels", "never"]
    check_killed_at_random(words, tmp_path)
