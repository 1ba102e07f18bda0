"""Calls of the operating system and of object stores by kmdist's own code, one of which fails."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from fsspec.implementations.memory import MemoryFileSystem

CHANGING = ("write", "rename", "replace", "fsync", "mkdir", "rmdir", "unlink", "truncate", "link")
PUTTING = ("pipe_file", "rm", "copy")


class Calls:
    """Counts calls that change something, and lets the `fails`-th of them fail.

    Parameters
    ----------
    fails : counted from 0; negative: none fails.
    """

    def __init__(self, fails: int = -1, code: int = errno.EIO) -> None:
        self.fails, self.code = fails, code
        self.made: list[str] = []

    def note(self, name: str) -> None:
        """Count a call; raise if it is its turn."""
        self.made.append(name)
        if len(self.made) - 1 == self.fails:
            raise OSError(self.code, f"{os.strerror(self.code)} (call {self.fails} of a test)")

    def counted(self, name: str, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if sys._getframe(1).f_globals.get("__name__", "").startswith("kmdist."):
                self.note(name)
            return function(*args, **options)

        return call


@contextmanager
def failing(fails: int = -1, code: int = errno.EIO) -> Iterator[Calls]:
    """Count changing calls while the block runs, one of which may fail."""
    calls = Calls(fails, code)
    patches = [patch.object(os, name, calls.counted(name, getattr(os, name))) for name in CHANGING]
    patches += [
        patch.object(MemoryFileSystem, name, calls.counted(name, getattr(MemoryFileSystem, name)))
        for name in PUTTING
    ]
    for one in patches:
        one.start()
    try:
        yield calls
    finally:
        for one in patches:
            one.stop()
