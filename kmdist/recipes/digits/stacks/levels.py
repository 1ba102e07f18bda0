"""Grey levels of an array: its values say what white is, not the type that stores them.

Digits of 0 … 255 come as bytes, and just as often as int64 or floating point from a data frame.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kmdist.errors import UsageError

BLOCK_IMAGES = 4096
"""Images to read at a time when the values of all are asked for."""

_WHITES = (1.0, 255.0, 65_535.0)
_EXACT = {1.0: "uint8", 255.0: "uint8", 65_535.0: "uint16"}
_ROUNDING = 1 + 0.5 / 255
"""Floating point values may exceed white by what still rounds to it."""


@dataclass(frozen=True)
class Levels:
    """How values become grey levels.

    Parameters
    ----------
    dtype : of the levels: ``uint8`` or ``uint16`` where all values are whole, else ``float32`` in
        0 … 1.
    white : the value that is white: 1, 255 or 65,535.
    """

    dtype: str
    white: float

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values as levels of `dtype`."""
        if self.dtype == "float32":
            unit = values.astype(np.float32) / np.float32(self.white)
            return np.minimum(unit, np.float32(1), out=unit)
        levels = values.astype(self.dtype, copy=False)
        return levels * np.uint8(255) if self.white == 1 else levels


def levels_of(name: str, blocks: Iterable[np.ndarray]) -> Levels:
    """What the values of some images mean, read until that is certain.

    Of bytes the first block that holds more than 0 and 1 says it, of other types all do. NaN and
    infinity are left to the reader of the images, who can say where they are.

    Raises
    ------
    UsageError : values below 0 or above 65,535.
    """
    lowest, highest, whole = 0.0, 0.0, True
    for values in blocks:
        found = values
        if found.dtype.kind == "f":
            found = found[np.isfinite(found)]
            whole = whole and bool((found == np.rint(found)).all())
        if found.size:
            lowest = min(lowest, float(found.min()))
            highest = max(highest, float(found.max()))
        settled = {"uint8": 1, "uint16": 255}.get(values.dtype.name)
        if settled is not None and highest > settled:
            break
    slack = 1.0 if whole else _ROUNDING
    if lowest < 0 or highest > _WHITES[-1] * slack:
        raise UsageError(
            f"{name}: values from {lowest:g} to {highest:g}; grey levels lie in 0 … 1, 0 … 255 or "
            "0 … 65,535: shift and scale them"
        )
    white = next(one for one in _WHITES if highest <= one * slack)
    return Levels(_EXACT[white] if whole else "float32", white)
