"""Objects of a store that fails while they are read."""

from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

import kmdist.images.finding.files as files
from kmdist.errors import ImageError
from kmdist.images import Found, decode, probe
from tests.support.corpus import encode, encode_tiff, photo

CONTENT = {
    "a.jpg": encode(photo(40, 30), "JPEG"),
    "b.tif": encode_tiff(photo(96, 120), photometric="rgb", tile=(32, 32)),
}


class StoreError(Exception):
    """As those of botocore, which are no OSError."""


class Failing(AbstractFileSystem):
    """A store of two files; every other range, or all of them, fails or comes short."""

    protocol = "failing"
    cachable = False
    fault = ""
    asked = 0

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        return {"name": path, "size": len(CONTENT[path]), "type": "file"}

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> "FailingFile":
        return FailingFile(self, path, mode, **kwargs)


class FailingFile(AbstractBufferedFile):
    """Reads of it go through `_fetch_range`, as those of S3 do."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        Failing.asked += 1
        data = CONTENT[self.path][start:end]
        if Failing.asked % 2 or Failing.fault == "always":
            if Failing.fault == "short":
                return data[:-1]
            raise StoreError("Could not connect to the endpoint")
        return data


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fsspec.register_implementation("failing", Failing, clobber=True)
    monkeypatch.setattr(files, "WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(Failing, "asked", 0)
    yield
    fsspec.register_implementation("failing", MemoryFileSystem, clobber=True)


@pytest.mark.parametrize(
    ("name", "fault"), [("a.jpg", "once"), ("b.tif", "once"), ("b.tif", "short")]
)
def test_a_read_that_fails_is_asked_for_again(
    name: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Failing, "fault", fault)
    source = probe(Found(name, f"failing://{name}"))
    assert decode(source).shape == (source.height, source.width, 3)


@pytest.mark.parametrize("name", CONTENT)
def test_a_store_that_stays_away_is_unreachable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Failing, "fault", "always")
    with pytest.raises(ImageError, match="does not answer: Could not connect") as failure:
        probe(Found(name, f"failing://{name}"))
    assert failure.value.code == "unreachable"
