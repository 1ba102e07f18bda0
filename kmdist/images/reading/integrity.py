"""Why encoded bytes cannot be decoded, found by walking their structure, not their pixels.

C libraries are silent while they read, since of a damaged file its rejection tells: libjpeg,
libpng, libtiff, LibRaw and OpenEXR write to the stream ``stderr`` of C, some to that of Python. The
former is a variable in glibc, and points to /dev/null meanwhile: what Python and other programs
write to the terminal is not touched. Elsewhere these libraries are heard.
"""

import ctypes
import math
import os
import platform
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import takewhile
from typing import Any

from kmdist.errors import ImageError

# A marker inside or after entropy-coded data: not a stuffed zero, not a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SCAN, _END = 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
MANY_SCANS = 100
"""Progressive photographs have some ten; what has more than this may not cost more than"""
MAX_SCANNED_PIXELS = 1 << 30
"""pixels times scans: some seconds. A scan of a few bytes passes over the whole picture."""
_MOST_PIXELS = {"bmp": 128, "jpeg": 512, "png": 8 * 1032, "qoi": 62}
"""That a byte can hold: a run of BMP, of two bytes, is of 255, JPEG takes a bit a block of 64,
Deflate expands 1,032 times at the most, a run of QOI is of 62. What skips rows of a BMP holds no
pixels, and they are filled one by one."""
# Tables, comments and application data may stand between the scans of a progressive JPEG.
_WITH_LENGTH = frozenset((0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)))


def jpeg_fault(data: bytes) -> ImageError | None:
    """Truncated, corrupt, or None: whether an end marker follows the last scan of a JPEG.

    libjpeg fills missing rows with grey and decoders built on it return them as if they were
    there (OpenCV before 5 does). End markers in an EXIF thumbnail do not count, because segments
    are stepped over; bytes after the end marker (motion photographs, MPO) do no harm. Where the
    file itself ends in the marker this costs some microseconds, otherwise 0.3 ns a byte: about
    2 % of decoding it.
    """
    found = _first_scan(data)
    if isinstance(found, ImageError):
        return found
    scan, pixels = found
    if fault := _scans_fault(data, scan, pixels):
        return fault
    if data.endswith(b"\xff\xd9") or _END in _markers(data, scan):
        return None
    return ImageError(
        "truncated", f"truncated JPEG: {len(data):,} bytes without an end marker after its scans"
    )


def reaches_end(data: bytes) -> bool:
    """Whether segments of a JPEG, as long as they say, lead to its end marker: 0.3 ns a byte."""
    found = _first_scan(data)
    return not isinstance(found, ImageError) and _END in _markers(data, found[0])


def jpeg_pixels(data: bytes) -> int:
    """Pixels as the frame of a JPEG says; 0 where it says nothing.

    Raises
    ------
    ImageError : too_costly, or corrupt: libjpeg passes over bytes between its markers.
    """
    found = _first_scan(data)
    if isinstance(found, ImageError):
        if found.code == "corrupt":
            raise found
        return 0
    if fault := _scans_fault(data, *found):
        raise fault
    return found[1]


def _scans_fault(data: bytes, first_scan: int, pixels: int) -> ImageError | None:
    """Too costly or None: scans of a JPEG times its pixels."""
    if data.count(b"\xff\xda") <= MANY_SCANS:
        return None
    until_end = takewhile(lambda marker: marker != _END, _markers(data, first_scan))
    scans = 1 + sum(marker == _SCAN for marker in until_end)
    if scans <= MANY_SCANS or scans * pixels <= MAX_SCANNED_PIXELS:
        return None
    return ImageError(
        "too_costly",
        f"a JPEG of {scans:,} scans over {pixels:,} px each, which would take minutes to "
        f"decode: up to {MANY_SCANS} are allowed at this size; save it anew",
    )


def _markers(data: bytes, position: int) -> Iterator[int]:
    """Markers of a JPEG from a place on; the segments that they begin are stepped over."""
    while found := _MARKER.search(data, position):
        position = found.end()
        marker = data[position - 1]
        yield marker
        if marker in _WITH_LENGTH and position + 2 <= len(data):
            position += int.from_bytes(data[position : position + 2], "big")


def require_plausible(kind: str, pixels: int, size_bytes: int) -> None:
    """Refuse a file that is too short for what its header says, before memory is taken for it.

    Raises
    ------
    ImageError : truncated.
    """
    if pixels > _MOST_PIXELS.get(kind, pixels) * size_bytes:
        raise ImageError(
            "truncated",
            f"truncated {kind.upper()}: {size_bytes:,} bytes cannot hold the {pixels:,} px of its "
            "header",
        )


def _first_scan(data: bytes) -> tuple[int, int] | ImageError:
    """Where the entropy-coded data of the first scan begins, and pixels as the frame says."""
    position, pixels = 2, 0
    while position + 2 <= len(data):
        if data[position] != 0xFF:
            return ImageError("corrupt", f"corrupt JPEG: no marker at byte {position:,}")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        elif marker == _END:
            return ImageError("corrupt", "corrupt JPEG: it ends before any pixels")
        else:
            if marker in _FRAMES and position + 9 <= len(data):
                pixels = math.prod(struct.unpack_from(">HH", data, position + 5))
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
            if marker == _SCAN and position < len(data):
                return position, pixels
    return ImageError("truncated", f"truncated JPEG: {len(data):,} bytes end within its header")


def png_fault(data: bytes) -> ImageError | None:
    """Truncated, corrupt, or None: chunk lengths and checksums of a PNG up to its end chunk."""
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        name = kind.decode("ascii", "replace")
        if length > 0x7FFFFFFF or not kind.isalpha():
            return ImageError("corrupt", f"corrupt PNG: no chunk at byte {position:,}")
        if end > len(data):
            break
        (stored,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != stored:
            return ImageError("corrupt", f"corrupt PNG: bad CRC in {name} at byte {position:,}")
        if kind == b"IEND":
            return None
        position = end
    return ImageError("truncated", f"truncated PNG: {len(data):,} bytes without an end chunk")


def bare_png(data: bytes) -> bytes:
    """A whole PNG without what stands before its pixels and does not change them.

    libpng tells the terminal what it thinks of profiles, gamma and the like.
    """
    position = head_end = 8
    kept = []
    while (kind := data[position + 4 : position + 8]) != b"IDAT" and kind:
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if kind[:1].isupper() or kind in (b"tRNS", b"acTL", b"fcTL"):
            kept.append(data[position:end])
        position = head_end = end
    n_kept = sum(map(len, kept))
    return data if n_kept + 8 == head_end else b"".join((data[:8], *kept, data[head_end:]))


def webp_fault(data: bytes) -> ImageError | None:
    """Truncated or None: the length that a WebP file states of itself."""
    expected = 8 + int.from_bytes(data[4:8], "little")
    if len(data) < expected:
        return ImageError("truncated", f"truncated WebP: {len(data):,} of {expected:,} bytes")
    return None


def boxes_fault(data: bytes) -> ImageError | None:
    """Truncated or None: the top-level boxes of AVIF and JP2 (ISO/IEC 14496-12, 15444-1)."""
    if data[:2] == b"\xff\x4f":
        return None if data.endswith(b"\xff\xd9") else _short("JPEG 2000", data)
    position = 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        if length == 0:
            return None
        if length < 8:
            return ImageError("corrupt", f"corrupt: no box at byte {position:,}")
        position += length
    return _short("file", data) if position > len(data) else None


def pcx_fault(data: bytes) -> ImageError | None:
    """Truncated or None: the palette of 256 colours, which lies at the very end, after all runs."""
    if len(data) < 128:
        return _short("PCX", data)
    version, bits, planes, palette_kind = data[1:2], data[3:4], data[65:66], data[68:69]
    if (version, bits, planes) != (b"\5", b"\x08", b"\1") or palette_kind == b"\2":
        return None
    top, bottom = struct.unpack_from("<H2xH", data, 6)
    (stride,) = struct.unpack_from("<H", data, 66)
    runs = re.findall(rb"[\xc0-\xff].|.", data[128:-769], re.DOTALL)
    n_bytes = sum(run[0] & 63 if len(run) == 2 else 1 for run in runs)
    whole = data[-769:-768] == b"\x0c" and n_bytes >= stride * (bottom - top + 1)
    return None if whole else _short("PCX", data)


def pnm_fault(data: bytes) -> ImageError | None:
    """Truncated or None: each number of plain PGM and PPM has white space before and after it."""
    plain = data[:2] in (b"P2", b"P3")
    return _short("PNM", data) if plain and not data[-1:].isspace() else None


def _short(what: str, data: bytes) -> ImageError:
    return ImageError("truncated", f"truncated {what}: it ends at {len(data):,} bytes, too early")


_FAULTS: dict[str, Callable[[bytes], ImageError | None]] = {
    "jpeg": jpeg_fault,
    "png": png_fault,
    "webp": webp_fault,
    "avif": boxes_fault,
    "jpeg2000": boxes_fault,
    "pcx": pcx_fault,
    "ppm": pnm_fault,
}


def require_whole(kind: str, data: bytes) -> None:
    """Refuse a file that is cut off before its decoder sees it, where its structure tells.

    Decoders may let it pass, or write to the terminal of their own accord. Of PNG the checksums
    are tested too, at about 2 % of decoding.

    Raises
    ------
    ImageError : truncated or corrupt.
    """
    fault = _FAULTS[kind](data) if kind in _FAULTS else None
    if fault is not None:
        raise fault


def diagnose(kind: str, data: bytes, error: BaseException | None = None) -> ImageError:
    """The fault of bytes that a decoder has given up on.

    Parameters
    ----------
    kind : format, as `kmdist.images.finding.formats.detect` names it.
    error : what the decoder raised, if anything.
    """
    fault = _FAULTS[kind](data) if kind in _FAULTS else None
    if fault is not None:
        return fault
    said = str(error) if error is not None else ""
    if isinstance(error, EOFError) or "truncated" in said.lower() or "end of file" in said.lower():
        return ImageError("truncated", f"truncated {kind.upper()}: {said or 'it ends too early'}")
    reason = f": {' '.join(said.split())[:200]}" if said else ""
    return ImageError("corrupt", f"corrupt {kind.upper()}: it cannot be decoded{reason}")


_lock = threading.Lock()
_inside = 0
_loud: Any = None


@contextmanager
def silenced() -> Iterator[None]:
    """Keep C libraries quiet; in several threads at once, and as a decorator."""
    global _inside, _loud
    streams = _streams()
    with _lock:
        if not _inside and streams:
            stderr, nowhere = streams
            _loud, stderr.value = stderr.value, nowhere
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and streams:
                streams[0].value = _loud


@lru_cache(maxsize=1)
def _streams() -> tuple[Any, int] | None:
    """The variable that holds C's stream, and a stream that leads nowhere; None: not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    nowhere = libc.fopen(os.devnull.encode(), b"w")
    return (ctypes.c_void_p.in_dll(libc, "stderr"), nowhere) if nowhere else None
