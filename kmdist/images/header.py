"""Read an image's header: size, kind, orientation. Nothing is decoded."""

import os
import warnings
from typing import Any, BinaryIO

from kmdist.errors import ImageError
from kmdist.images.find import Found
from kmdist.images.source import ImageSource

MAX_PIXELS = 200_000_000
ORIENTATION_TAG = 0x0112
TRANSPOSED = frozenset({5, 6, 7, 8})

# Pillow's plug-ins that read one picture from one file; others (EPS, PDF, stubs) run programs
# or need libraries of their own.
_FORMATS = {
    "JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "AVIF": "avif", "BMP": "bmp",
    "DIB": "bmp", "PPM": "ppm", "JPEG2000": "jpeg2000", "ICO": "ico", "SGI": "sgi", "TGA": "tga",
}  # fmt: skip
_CHANNELS = {
    "1": 1, "L": 1, "I;16": 1, "I;16B": 1, "I": 1, "P": 3, "RGB": 3, "CMYK": 3, "YCbCr": 3,
    "LA": 4, "PA": 4, "La": 4, "RGBA": 4, "RGBa": 4, "RGBX": 3,
}  # fmt: skip
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def probe(found: Found, *, max_pixels: int = MAX_PIXELS) -> ImageSource:
    """Read the header of one file.

    Parameters
    ----------
    max_pixels : limit for images that must be decoded whole.

    Raises
    ------
    ImageError : the file cannot be used; see the codes of `kmdist.images`.
    """
    if os.path.isdir(found.path):
        from kmdist.images.zarr_images import probe_zarr

        return probe_zarr(found)
    try:
        # Not blocking: a FIFO that took a file's place since it was found must not hang us.
        descriptor = os.open(found.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not status.st_size:
                raise ImageError("empty", "the file is empty (0 bytes)")
            source = _probe_file(found, file, status)
    except OSError as error:
        code = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        raise ImageError(code, f"cannot be read: {error.strerror or error}") from error
    if min(source.width, source.height) < 1:
        raise ImageError("corrupt", f"the header says {source.width} × {source.height} px")
    if not source.windowed and source.pixels > max_pixels:
        raise ImageError(
            "too_large",
            f"{source.width:,} × {source.height:,} = {source.pixels:,} px, more than the "
            f"{max_pixels:,} allowed for an image decoded whole (--max-pixels); "
            "a tiled TIFF has no such limit",
        )
    return source


def _probe_file(found: Found, file: BinaryIO, status: os.stat_result) -> ImageSource:
    head = file.read(16)
    file.seek(0)
    if head.startswith(_TIFF_MAGIC):
        from kmdist.images.tiff import probe_tiff

        return probe_tiff(found, status)
    picture, kind = open_header(file, head)
    width, height = picture.size
    orientation = _orientation(picture)
    if picture.mode not in _CHANNELS:
        raise ImageError("unsupported", f"{kind} with pixels of mode {picture.mode}")
    if orientation in TRANSPOSED:
        width, height = height, width
    mode = picture.mode
    transparent = "transparency" in picture.info and mode in ("P", "L", "1", "RGB")
    sixteen = mode.startswith("I") or (kind == "png" and _png_bit_depth(head, file) == 16)
    return ImageSource(
        found.name,
        found.path,
        width,
        height,
        4 if transparent else _CHANNELS[mode],
        "uint16" if sixteen else "uint8",
        "cmyk-jpeg" if kind == "jpeg" and mode == "CMYK" else kind,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        pages=int(getattr(picture, "n_frames", 1)) if kind in ("gif", "webp", "png") else 1,
        orientation=orientation,
    )


def _png_bit_depth(head: bytes, file: BinaryIO) -> int:
    file.seek(24)
    depth = file.read(1)
    return depth[0] if depth else 8


def open_header(file: BinaryIO, head: bytes) -> tuple[Any, str]:
    """Pillow's reader of a file, without its bomb check, which has one limit for a process."""
    from PIL import Image

    if not {"JPEG", "PNG", "WEBP", "AVIF", "JPEG2000"} <= set(Image.OPEN):
        Image.init()
    failure = "no known image header"
    for name, kind in _FORMATS.items():
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        if accept and not _accepts(accept, head):
            continue
        if name == "JPEG":
            from PIL.JpegImagePlugin import JpegImageFile

            factory = JpegImageFile  # the MPO reader would parse an index that may be broken
        try:
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return factory(file, ""), kind
        except Exception as error:  # a plug-in fails in its own ways on broken bytes
            failure = f"{kind} header cannot be read ({error or type(error).__name__})"
    raise ImageError("not_image", f"not an image: {failure}; begins with {head[:8]!r}")


def _accepts(accept: Any, head: bytes) -> bool:
    try:
        return accept(head) is True
    except Exception:  # a plug-in's test on too few bytes
        return False


def _orientation(picture: Any) -> int:
    """EXIF orientation, 1 where there is none or it is damaged."""
    if "exif" not in picture.info:
        return 1
    from PIL import Image

    try:
        exif = Image.Exif()
        exif.load(picture.info["exif"])
        value = int(exif.get(ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF is no reason to refuse the picture
        return 1
    return value if 1 <= value <= 8 else 1
