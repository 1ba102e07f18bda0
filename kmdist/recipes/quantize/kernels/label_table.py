"""Labelling 8-bit pixels by looking their colours up in a table."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from kmdist.recipes.quantize.kernels.histogram import (
    BLUE_BITS,
    GREEN_BITS,
    N_CODES,
    RED_BITS,
    Colors,
    encode_with_alpha,
    flat_pixels,
)


def label_table(
    codes: npt.NDArray[np.uint32],
    labels: npt.NDArray[np.unsignedinteger],
    out: npt.NDArray[np.unsignedinteger] | None = None,
) -> npt.NDArray[np.unsignedinteger]:
    """Table of 2²⁴ labels indexed by colour code, for `apply_table`.

    Parameters
    ----------
    codes : (n,) uint32.
    labels : (n,) uint8 or uint16; the table has the same dtype.
    out : a table to write into; entries of other codes keep what they held. None: a new one,
        zero for the codes that are not listed.

    Raises
    ------
    ValueError : lengths differ, or `out` does not fit.
    """
    if len(codes) != len(labels):
        raise ValueError(f"{len(codes)} codes but {len(labels)} labels: one label per code")
    table = np.zeros(N_CODES, labels.dtype) if out is None else out
    if table.shape != (N_CODES,) or table.dtype != labels.dtype:
        raise ValueError(
            f"out must be ({N_CODES},) {labels.dtype}, received {table.shape} {table.dtype}"
        )
    table[codes] = labels
    return table


def apply_table(
    pixels: npt.NDArray[np.uint8], table: npt.NDArray[np.unsignedinteger]
) -> npt.NDArray[np.unsignedinteger]:
    """Label pixels (..., 3) by looking their colours up in a `label_table`.

    Parameters
    ----------
    pixels : (..., 3) uint8, all of colours that the table lists.
    table : (2²⁴,) labels.

    Returns
    -------
    (...,) of the table's dtype. 1.2 ns a pixel, and about as much again for the memory of a
    new array.

    Raises
    ------
    ValueError : pixels are not uint8 with three channels.
    """
    if table.shape != (N_CODES,):
        raise ValueError(f"a label table has {N_CODES} entries, received shape {table.shape}")
    flat = flat_pixels(pixels)
    labels = np.empty(pixels.shape[:-1], table.dtype)
    _look_up(flat, table, labels.reshape(-1))
    return labels


_TABLES: dict[np.dtype[np.unsignedinteger], list[npt.NDArray[np.unsignedinteger]]] = {}
_TABLES_LOCK = threading.Lock()


@contextmanager
def borrowed_table(
    codes: npt.NDArray[np.uint32], labels: npt.NDArray[np.unsignedinteger]
) -> Iterator[npt.NDArray[np.unsignedinteger]]:
    """A `label_table` in reused memory, for images that have a palette each.

    Entries of codes that are not listed are arbitrary. The table must not be used after the
    ``with`` block. Setting up costs about 1 ns a distinct colour, a new table 5 ms.
    """
    with _TABLES_LOCK:
        idle = _TABLES.setdefault(labels.dtype, [])
        table = idle.pop() if idle else np.zeros(N_CODES, labels.dtype)
    try:
        yield label_table(codes, labels, out=table)
    finally:
        with _TABLES_LOCK:
            if len(idle) < (os.cpu_count() or 1):
                idle.append(table)


@dataclass(frozen=True)
class ColorLabels:
    """Labels of distinct colours, to look pixels up in.

    Parameters
    ----------
    table : (2²⁴,) label of each opaque colour; see `label_table`.
    codes : (m,) uint32, ascending, of the colours with alpha; labels : (m,) of these.
    """

    table: npt.NDArray[np.unsignedinteger]
    codes: npt.NDArray[np.uint32]
    labels: npt.NDArray[np.unsignedinteger]

    @staticmethod
    def of(colors: Colors, labels: npt.NDArray[np.unsignedinteger]) -> "ColorLabels":
        """Labels (n,) of n colours."""
        n = colors.n_opaque
        return ColorLabels(label_table(colors.codes[:n], labels[:n]), colors.codes[n:], labels[n:])

    @staticmethod
    @contextmanager
    def borrowed(
        colors: Colors, labels: npt.NDArray[np.unsignedinteger]
    ) -> Iterator["ColorLabels"]:
        """The same in reused memory, as `borrowed_table`."""
        n = colors.n_opaque
        with borrowed_table(colors.codes[:n], labels[:n]) as table:
            yield ColorLabels(table, colors.codes[n:], labels[n:])

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.unsignedinteger]:
        """Labels (...,) of pixels (..., 3), or (..., 4) with alpha; any of colours not listed."""
        found = apply_table(pixels[..., :3], self.table)
        if pixels.shape[-1] == 4 and len(self.codes):
            translucent = pixels[..., 3] < 255
            place = np.searchsorted(self.codes, encode_with_alpha(pixels[translucent]))
            found[translucent] = self.labels[np.minimum(place, len(self.codes) - 1)]
        return found


@njit(nogil=True, cache=True)
def _look_up(pixels, table, labels):  # type: ignore[no-untyped-def]
    for i in range(pixels.shape[0]):
        labels[i] = table[
            RED_BITS[pixels[i, 0]] | GREEN_BITS[pixels[i, 1]] | BLUE_BITS[pixels[i, 2]]
        ]
