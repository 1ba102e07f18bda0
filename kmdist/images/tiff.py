"""TIFF: headers, pages and windows, through tifffile."""

import os
from typing import Any

import numpy as np

from kmdist.errors import ImageError
from kmdist.images.blocks import Window
from kmdist.images.find import Found
from kmdist.images.source import ImageSource

_ORIENTATION_TAG = 274
_MAX_SEGMENT_PIXELS = 1 << 26
_TRANSPOSED = frozenset({5, 6, 7, 8})


def probe_tiff(found: Found, status: os.stat_result) -> ImageSource:
    """Read a TIFF's directory.

    Raises
    ------
    ImageError : not a picture that can be read, or cut short.
    """
    import tifffile

    try:
        with tifffile.TiffFile(found.path) as file:
            n_pages = len(file.pages)
            if not n_pages:
                raise ImageError("corrupt", "TIFF without a page")
            page = file.pages.first
            layout = _layout(page)
            _check_segments(page, status.st_size)
            orientation = _orientation(page)
            windowed = layout["windowed"] and orientation == 1
    except ImageError:
        raise
    except OSError:
        raise
    except Exception as error:  # tifffile fails in many ways on broken directories
        raise ImageError("corrupt", f"damaged TIFF: {error or type(error).__name__}") from error
    height, width = layout["height"], layout["width"]
    if orientation in _TRANSPOSED:
        height, width = width, height
    return ImageSource(
        found.name,
        found.path,
        width,
        height,
        layout["channels"],
        layout["dtype"],
        "tiff",
        windowed,
        status.st_size,
        status.st_mtime_ns,
        n_pages,
        orientation,
    )


def _layout(page: Any) -> dict[str, Any]:
    """Size, channels of the result, dtype and whether windows can be read."""
    from tifffile import PHOTOMETRIC

    if page.imagedepth != 1:
        raise ImageError("unsupported", f"TIFF volume of {page.imagedepth} planes in one page")
    if page.dtype is None:
        raise ImageError("dtype", f"TIFF samples of {page.bitspersample} bits")
    samples = page.samplesperpixel
    channels = {
        PHOTOMETRIC.PALETTE: 3,
        PHOTOMETRIC.SEPARATED: 3,
        PHOTOMETRIC.RGB: 4 if samples == 4 and _has_alpha(page) else 3,
        PHOTOMETRIC.YCBCR: 3,
    }.get(page.photometric, 1)
    needed = 4 if page.photometric == PHOTOMETRIC.SEPARATED else (3 if channels > 1 else 1)
    if page.photometric == PHOTOMETRIC.PALETTE:
        needed = 1
    if samples < needed or samples > 4 or (channels == 1 and samples == 2 and not _has_alpha(page)):
        raise ImageError("channels", f"{samples} channels; 1, 3 or 4 are allowed")
    if channels == 1 and samples > 1:
        channels = samples if samples in (3, 4) else 4
    segment = (
        (page.tilelength * page.tilewidth)
        if page.is_tiled
        else (min(page.rowsperstrip, page.imagelength) * page.imagewidth)
    )
    many = len(page.dataoffsets) > 1
    dtype = "uint8" if page.photometric == PHOTOMETRIC.PALETTE else str(np.dtype(page.dtype))
    if np.dtype(page.dtype).kind not in "ufb" or np.dtype(page.dtype) == np.uint64:
        raise ImageError("dtype", f"samples of type {page.dtype}; unsigned 8 to 32 bit or float")
    return {
        "height": page.imagelength,
        "width": page.imagewidth,
        "channels": channels,
        "dtype": dtype,
        "windowed": many and segment <= _MAX_SEGMENT_PIXELS,
    }


def _has_alpha(page: Any) -> bool:
    return any(int(extra) in (1, 2) for extra in page.extrasamples)


def _orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION_TAG)
    value = int(tag.value) if tag is not None and isinstance(tag.value, int) else 1
    return value if 1 <= value <= 8 else 1


def _check_segments(page: Any, size_bytes: int) -> None:
    """Every tile or strip that the size asks for must be listed and lie inside the file."""
    if page.is_tiled:
        down = -(-page.imagelength // page.tilelength)
        across = -(-page.imagewidth // page.tilewidth)
    else:
        down, across = -(-page.imagelength // max(1, min(page.rowsperstrip, page.imagelength))), 1
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    if len(page.dataoffsets) != down * across * planes:
        raise ImageError(
            "corrupt",
            f"TIFF lists {len(page.dataoffsets):,} tiles or strips where "
            f"{page.imagewidth:,} × {page.imagelength:,} px need {down * across * planes:,}",
        )
    end = max(
        (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0
    )
    if end > size_bytes:
        raise ImageError("truncated", f"truncated TIFF: {size_bytes:,} of {end:,} bytes")


def read_tiff(source: ImageSource, window: Window | None) -> np.ndarray:
    """Decode the first page, or the tiles of it that a window touches.

    Raises
    ------
    ImageError : damaged or cut short.
    """
    import tifffile

    from kmdist.images.decoding import orient

    try:
        with tifffile.TiffFile(source.path) as file:
            page = file.pages.first
            raw = _window(page, window) if window is not None else page.asarray()
            pixels = _to_channels(page, raw, source.channels)
    except ImageError:
        raise
    except OSError as error:
        code = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        raise ImageError(code, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # codecs fail in their own ways on broken bytes
        raise ImageError("corrupt", f"damaged TIFF: {error or type(error).__name__}") from error
    return pixels if window is not None else orient(pixels, source.orientation)


def _window(page: Any, window: Window) -> np.ndarray:
    import zarr

    array: Any = zarr.open_array(page.aszarr(), mode="r")
    rows, columns = slice(window.y0, window.y1), slice(window.x0, window.x1)
    if page.axes == "SYX":
        return np.asarray(array[:, rows, columns])
    return np.asarray(array[rows, columns])


def _to_channels(page: Any, raw: np.ndarray, channels: int) -> np.ndarray:
    """(y, x, c) colours of what the file stores (TIFF 6.0, sections 3 to 6 and 16)."""
    from tifffile import PHOTOMETRIC

    if page.axes == "SYX":
        raw = np.moveaxis(raw, 0, -1)
    if raw.ndim == 2:
        raw = raw[:, :, None]
    if page.photometric == PHOTOMETRIC.PALETTE:
        table = np.asarray(page.colormap)
        return np.ascontiguousarray(
            (table[:, raw[:, :, 0]] >> 8).astype(np.uint8).transpose(1, 2, 0)
        )
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        raw = ~raw if raw.dtype == np.bool_ else np.iinfo(raw.dtype).max - raw
    if page.photometric == PHOTOMETRIC.SEPARATED:
        top = np.iinfo(raw.dtype).max
        ink = raw[:, :, :4].astype(np.uint64)
        white = top - ink[:, :, 3:]
        return ((top - ink[:, :, :3]) * white // top).astype(raw.dtype)
    if channels == 4 and raw.shape[2] == 2:
        raw = np.concatenate([np.repeat(raw[:, :, :1], 3, axis=2), raw[:, :, 1:]], axis=2)
    return np.ascontiguousarray(raw[:, :, :channels])
