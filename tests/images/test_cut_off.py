"""A file that lost its end: it is rejected, or what is left holds all of its pixels."""

from pathlib import Path

import numpy as np
import pytest

from kmdist.errors import ImageError
from kmdist.images import Found, decode, probe
from tests.support.small_files import small_files

pytestmark = pytest.mark.slow

FILES = small_files()


def read(path: Path, data: bytes) -> np.ndarray:
    path.write_bytes(data)
    return decode(probe(Found(path.name, str(path))))


@pytest.mark.parametrize("name", FILES)
def test_every_prefix(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data, path = FILES[name], tmp_path / name
    whole = read(path, data)
    wrong = []
    for length in range(len(data)):
        try:
            pixels = read(path, data[:length])
        except ImageError:
            continue
        if not np.array_equal(pixels, whole):
            wrong.append(length - len(data))
    assert not wrong
    assert capfd.readouterr() == ("", "")
