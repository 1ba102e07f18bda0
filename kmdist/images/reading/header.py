"""Read an image's header: size, kind, orientation. Nothing is decoded.

That of a JPEG XL picture is read here, since its readers decode all of it to tell: ISO/IEC 18181-1
(codestream: SizeHeader, ImageMetadata) and 18181-2 (boxes).
"""

import os
from typing import BinaryIO, NamedTuple

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
        from kmdist.images.reading.pillow_images import probe_picture

        if kind == "jpegxl" and (jxl := read_header(file)) is not None:
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
        name=found.name,
        path=found.path,
        width=width,
        height=height,
        channels=header.channels,
        dtype=header.dtype,
        format=kind,
        windowed=header.windowed,
        size_bytes=status[0],
        mtime_ns=status[1],
        ctime_ns=status[2],
        pages=header.pages,
        orientation=header.orientation,
        decoder=header.decoder,
        profile=header.profile,
        grid=header.grid,
    )


def _require_few(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            "too_large",
            f"{width:,} × {height:,} = {width * height:,} px, more than the {max_pixels:,} "
            "allowed for an image decoded whole: raise --max-pixels, or store it as a tiled TIFF "
            "or Zarr, which have no such limit",
        )


_CODESTREAM = b"\xff\x0a"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIDE_BITS = (9, 13, 18, 30)
_START_BYTES = 36
_GREY, _D65, _SRGB_PRIMARIES, _SRGB_CURVE = 1, 1, 1, 13


class JpegXL(NamedTuple):
    """Width and height as stored; channels of 8 bits of sRGB, 0 where it is a picture of others."""

    width: int
    height: int
    channels: int


def read_header(file: BinaryIO) -> JpegXL | None:
    """What the header says; None where there is no such header.

    Parameters
    ----------
    file : at its start, which is where it is left.
    """
    start, by_jpeg = _codestream(file)
    file.seek(0)
    if start[:2] != _CODESTREAM or len(start) < 12:
        return None
    bits = _Bits(int.from_bytes(start[2:], "little"))
    small = bits.take(1)
    height = bits.side(small)
    ratio = bits.take(3)
    wide, high = _RATIOS[ratio - 1]
    width = height * wide // high if ratio else bits.side(small)
    return JpegXL(width, height, 0 if by_jpeg else _channels(bits))


def _channels(bits: "_Bits") -> int:
    """Of plain pictures: no preview, animation or turning, 8 bits, one extra channel of alpha."""
    if bits.take(1):
        return 3
    if bits.take(1) or bits.take(3):
        return 0
    bits.take(1)
    extra = bits.take(2)
    if extra > 1 or (extra and not bits.take(1)):
        return 0
    bits.take(1)
    space = 0
    if not bits.take(1):
        if bits.take(1):
            return 0
        space, white = bits.enumerated(), bits.enumerated()
        primaries = _SRGB_PRIMARIES if space == _GREY else bits.enumerated()
        if space > _GREY or (white, primaries) != (_D65, _SRGB_PRIMARIES):
            return 0
        if bits.take(1) or bits.enumerated() != _SRGB_CURVE:
            return 0
    return 4 if extra else 1 if space == _GREY else 3


class _Bits:
    """Numbers packed from the lowest bit on."""

    def __init__(self, value: int) -> None:
        self._value = value

    def take(self, n: int) -> int:
        taken = self._value & ((1 << n) - 1)
        self._value >>= n
        return taken

    def side(self, small: int) -> int:
        if small:
            return 8 * (self.take(5) + 1)
        return self.take(_SIDE_BITS[self.take(2)]) + 1

    def enumerated(self) -> int:
        """A number of a list of names."""
        selected = self.take(2)
        return (0, 1, 2, 18)[selected] + self.take((0, 0, 4, 6)[selected])


def _codestream(file: BinaryIO) -> tuple[bytes, bool]:
    """The first bytes of the codestream, which may lie in boxes, and whether it was a JPEG."""
    start, by_jpeg = file.read(_START_BYTES), False
    if start[:2] == _CODESTREAM:
        return start, by_jpeg
    file.seek(0)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        header_bytes = 8
        if length == 1:
            length, header_bytes = int.from_bytes(file.read(8), "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            return file.read(_START_BYTES)[4 if kind == b"jxlp" else 0 :], by_jpeg
        by_jpeg = by_jpeg or kind == b"jbrd"
        if length < header_bytes:
            break
        file.seek(length - header_bytes, 1)
    return b"", by_jpeg
