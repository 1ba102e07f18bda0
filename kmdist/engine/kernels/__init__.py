"""Per-block mathematics in numba. Import the module that is needed: each compiles on first use.

With ``NUMBA_BOUNDSCHECK=1`` and ``KMDIST_PLAIN_KERNELS=1`` in the environment, and a
``NUMBA_CACHE_DIR`` of its own, every index of every kernel is checked; kernels that compute
addresses check their arguments always. A slow test runs the tests of the engine so.

What all take are rows in the types and the layout that kernels are compiled for, a chunk at a time.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from kmdist.kernel_cache import PLAIN_KERNELS  # before kernels are decorated

kernel: Callable[..., Callable[[Callable[..., Any]], Any]] = partial(
    njit, nogil=True, cache=True, no_cfunc_wrapper=True, _nrt=PLAIN_KERNELS
)
"""Compiles what Python calls and makes no arrays: without code that counts the users of arrays, in
three quarters of the time. Plain loops make some."""

NO_WEIGHTS = np.empty(0, np.float64)
"""Stands for weights that are all one."""

NO_TILE = np.empty((0, 0), np.float32)
"""Stands for rows that are not read as they are."""

_KERNEL_TYPES = tuple(np.dtype(t) for t in (np.float32, np.float64, np.uint8, np.uint16))
_CONVERT_BYTES = 8 << 20
_LEAST_ROWS = 96


def kernel_chunks(rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Rows as the kernels take them: C order, in one of the types they are compiled for.

    Parameters
    ----------
    rows : (n, d) real numbers of any type and layout.

    Returns
    -------
    list of (first row, chunk); one chunk, not copied, where nothing has to be converted;
    otherwise views that `as_kernel_rows` converts one at a time.
    """
    if rows.dtype in _KERNEL_TYPES and rows.flags.c_contiguous and rows.flags.aligned:
        return [(0, rows)]
    step = max(_LEAST_ROWS, _CONVERT_BYTES // max(1, 8 * rows.shape[1]))
    return [(start, rows[start : start + step]) for start in range(0, len(rows), step)]


def as_kernel_rows(chunk: np.ndarray) -> np.ndarray:
    """One of `kernel_chunks`, converted: float16 to float32, other integers to float64."""
    kind = chunk.dtype.newbyteorder("=")
    if kind == np.float16:
        kind = np.dtype(np.float32)
    elif kind not in _KERNEL_TYPES:
        kind = np.dtype(np.float64)
    return np.require(chunk, dtype=kind, requirements=["C", "A"])
