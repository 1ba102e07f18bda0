"""Grey values of colour images."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

BT601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), as OpenCV has them."""

TUTORIAL_GREY = (0.25, 0.5, 0.25)
"""Weights of the walk-through."""


def grey(
    pixels: NDArray[Any],
    weights: tuple[float, float, float] = BT601,
    *,
    white: float = 1.0,
) -> NDArray[np.float32]:
    """Grey values of an image, float32.

    Parameters
    ----------
    pixels : (h, w) or (h, w, c) with c = 1, 3 or 4 in the order red, green, blue, alpha.
    weights : of red, green and blue; the sum is taken from left to right in float32.
    white : divide by this: 255 makes 8-bit values 0 … 1.

    Raises
    ------
    ValueError : another shape.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 2:
        return pixels.astype(np.float32) * np.float32(1 / white)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise ValueError(f"expected (y, x) or (y, x, c) with c = 1, 3 or 4, got {pixels.shape}")
    scaled = np.array(weights, np.float32) * np.float32(1 / white)
    if pixels.dtype == np.uint8:
        out = np.empty(pixels.shape[:2], np.float32)
        _weigh(pixels, scaled, out)
        return out
    result: NDArray[np.float32] = pixels[..., 0].astype(np.float32) * scaled[0]
    result += pixels[..., 1].astype(np.float32) * scaled[1]
    result += pixels[..., 2].astype(np.float32) * scaled[2]
    return result


@njit(nogil=True, cache=True)
def _weigh(pixels, weights, out):  # type: ignore[no-untyped-def]
    red, green, blue = weights[0], weights[1], weights[2]
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            value = np.float32(pixels[y, x, 0]) * red
            value += np.float32(pixels[y, x, 1]) * green
            value += np.float32(pixels[y, x, 2]) * blue
            out[y, x] = value
