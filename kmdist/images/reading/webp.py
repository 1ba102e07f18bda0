"""WebP headers (RFC 9649). Pillow makes a canvas to read one, and refuses 179 Mpx of its own."""

import struct
from collections import Counter
from dataclasses import dataclass
from typing import BinaryIO

from kmdist.errors import ImageError

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
