"""Pillow: headers of all formats but TIFF and Zarr, and pixels where OpenCV will not do.

OpenCV decodes JPEG, PNG and WebP to the very pixels that Pillow gives. It differs by one level
for CMYK, leaves out transparency of grey PNG, and takes twice Pillow's time for AVIF and four
times for GIF: those are Pillow's. Headers of WebP (RFC 9649) and JPEG XL are read here, since
Pillow makes a canvas to read one, and refuses 179 Mpx of its own, and decodes all of the other.
"""

import io
import struct
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from kmdist.errors import ImageError
from kmdist.images.pixels import Pixels
from kmdist.images.reading.srgb import cmyk_to_srgb, profile_of, state_of, to_srgb
from kmdist.images.source import Header

# What Pillow would tell of files that are rejected, or read in spite of it, is not for users.
warnings.filterwarnings("ignore", module=r"PIL\.")

_PLUGINS = {
    "avif": ("AvifImagePlugin", "AvifImageFile"),
    "bmp": ("BmpImagePlugin", "BmpImageFile"),
    "dib": ("BmpImagePlugin", "DibImageFile"),
    "gif": ("GifImagePlugin", "GifImageFile"),
    "jpeg": ("JpegImagePlugin", "JpegImageFile"),
    "heif": ("pillow_heif.as_plugin", "HeifImageFile"),
    "jpegxl": ("pillow_jxl.JpegXLImagePlugin", "JXLImageFile"),
    "jpeg2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "pcx": ("PcxImagePlugin", "PcxImageFile"),
    "png": ("PngImagePlugin", "PngImageFile"),
    "ppm": ("PpmImagePlugin", "PpmImageFile"),
    "psd": ("PsdImagePlugin", "PsdImageFile"),
    "qoi": ("QoiImagePlugin", "QoiImageFile"),
    "sgi": ("SgiImagePlugin", "SgiImageFile"),
    "sun": ("SunImagePlugin", "SunImageFile"),
    "tga": ("TgaImagePlugin", "TgaImageFile"),
    "tiff": ("TiffImagePlugin", "TiffImageFile"),
}
"""Readers of one picture from one file; Pillow's others run programs, or are only stubs."""

# Mode as Pillow opens it: channels and dtype handed on, mode to convert to.
_MODES = {
    "1": (1, "uint8", "L"),
    "L": (1, "uint8", "L"),
    "I;16": (1, "uint16", ""),
    "I;16B": (1, "uint16", ""),
    "I;16L": (1, "uint16", ""),
    "F": (1, "float32", ""),
    "P": (3, "uint8", "RGB"),
    "RGB": (3, "uint8", "RGB"),
    "RGBX": (3, "uint8", "RGB"),
    "YCbCr": (3, "uint8", "RGB"),
    "CMYK": (3, "uint8", "RGB"),
    "LA": (4, "uint8", "RGBA"),
    "La": (4, "uint8", "RGBA"),
    "PA": (4, "uint8", "RGBA"),
    "RGBA": (4, "uint8", "RGBA"),
    "RGBa": (4, "uint8", "RGBA"),
}
_ORIENTATION_TAG = 0x0112
_OPENCV_SIDE, _OPENCV_PIXELS = 1 << 20, 1 << 30
_TAIL_BYTES = 1 << 16


def open_picture(file: BinaryIO, kind: str) -> Any:
    """Pillow's reader for a file whose format is known; decodes nothing yet.

    The reader's class is called, not ``Image.open``, whose limit on pixels is one for the whole
    process and not ours to change.
    """
    module, name = _PLUGINS[kind]
    return getattr(import_module(module if "." in module else f"PIL.{module}"), name)(file)


def probe_picture(file: BinaryIO, kind: str) -> Header:
    """Read a header.

    Raises
    ------
    ImageError : unsupported or dtype.
    Exception : whatever Pillow raises for a header that is damaged.
    """
    if kind == "webp":
        return _probe_webp(file)
    picture = open_picture(file, kind)
    channels, dtype, _ = _pixel_format(picture, kind)
    width, height = picture.size
    by_opencv = (
        (kind == "jpeg" and picture.mode != "CMYK")
        or (kind == "png" and not (channels == 4 and _is_grey(picture)))
    ) and (max(width, height) <= _OPENCV_SIDE and width * height <= _OPENCV_PIXELS)
    if not by_opencv and _sixteen_bits(picture):
        dtype = "uint8"  # Pillow has no colour modes of 16 bits
    return Header(
        width=width,
        height=height,
        channels=channels,
        dtype=dtype,
        decoder="opencv" if by_opencv else "pillow",
        orientation=_orientation(picture, file, kind),
        pages=_count_frames(picture, file, kind),
        profile=state_of(profile_of(picture, file, kind), _samples(picture)),
    )


def _probe_webp(file: BinaryIO) -> Header:
    from PIL import Image

    webp = read_webp(file)
    named = ((b"EXIF", "exif"), (b"XMP ", "xmp"))
    carrier = Image.new("1", (1, 1))  # of what Pillow finds an orientation in
    carrier.info = {key: webp.said[name] for name, key in named if name in webp.said}
    return Header(
        width=webp.width,
        height=webp.height,
        channels=4 if webp.alpha else 3,
        dtype="uint8",
        decoder="opencv",
        orientation=_orientation(carrier, file, "webp"),
        pages=webp.frames,
        profile=state_of(webp.said.get(b"ICCP", b""), "RGB"),
    )


def with_srgb_colours(pixels: Pixels, data: bytes, kind: str) -> Pixels:
    """Pixels of a file that OpenCV has decoded, converted from the profile in it."""
    file = io.BytesIO(data)
    if kind == "webp":
        return to_srgb(pixels, read_webp(file).said[b"ICCP"])
    return to_srgb(pixels, profile_of(open_picture(file, kind), file, kind))


def decode_picture(data: bytes, kind: str, *, convert: bool = False) -> Pixels:
    """Decode the first frame as (y, x, c).

    Parameters
    ----------
    convert : to sRGB from the profile in the file, which is known to be usable.

    Raises
    ------
    ImageError : unsupported or dtype.
    Exception : whatever Pillow raises for bytes that are damaged.
    """
    file = io.BytesIO(data)
    picture = open_picture(file, kind)
    channels, dtype, mode = _pixel_format(picture, kind)
    profile = profile_of(picture, file, kind) if convert else b""
    if profile and picture.mode == "CMYK":
        return cmyk_to_srgb(picture, profile)
    if channels == 4 and "transparency" in picture.info and _is_grey(picture):
        pixels = _transparent_grey(picture)
    else:
        pixels = np.array(picture.convert(mode) if mode else picture).astype(dtype, copy=False)
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    return to_srgb(pixels, profile) if profile else pixels


def _transparent_grey(picture: Any) -> Pixels:
    """(y, x, 4) of a grey PNG one of whose levels is transparent (PNG, 11.3.2.1).

    The level is stated in the file's own bits, which Pillow has spread over eight.
    """
    step = {"L;2": 85, "L;4": 17}.get(str(picture.tile[0][3]), 1)
    level = picture.info["transparency"] * step
    grey = np.array(picture.convert("L") if picture.mode == "1" else picture)
    top = np.iinfo(grey.dtype).max
    alpha = np.where(grey == level & top, 0, top).astype(grey.dtype)
    return np.dstack([grey, grey, grey, alpha])


def _is_grey(picture: Any) -> bool:
    return picture.mode in ("1", "L", "LA", "I", "F") or picture.mode.startswith("I;16")


def _samples(picture: Any) -> str:
    """What a profile is of: ``L``, ``RGB`` or ``CMYK``."""
    return "CMYK" if picture.mode == "CMYK" else "L" if _is_grey(picture) else "RGB"


def _pixel_format(picture: Any, kind: str) -> tuple[int, str, str]:
    mode = picture.mode
    if mode == "I" and kind == "ppm":
        return 1, "uint16", ""  # 0 … 65,535 in Pillow's 32-bit mode
    if mode not in _MODES:
        raise ImageError("unsupported", f"{kind.upper()} with pixels of kind {mode}")
    if "transparency" in picture.info and mode in ("1", "L", "P", "RGB", "I;16"):
        deep = mode == "I;16" or _sixteen_bits(picture)
        return 4, "uint16" if deep else "uint8", "RGBA"
    channels, dtype, to_mode = _MODES[mode]
    return channels, "uint16" if _sixteen_bits(picture) else dtype, to_mode


def _sixteen_bits(picture: Any) -> bool:
    """Whether a PNG has 16 bits where Pillow's mode says 8."""
    if picture.format != "PNG" or not picture.tile or picture.mode.startswith("I"):
        return False
    return str(picture.tile[0][3]).endswith(";16B")


def _orientation(picture: Any, file: BinaryIO, kind: str) -> int:
    """EXIF or XMP orientation, 1 where there is none or it is damaged."""
    from PIL import Image

    if kind == "heif" or (kind == "jpegxl" and not picture.jpeg):
        return 1  # the decoder has turned it
    try:
        if kind == "png" and "exif" not in picture.info:
            late = _late_exif(file)
            if late is not None:
                picture.info["exif"] = late
        # Not the method of PNG's own class, which decodes the whole picture.
        value = Image.Image.getexif(picture).get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF is no reason to refuse the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _late_exif(file: BinaryIO) -> bytes | None:
    """EXIF that a PNG carries after its pixels, looked for in its last 64 KiB."""
    size_bytes = file.seek(0, io.SEEK_END)
    position = file.tell()
    file.seek(max(0, size_bytes - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    file.seek(position)
    start = tail.rfind(b"eXIf")
    if start < 4:
        return None
    end = start + 4 + int.from_bytes(tail[start - 4 : start], "big")
    if zlib.crc32(tail[start:end]) != int.from_bytes(tail[end : end + 4], "big"):
        return None
    return b"Exif\0\0" + tail[start + 4 : end]


def _count_frames(picture: Any, file: BinaryIO, kind: str) -> int:
    """Frames of animations, pictures of an MPO; 1 where that cannot be told."""
    try:
        if kind == "psd":
            return 1  # Pillow counts layers
        if kind == "jpeg":
            return _count_mpo(file) if "mp" in picture.info else 1
        return max(1, int(getattr(picture, "n_frames", 1)))
    except Exception:  # a broken later frame is no reason to refuse the first
        return 1


def _count_mpo(file: BinaryIO) -> int:
    from PIL.JpegImagePlugin import jpeg_factory

    file.seek(0)
    return int(getattr(jpeg_factory(file), "n_frames", 1))


_KEPT = (b"ICCP", b"EXIF", b"XMP ")
_ALPHA = 0x10


@dataclass(frozen=True)
class WebP:
    """What a file says before its pixels.

    Parameters
    ----------
    alpha : some pixels may be transparent.
    frames : 1 of a still picture.
    said : chunks of profile, EXIF and XMP by name.
    """

    width: int
    height: int
    alpha: bool
    frames: int
    said: dict[bytes, bytes]


def read_webp(file: BinaryIO) -> WebP:
    """Walk the chunks of a file; none that holds pixels is read.

    Raises
    ------
    ImageError : corrupt: it does not say how large it is. Other faults are its decoder's.
    """
    file.seek(12)
    first = file.read(18)
    size = _size(first)
    if size is None:
        raise ImageError("corrupt", "corrupt WEBP: no header of a picture")
    said: dict[bytes, bytes] = {}
    seen: Counter[bytes] = Counter()
    file.seek(12)
    while len(head := file.read(8)) == 8:
        name, length = head[:4], int.from_bytes(head[4:], "little")
        seen[name] += 1
        start = file.tell()
        if name in _KEPT:
            said.setdefault(name, file.read(length))
        file.seek(start + length + length % 2)
    return WebP(*size, max(1, seen[b"ANMF"]), said)


def _size(first: bytes) -> tuple[int, int, bool] | None:
    """Width, height, and whether there is alpha, of a first chunk."""
    name, data = first[:4], first[8:]
    if name == b"VP8X" and len(data) == 10:
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (4, 7))
        return width, height, bool(data[0] & _ALPHA)
    if name == b"VP8L" and data[:1] == b"\x2f" and len(data) >= 5:
        (bits,) = struct.unpack_from("<I", data, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    if name == b"VP8 " and data[3:6] == b"\x9d\x01\x2a" and len(data) == 10:
        width, height = struct.unpack_from("<HH", data, 6)
        return width & 0x3FFF, height & 0x3FFF, False
    return None


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


def read_jpegxl(file: BinaryIO) -> JpegXL | None:
    """What the header of JPEG XL says; None where there is no such header.

    Pillow's plugin decodes the picture to tell. See ISO/IEC 18181-1 (codestream: SizeHeader,
    ImageMetadata) and 18181-2 (boxes).

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
    return JpegXL(width, height, 0 if by_jpeg else _jpegxl_channels(bits))


def _jpegxl_channels(bits: "_Bits") -> int:
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
