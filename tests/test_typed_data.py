"""Plain data made what its type says, in any thread."""

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import make_dataclass
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from kmdist.job.block_pass import of_json
from kmdist.nightly import outcome

PLAIN = {"parts": [{"a": 1, "b": [1, 2]}], "n": 3}


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def new_type() -> tuple[type, Any]:
    """One that msgspec does not know yet, and `PLAIN` as that."""
    part = make_dataclass("part", [("a", int), ("b", tuple[int, ...])])
    kind = make_dataclass("kind", [("parts", tuple[part, ...]), ("n", int)])
    return kind, kind((part(1, (1, 2)),), 3)


def at_once(call: Callable[[], Any]) -> list[Any]:
    """What four threads get of a call that they make together."""
    together = Barrier(4)

    def wait_and_call(_: int) -> Any:
        together.wait()
        return call()

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(wait_and_call, range(4)))


@pytest.mark.usefixtures("hasty_threads")
def test_threads_may_take_up_results_of_a_new_type_at_once() -> None:
    """msgspec learns types as it meets them, not for two threads at a time: that was a crash."""
    for _ in range(100):
        kind, wanted = new_type()
        assert at_once(partial(of_json, kind, PLAIN)) == [wanted] * 4


@pytest.mark.usefixtures("hasty_threads")
def test_threads_may_read_nights_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / outcome.NIGHTS).mkdir()
    (tmp_path / outcome.NIGHTS / "20260101T000000Z.json").write_text(json.dumps(PLAIN))
    for _ in range(100):
        kind, wanted = new_type()
        monkeypatch.setattr(outcome, "Night", kind)
        assert at_once(partial(outcome.read_nights, tmp_path, 1)) == [[wanted]] * 4
