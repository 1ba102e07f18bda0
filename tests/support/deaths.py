"""Worker processes that die as they read an input, while a test has them armed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.folders import ROOT

DIE_IF = """
import os, signal
def die_if(poisonous):
    if poisonous and os.path.exists(os.environ["KMDIST_TEST_ARMED"]):
        with open(os.environ["KMDIST_TEST_ARMED"], "a") as log:
            log.write("death\\n")
        os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def poisoned_workers(folder: Path, monkeypatch: pytest.MonkeyPatch, poison: str) -> Iterator[Path]:
    """A file; while it is there, worker processes die where `poison` says so.

    Processes that are started read `sitecustomize`; this one has been started already.

    Parameters
    ----------
    poison : Python code that a worker process runs as it starts; it may call ``die_if(bool)``.
    """
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(DIE_IF + poison)
    armed = folder / "armed"
    monkeypatch.setenv("KMDIST_TEST_ARMED", str(armed))
    monkeypatch.setenv("PYTHONPATH", f"{site}:{ROOT}")
    yield armed
    armed.unlink(missing_ok=True)


def deaths(armed: Path) -> int:
    """How often a worker has died."""
    return len(armed.read_text().splitlines())
