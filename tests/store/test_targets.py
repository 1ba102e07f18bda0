"""Prefixes of object stores: whatever call of a store fails, the error tells."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from kmdist.errors import KmdistError, UsageError
from kmdist.store import open_run
from kmdist.store.targets import FsspecTarget


class StoreError(Exception):
    """As those of botocore, which are no OSError."""


class FailingOnce:
    """A file system one of whose calls fails."""

    def __init__(self, fs: Any, call: int) -> None:
        self._fs, self._left = fs, call

    def __getattr__(self, name: str) -> Any:
        def called(*arguments: Any, **keywords: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                raise StoreError("Could not connect to the endpoint")
            return getattr(self._fs, name)(*arguments, **keywords)

        return called


@pytest.fixture
def target() -> Iterator[FsspecTarget]:
    target = FsspecTarget("memory://targets/run.zarr")
    target.put("a", b"1")
    target.append("log.jsonl", b"2")
    target.append("log.jsonl", b"3")
    yield target
    fsspec.filesystem("memory").rm("/targets", recursive=True)


@pytest.mark.parametrize("call", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "act",
    [
        lambda target: target.put("b", b"4"),
        lambda target: target.append("log.jsonl", b"4"),
        lambda target: target.get("a"),
        lambda target: target.get("log.jsonl"),
        lambda target: target.exists("a"),
        lambda target: list(target.keys()),
        lambda target: target.children(),
        lambda target: target.delete("a"),
        lambda target: target.delete_keys(["a", "b"]),
        lambda target: target.copy_from(target, ["a"]),
        lambda target: target.stamp("a"),
    ],
)
def test_errors_of_a_store_are_told(
    act: Callable[[FsspecTarget], Any], call: int, target: FsspecTarget
) -> None:
    fs, base = target._open()
    failing = FailingOnce(fs, call)
    target._local.opened = failing, base
    told = []
    try:
        act(target)
    except KmdistError as error:
        told = [str(error)]
    assert bool(told) == (failing._left <= 0)
    assert all("memory://targets/run.zarr" in one and "Could not connect" in one for one in told)


@pytest.mark.parametrize("below", ["", "/k4"])
def test_a_file_at_a_url_is_no_run(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=r"is no run|does not exist"):
        open_run(f"file://{tmp_path}/file{below}")
