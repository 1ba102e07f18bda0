"""One image decoded, whole or by window."""

import cv2
import numpy as np

from kmdist.errors import ImageError
from kmdist.images.blocks import Window
from kmdist.images.finding.files import read_bytes
from kmdist.images.pixels import Pixels, orient, require_finite
from kmdist.images.reading.integrity import bare_png, diagnose, require_whole, silenced
from kmdist.images.source import ImageSource

# What OpenCV would tell of files that are rejected is not for users.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@silenced()
def decode(source: ImageSource, window: Window | None = None) -> Pixels:
    """Decode an image or a window of it; the same pixels in any process.

    Parameters
    ----------
    window : after orientation; None: the whole image. Of windowed images only the strips, tiles
        or chunks that it touches are read; any other is decoded whole and cut.

    Returns
    -------
    (y, x, c) array of `ImageSource.dtype`; c is 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises
    ------
    ImageError : missing, unreadable, changed, truncated, corrupt or non_finite.
    """
    whole = Window(0, 0, source.height, source.width)
    wanted = window or whole
    if source.decoder == "zarr":
        from kmdist.images.reading.zarr_images import read_zarr

        pixels = read_zarr(source, wanted)
    elif source.decoder == "tifffile":
        from kmdist.images.reading.tiff import read_tiff

        pixels = read_tiff(source, wanted)
    else:
        pixels = _decode_whole(source)
        _require_shape(source, pixels, whole)
        if wanted != whole:
            pixels = pixels[wanted.y0 : wanted.y1, wanted.x0 : wanted.x1]
    _require_shape(source, pixels, wanted)
    require_finite(pixels)
    return pixels


def _decode_whole(source: ImageSource) -> Pixels:
    data = read_bytes(source.path)
    if len(data) != source.size_bytes:
        raise ImageError(
            "changed",
            f"the file has {len(data):,} bytes now, {source.size_bytes:,} when its header was read",
        )
    require_whole(source.format, data)
    try:
        if source.decoder == "opencv":
            pixels = _with_opencv(source, data)
            if source.profile == "converted":
                from kmdist.images.reading.pillow_images import with_srgb_colours

                pixels = with_srgb_colours(pixels, data, source.format)
        elif source.decoder == "photo":
            from kmdist.images.reading.photos import decode_photo

            pixels = decode_photo(data, source.format)
        else:
            from kmdist.images.reading.pillow_images import decode_picture

            convert = source.profile == "converted"
            pixels = decode_picture(data, source.format, convert=convert)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders fail in ways of their own on broken bytes
        raise diagnose(source.format, data, error) from error
    return orient(pixels, source.orientation)


def _with_opencv(source: ImageSource, data: bytes) -> Pixels:
    if source.channels == 4:
        flags = cv2.IMREAD_UNCHANGED  # the only mode that keeps alpha; always blue first
    else:
        grey = source.channels == 1
        flags = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB
        # Orientation is ours to apply: OpenCV misses what AVIF, XMP and late PNG chunks say.
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
        flags |= cv2.IMREAD_ANYDEPTH if source.dtype == "uint16" else 0
    if source.format == "png" and source.profile:  # the copy costs 5 % of decoding
        data = bare_png(data)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise diagnose(source.format, data)
    if pixels.ndim == 2:
        return pixels[:, :, None]
    if pixels.shape[2] == 4:
        cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA, dst=pixels)
    return pixels


def _require_shape(source: ImageSource, pixels: Pixels, window: Window) -> None:
    """What was decoded must be what the header promised: blocks and outputs are laid out on it."""
    promised = (window.height, window.width, source.channels)
    if pixels.shape != promised or pixels.dtype != source.dtype:
        raise ImageError(
            "corrupt",
            f"corrupt {source.format.upper()}: decodes to {pixels.shape} {pixels.dtype} where its "
            f"header promises {promised} {source.dtype}",
        )
