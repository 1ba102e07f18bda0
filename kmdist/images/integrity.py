"""Whether the bytes of a file are all there: what decoders let pass."""

import re
import struct
import zlib

from kmdist.errors import ImageError

# In entropy-coded data FF 00 is a stuffed FF, FF D0 … D7 a restart, FF FF a fill byte
# (ITU-T T.81, B.1.1.5); anything else ends the scan.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_EOI, _SOS = 0xD9, 0xDA
_BARE_MARKERS = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})


def check_jpeg(data: bytes) -> None:
    """Require an end marker after the last scan; bytes behind it are allowed.

    OpenCV returns a truncated JPEG filled with grey. Thumbnails with end markers of their own
    lie inside segments, which are skipped by their length.

    Raises
    ------
    ImageError : the picture ends early, or has no scan.
    """
    position, n_scans = 2, 0
    while True:
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            raise ImageError(
                "truncated",
                f"truncated JPEG: no end marker in {len(data):,} bytes, {n_scans} scans begun",
            )
        marker = data[found.start() + 1]
        position = found.end()
        if marker == _EOI:
            if not n_scans:
                raise ImageError("corrupt", "JPEG without picture data before its end marker")
            return
        if marker in _BARE_MARKERS:
            continue
        if position + 2 > len(data):
            continue
        n_scans += marker == _SOS
        position += max(2, struct.unpack_from(">H", data, position)[0])


def check_png(data: bytes) -> None:
    """Require whole chunks with right checksums up to the end chunk.

    Raises
    ------
    ImageError : the file ends early, or a chunk's CRC-32 is wrong.
    """
    position = 8
    view = memoryview(data)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = bytes(view[position + 4 : position + 8])
        end = position + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[position + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ImageError(
                "corrupt", f"PNG chunk {kind!r} at byte {position:,} has a wrong checksum (CRC-32)"
            )
        if kind == b"IEND":
            return
        position = end
    raise ImageError("truncated", f"truncated PNG: {len(data):,} bytes end before its end chunk")


def check_riff(data: bytes) -> None:
    """Require as many bytes as the header of a WebP file says.

    Raises
    ------
    ImageError : the file ends early.
    """
    if len(data) >= 8 and struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        promised = struct.unpack_from("<I", data, 4)[0] + 8
        raise ImageError("truncated", f"truncated WebP: {len(data):,} of {promised:,} bytes")


CHECKS = {"jpeg": check_jpeg, "png": check_png, "webp": check_riff}
