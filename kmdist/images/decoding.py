"""Decode images: whole with OpenCV or Pillow, by window from TIFF and Zarr; make 8-bit RGB."""

import io
import os
import warnings

import cv2
import numpy as np

from kmdist.errors import ImageError
from kmdist.images.blocks import Window
from kmdist.images.integrity import CHECKS
from kmdist.images.source import ImageSource

_OPENCV = frozenset({"jpeg", "png", "webp"})


def decode(source: ImageSource, window: Window | None = None) -> np.ndarray:
    """Decode an image or a window of it.

    Parameters
    ----------
    window : after orientation; None: the whole image. For windowed images only the tiles that
        it touches are read.

    Returns
    -------
    (y, x, c) array of the stored dtype; c is 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises
    ------
    ImageError : the file cannot be read, is cut short or damaged, or holds values that no
        colour can be made of.
    """
    if source.format == "zarr":
        from kmdist.images.zarr_images import read_zarr

        return read_zarr(source, window)
    if source.format == "tiff":
        from kmdist.images.tiff import read_tiff

        return read_tiff(source, window)
    pixels = _decode_whole(source, _read(source.path))
    if window is None:
        return pixels
    return pixels[window.y0 : window.y1, window.x0 : window.x1]


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        code = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        raise ImageError(code, f"cannot be read: {error.strerror or error}") from error


def _decode_whole(source: ImageSource, data: bytes) -> np.ndarray:
    check = CHECKS.get(source.format.removeprefix("cmyk-"))
    if check:
        check(data)
    try:
        pixels = _with_opencv(source, data) if source.format in _OPENCV else _with_pillow(data)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("corrupt", "decoding needs more memory than there is") from error
    except Exception as error:  # decoders fail in their own ways on broken bytes
        raise ImageError("corrupt", f"damaged {source.format}: {error}") from error
    pixels = orient(pixels, source.orientation)
    if pixels.shape[:2] != (source.height, source.width):
        raise ImageError(
            "corrupt",
            f"decodes to {pixels.shape[1]} × {pixels.shape[0]} px where the header says "
            f"{source.width} × {source.height}",
        )
    return pixels


def _with_opencv(source: ImageSource, data: bytes) -> np.ndarray:
    if source.channels == 1:
        flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    elif source.channels == 4:
        flags = cv2.IMREAD_UNCHANGED
    else:
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ImageError("corrupt", f"damaged {source.format}: the decoder gives up")
    if pixels.ndim == 2:
        return pixels[:, :, None]
    if source.channels == 4 and pixels.shape[2] == 4:
        return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    if source.channels == 4:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return pixels


def _with_pillow(data: bytes) -> np.ndarray:
    from kmdist.images.header import open_header

    picture, _ = open_header(io.BytesIO(data), data[:16])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if picture.mode.startswith("I"):
            return np.asarray(picture).astype(np.uint16)[:, :, None]
        transparent = "transparency" in picture.info or picture.mode in ("LA", "PA", "RGBA")
        if picture.mode == "L" and not transparent:
            return np.asarray(picture)[:, :, None]
        return np.asarray(picture.convert("RGBA" if transparent else "RGB"))


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror as EXIF orientation 1 … 8 asks (EXIF 2.32, 4.6.4 A)."""
    if orientation == 1:
        return pixels
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def to_rgb8(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Make 8-bit RGB of decoded pixels.

    16-bit samples are rounded to the nearest of 256 levels (v / 257), 32-bit integers cut to
    their upper 8 bits, floating point values in 0 … 1 scaled by 255 and rounded.

    Parameters
    ----------
    pixels : (y, x, c), c = 1, 3 or 4.

    Returns
    -------
    rgb : (y, x, 3) uint8; `pixels` itself where it is that already.
    unclustered : (y, x) bool, True where alpha is 0; None where no pixel is transparent.

    Raises
    ------
    ImageError : values that are not finite or outside 0 … 1, or samples of another type.
    """
    eight = _to_uint8(pixels)
    if eight.shape[2] == 3:
        return eight, None
    if eight.shape[2] == 1:
        return np.repeat(eight, 3, axis=2), None
    transparent = pixels[:, :, 3] == 0
    return np.ascontiguousarray(eight[:, :, :3]), transparent if transparent.any() else None


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    kind = pixels.dtype
    if kind == np.uint8:
        return pixels
    if kind == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if kind == np.uint16:
        return ((pixels.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)
    if kind == np.uint32:
        return (pixels >> 24).astype(np.uint8)
    if kind.kind != "f":
        raise ImageError("dtype", f"samples of type {kind}; 8, 16 or 32 bit unsigned or float")
    if not np.isfinite(pixels).all():
        bad = int((~np.isfinite(pixels)).sum())
        raise ImageError("non_finite", f"{bad:,} values are NaN or infinite")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise ImageError(
            "range",
            f"floating point values from {low:g} to {high:g}; colours lie in 0 … 1: "
            "rescale them, or store 8 or 16 bits",
        )
    return np.rint(pixels.astype(np.float32) * np.float32(255)).astype(np.uint8)
