"""Silence of C libraries while they read: of a file that is damaged, its rejection tells.

libjpeg, libpng, libtiff, LibRaw and OpenEXR write to the stream ``stderr`` of C, some to that of
Python. The former is a variable in glibc, and points to /dev/null meanwhile: what Python and other
programs write to the terminal is not touched. Elsewhere these libraries are heard.
"""

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_lock = threading.Lock()
_inside = 0
_loud: Any = None


@contextmanager
def silenced() -> Iterator[None]:
    """Keep C libraries quiet; in several threads at once, and as a decorator."""
    global _inside, _loud
    streams = _streams()
    with _lock:
        if not _inside and streams:
            stderr, nowhere = streams
            _loud, stderr.value = stderr.value, nowhere
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and streams:
                streams[0].value = _loud


@lru_cache(maxsize=1)
def _streams() -> tuple[Any, int] | None:
    """The variable that holds C's stream, and a stream that leads nowhere; None: not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    nowhere = libc.fopen(os.devnull.encode(), b"w")
    return (ctypes.c_void_p.in_dll(libc, "stderr"), nowhere) if nowhere else None
