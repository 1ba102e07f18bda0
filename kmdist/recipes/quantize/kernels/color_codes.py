"""Colour codes: 8-bit RGB colours as 24-bit integers in Morton order.

A code interleaves the bits of the channels: bit 23 is the highest of red, 22 of green, 21 of
blue, 20 the second of red, and so on. Sorted codes run through the colour cube cell by cell at
every scale, which keeps table accesses local and gives the palette fit its tree of cells.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

N_CODES = 1 << 24


def _spread_bits() -> npt.NDArray[np.uint32]:
    value = np.arange(256, dtype=np.uint32)
    spread = np.zeros(256, np.uint32)
    for bit in range(8):
        spread |= ((value >> np.uint32(bit)) & np.uint32(1)) << np.uint32(3 * bit)
    return spread


BLUE_BITS = _spread_bits()
GREEN_BITS = BLUE_BITS << np.uint32(1)
RED_BITS = BLUE_BITS << np.uint32(2)


def encode_colors(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Codes (...,) uint32 of colours (..., 3) uint8."""
    check_rgb(rgb)
    return RED_BITS[rgb[..., 0]] | GREEN_BITS[rgb[..., 1]] | BLUE_BITS[rgb[..., 2]]


def decode_colors(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Colours (n, 3) uint8 of codes (n,): the inverse of `encode_colors`."""
    rgb = np.empty((len(codes), 3), np.uint8)
    _decode(np.ascontiguousarray(codes, np.uint32), rgb)
    return rgb


def check_rgb(pixels: npt.NDArray[np.uint8]) -> None:
    """Raise ValueError unless `pixels` are (..., 3) uint8."""
    if pixels.dtype != np.uint8 or pixels.ndim < 1 or pixels.shape[-1] != 3:
        raise ValueError(
            f"8-bit RGB is needed, shape (..., 3) uint8; received {pixels.shape} {pixels.dtype}"
        )


def flat_pixels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Pixels as (n, 3), contiguous; raises ValueError unless (..., 3) uint8."""
    check_rgb(pixels)
    return np.ascontiguousarray(pixels).reshape(-1, 3)


def flat_mask(mask: npt.NDArray[np.bool_] | None, n: int) -> npt.NDArray[np.bool_] | None:
    """Mask as (n,), contiguous; raises ValueError unless bool with n entries, or None."""
    if mask is None:
        return None
    if mask.dtype != np.bool_ or mask.size != n:
        raise ValueError(
            f"the mask must be bool with one entry per pixel ({n}); "
            f"received {mask.shape} {mask.dtype}"
        )
    return np.ascontiguousarray(mask).reshape(-1)


@njit(nogil=True, cache=True)
def _decode(codes, rgb):  # type: ignore[no-untyped-def]
    for i in range(codes.size):
        code = codes[i]
        for channel in range(3):
            value = np.uint32(0)
            for bit in range(8):
                shifted = code >> np.uint32(3 * bit + 2 - channel)
                value |= (shifted & np.uint32(1)) << np.uint32(bit)
            rgb[i, channel] = value
