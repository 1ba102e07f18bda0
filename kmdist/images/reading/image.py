"""One image file: its header, of which nothing is decoded, and its pixels, whole or by window."""

import math
import os
from typing import BinaryIO

import cv2
import numpy as np

from kmdist.errors import ImageError
from kmdist.images.blocks import Window
from kmdist.images.finding.files import file_status, open_regular, os_fault, read_bytes
from kmdist.images.finding.find import Found
from kmdist.images.finding.formats import SNIFFED_BYTES, detect, missing_package, refused
from kmdist.images.pixels import TRANSPOSED, Pixels, orient, require_finite
from kmdist.images.reading.integrity import (
    bare_png,
    diagnose,
    reaches_end,
    require_plausible,
    require_whole,
    silenced,
)
from kmdist.images.source import Header, ImageSource
from kmdist.urls import is_url

# What OpenCV would tell of files that are rejected is not for users.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

MAX_PIXELS = 200_000_000
_MAPPED_BYTES = 1 << 25
"""glibc maps more than this anew each time, in small pages. Of a JPEG of 12 Mpx OpenCV makes an
array there, and a copy, in 84 ms; libjpeg alone, into large pages of NumPy's, takes 47."""


@silenced()
def probe(found: Found, *, max_pixels: int = MAX_PIXELS) -> ImageSource:
    """Read the header of one image.

    Parameters
    ----------
    max_pixels : limit for images that must be decoded whole.

    Raises
    ------
    ImageError : the file cannot be used; see the codes of `kmdist.images`.
    """
    if os.path.isdir(found.path):
        from kmdist.images.reading.zarr_images import probe_zarr

        header, status = probe_zarr(found.path, max_pixels)
        return _source(found, "zarr", header, status, max_pixels)
    with open_regular(found.path) as file:
        try:
            status = _status(file, found.path)
            kind, header = _probe_file(file, found.path, status[0], max_pixels)
        except OSError as error:
            raise os_fault(error, found.path) from error
    return _source(found, kind, header, status, max_pixels)


def _status(file: BinaryIO, path: str) -> tuple[int, int, int]:
    """Size and times, of the open file where it has a descriptor."""
    if is_url(path):
        return file_status(path)
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _probe_file(file: BinaryIO, path: str, size_bytes: int, max_pixels: int) -> tuple[str, Header]:
    prefix = file.read(SNIFFED_BYTES)
    file.seek(0)
    if not prefix:
        raise ImageError("empty", "the file is empty (0 bytes)")
    suffix = os.path.splitext(path)[1].lower()
    kind = detect(prefix, suffix)
    unread = refused(prefix)
    if unread is not None:
        raise ImageError("unsupported", f"{unread} is not read: convert it to TIFF, PNG or JPEG")
    if kind is not None and (missing := missing_package(kind)) is not None:
        raise ImageError(
            "unsupported",
            f"{missing} is not installed, which reads it: pip install 'kmdist[photos]', or convert "
            "it to TIFF, PNG or JPEG",
        )
    if kind is None:
        raise ImageError("not_image", f"not an image: it begins with {prefix[:12]!r}")
    if kind == "tiff":
        from kmdist.images.reading.tiff import probe_tiff

        return kind, probe_tiff(file, size_bytes)
    try:
        if kind in ("raw", "exr"):
            from kmdist.images.reading.photos import probe_photo

            return kind, probe_photo(file, kind)
        from kmdist.images.reading.pillow_images import probe_picture, read_jpegxl

        if kind == "jpegxl" and (jxl := read_jpegxl(file)) is not None:
            _require_few(jxl.width, jxl.height, max_pixels)
            if jxl.channels:
                return kind, Header(jxl.width, jxl.height, jxl.channels, "uint8", "pillow")
        return kind, probe_picture(file, kind)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers fail in ways of their own on broken bytes
        file.seek(0)
        raise diagnose(kind, file.read(), error) from error


def _source(
    found: Found, kind: str, header: Header, status: tuple[int, int, int], max_pixels: int
) -> ImageSource:
    width, height = header.width, header.height
    if min(width, height) < 1:
        raise ImageError("corrupt", f"corrupt {kind.upper()}: it says {width} × {height} px")
    if not header.windowed:
        _require_few(width, height, max_pixels)
    require_plausible(kind, width * height, status[0])
    if header.orientation in TRANSPOSED:
        width, height = height, width
    return ImageSource(
        found.name,
        found.path,
        format=kind,
        size_bytes=status[0],
        mtime_ns=status[1],
        ctime_ns=status[2],
        **{**vars(header), "width": width, "height": height},
    )


def _require_few(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            "too_large",
            f"{width:,} × {height:,} = {width * height:,} px, more than the {max_pixels:,} "
            "allowed for an image decoded whole: raise --max-pixels, or store it as a tiled TIFF "
            "or Zarr, which have no such limit",
        )


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
    pixels = _large_jpeg(source, data)
    if pixels is None:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise diagnose(source.format, data)
    if pixels.ndim == 2:
        return pixels[:, :, None]
    if pixels.shape[2] == 4:
        cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA, dst=pixels)
    return pixels


def _large_jpeg(source: ImageSource, data: bytes) -> Pixels | None:
    """The pixels of a large JPEG without damage; None: OpenCV knows better."""
    shape = [source.height, source.width, source.channels]
    if source.orientation in TRANSPOSED:
        shape[:2] = shape[1::-1]
    if source.format != "jpeg" or math.prod(shape) <= _MAPPED_BYTES or not reaches_end(data):
        return None
    import imagecodecs

    pixels = np.empty(shape, np.uint8)
    try:
        imagecodecs.jpeg8_decode(data, out=pixels.squeeze())
    except (imagecodecs.Jpeg8Error, ValueError):
        return None
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
