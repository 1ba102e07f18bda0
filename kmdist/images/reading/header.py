"""Read an image's header: size, kind, orientation. Nothing is decoded."""

import os
from typing import BinaryIO

from kmdist.errors import ImageError
from kmdist.images.finding.files import file_status, open_regular, os_fault
from kmdist.images.finding.find import Found
from kmdist.images.finding.formats import SNIFFED_BYTES, detect, missing_package, refused
from kmdist.images.pixels import TRANSPOSED
from kmdist.images.reading.integrity import diagnose, require_plausible, silenced
from kmdist.images.source import Header, ImageSource
from kmdist.urls import is_url

MAX_PIXELS = 200_000_000


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
