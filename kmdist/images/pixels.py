"""Arrays of pixels: EXIF orientation, sample types, 8-bit RGB."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from kmdist.errors import ImageError
from kmdist.images.blocks import Window

Pixels = npt.NDArray[Any]
WHITE = (255, 255, 255)

TRANSPOSED = frozenset({5, 6, 7, 8})
"""Orientations that exchange rows and columns."""


def orient(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror (y, x, c) as EXIF orientation 1 … 8 asks (EXIF 2.32, 4.6.4 A)."""
    if orientation == 1:
        return pixels
    # OpenCV works through blocks that fit the cache; NumPy's copy of a transposed view of three
    # channels takes about five times as long.
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    pixels = np.ascontiguousarray(pixels)
    turned = cv2.transpose(pixels) if orientation in TRANSPOSED else pixels
    if orientation in flips:
        turned = cv2.flip(turned, flips[orientation])
    result: Pixels = turned if turned.ndim == 3 else turned[:, :, None]
    return result


def stored_window(window: Window, height: int, width: int, orientation: int) -> Window:
    """Where the pixels of a window lie in an image as it is stored.

    Parameters
    ----------
    window : after orientation.
    height, width : as stored.
    """
    y0, x0, y1, x1 = window.y0, window.x0, window.y1, window.x1
    if orientation in TRANSPOSED:
        y0, x0, y1, x1 = x0, y0, x1, y1
    if orientation in (2, 3, 7, 8):
        x0, x1 = width - x1, width - x0
    if orientation in (3, 4, 6, 7):
        y0, y1 = height - y1, height - y0
    return Window(y0, x0, y1, x1)


def decoded_dtype(dtype: npt.DTypeLike, what: str) -> str:
    """The dtype in which samples are handed on: bool becomes uint8, float16 float32.

    Raises
    ------
    ImageError : signed, complex, 32 or 64 bit integer samples.
    """
    kind = np.dtype(dtype)
    name = {"bool": "uint8", "float16": "float32"}.get(kind.name, kind.name)
    if name not in ("uint8", "uint16", "float32", "float64"):
        raise ImageError(
            "dtype",
            f"{what} samples of type {kind.name}; allowed are 8 and 16 bit unsigned integers and "
            "floating point: convert the image to one of them",
        )
    return name


def widen(samples: Pixels) -> Pixels:
    """Samples in the type that `decoded_dtype` names, in the machine's byte order."""
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * np.uint8(255)
    return samples.astype(decoded_dtype(samples.dtype, "image"), copy=False)


def require_finite(pixels: Pixels) -> None:
    """Refuse NaN and infinite samples.

    Raises
    ------
    ImageError : non_finite.
    """
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        bad = int(pixels.size - np.isfinite(pixels).sum())
        raise ImageError(
            "non_finite", f"{bad:,} of {pixels.size:,} values are NaN or infinite: fill them in"
        )


def to_rgb8(
    pixels: Pixels, background: tuple[int, int, int] = WHITE
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_] | None]:
    """Make 8-bit RGB of decoded pixels.

    As `to_rgb`, rounded to the nearest of 256 levels.

    Parameters
    ----------
    pixels : (y, x, c), c = 1 (grey), 3 (RGB) or 4 (RGBA), as `decode` returns them.
    background : sRGB that is seen through what is partly transparent.

    Returns
    -------
    rgb : (y, x, 3) uint8; `pixels` itself where it is that already.
    unclustered : (y, x) bool, True where alpha is 0; None where no pixel is transparent.

    Raises
    ------
    ImageError : channels, dtype; non_finite, or range: floating point values that do not round
        to a level of 0 … 255.
    """
    _require_channels(pixels)
    return _opaque(_to_uint8(pixels), pixels, background)


def to_rgb(pixels: Pixels) -> tuple[Pixels, npt.NDArray[np.bool_] | None]:
    """Make RGB on the scale of 8 bits of decoded pixels, in their own precision.

    16-bit samples are divided by 257. Floating point samples are taken to lie in 0 … 1 and
    multiplied by 255; they are never stretched to their own minimum and maximum, which would differ
    from tile to tile and from image to image. What is partly transparent is laid over white, as a
    browser shows it on an empty page.

    Parameters
    ----------
    pixels : as of `to_rgb8`, which has the errors too.

    Returns
    -------
    rgb : (y, x, 3) uint8 of 8-bit pixels, else float32, 0 … 255.
    unclustered : as of `to_rgb8`.
    """
    eight, transparent = to_rgb8(pixels)
    if pixels.dtype in (np.uint8, np.bool_):
        return eight, transparent
    full = full_scale(pixels.dtype)
    # 257 divides exactly: 8-bit pictures that are stored in 16 bits keep their levels.
    levels = pixels.astype(np.float32) / np.float32(full / 255)
    return _opaque(levels, pixels, WHITE)


def _opaque(
    levels: Pixels, pixels: Pixels, background: tuple[int, int, int]
) -> tuple[Any, npt.NDArray[np.bool_] | None]:
    """RGB of levels 0 … 255 of pixels, of the same channels; and where they are transparent."""
    if levels.shape[2] == 3:
        return levels, None
    if levels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB)), None
    alpha, opaque = pixels[:, :, 3], full_scale(pixels.dtype)
    transparent = alpha <= 0
    rgb = np.asarray(cv2.cvtColor(levels, cv2.COLOR_RGBA2RGB))
    partly = (alpha < opaque) & ~transparent
    if partly.any():
        blended = 255 * over(pixels[partly] / opaque, np.array(background) / 255)
        rgb[partly] = np.rint(blended) if rgb.dtype == np.uint8 else blended
    return rgb, transparent if transparent.any() else None


def to_rgba8(pixels: Pixels) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_] | None]:
    """Make 8-bit RGBA of decoded pixels, as `to_rgb8` makes RGB; what is not 0 is at least 1.

    Returns
    -------
    rgba : (y, x, 4) uint8, alpha not multiplied into the colours.
    unclustered : (y, x) bool, True where alpha is 0; None where no pixel is transparent.
    """
    _require_channels(pixels)
    eight = _to_uint8(pixels)
    if eight.shape[2] != 4:
        code = cv2.COLOR_GRAY2RGBA if eight.shape[2] == 1 else cv2.COLOR_RGB2RGBA
        return np.asarray(cv2.cvtColor(eight, code), np.uint8), None
    transparent = pixels[:, :, 3] <= 0
    faint = (eight[:, :, 3] == 0) & ~transparent
    if faint.any():
        eight = eight.copy()
        eight[faint, 3] = 1
    return eight, transparent if transparent.any() else None


def _require_channels(pixels: Pixels) -> None:
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ImageError("channels", f"pixels of shape {pixels.shape}; 1, 3 or 4 channels needed")


def full_scale(dtype: npt.DTypeLike) -> float:
    """The value of white and of opaque: the largest of integer types, 1 for floating point."""
    return float(np.iinfo(dtype).max) if np.dtype(dtype).kind == "u" else 1.0


def over(
    samples: npt.NDArray[np.floating], paper: float | npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """Colours laid over paper by their alpha (Porter and Duff, 1984).

    Parameters
    ----------
    samples : (…, c + 1) in 0 … 1, alpha last, not multiplied into the colours.
    paper : grey level in 0 … 1, or one a channel.

    Returns
    -------
    (…, c).
    """
    colours, alpha = samples[..., :-1], samples[..., -1:]
    return colours * alpha + paper * (1 - alpha)


def _to_uint8(pixels: Pixels) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if decoded_dtype(pixels.dtype, "pixels:") == "uint16":
        return ((pixels.astype(np.uint32) + np.uint32(128)) // np.uint32(257)).astype(np.uint8)
    pixels = widen(pixels)
    if pixels.dtype == np.uint8:
        return pixels
    require_finite(pixels)
    with np.errstate(over="ignore"):  # what becomes infinite is out of range
        levels = np.rint(pixels * pixels.dtype.type(255))
    if levels.size and (levels.min() < 0 or levels.max() > 255):
        raise ImageError(
            "range",
            f"floating point values from {pixels.min():g} to {pixels.max():g}; colours lie in "
            "0 … 1: rescale them, or store 8 or 16 bits",
        )
    return levels.astype(np.uint8)
