"""Worker processes that die as they read an input, while a test has them armed."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

import dask
import pytest
from distributed.utils import get_mp_context

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
def forked_workers(*modules: str) -> Iterator[None]:
    """Fork the workers of local clusters from a process that has imported what they need.

    One that takes the place of a dead one would spend three seconds on that.
    """
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["distributed", *modules])
        try:
            yield
        finally:  # what comes next has a server of its own, and its imports
            forkserver._forkserver._stop()  # type: ignore[attr-defined]


@contextmanager
def poisoned_workers(folder: Path, poison: str) -> Iterator[Path]:
    """A file; while it is there, worker processes die where `poison` says so.

    Parameters
    ----------
    poison : Python code that runs once, in the process from which workers are forked; it may call
        ``die_if(bool)``.
    """
    (folder / "poison.py").write_text(DIE_IF + poison)
    armed = folder / "armed"
    with pytest.MonkeyPatch.context() as patched, forked_workers("poison"):
        patched.setenv("KMDIST_TEST_ARMED", str(armed))
        patched.setenv("PYTHONPATH", f"{folder}:{ROOT}")
        yield armed


def deaths(armed: Path) -> int:
    """How often a worker has died."""
    return len(armed.read_text().splitlines())
