"""Header of a JPEG XL picture, whose readers decode all of it to tell.

ISO/IEC 18181-1 (codestream: SizeHeader, ImageMetadata) and 18181-2 (boxes).
"""

from typing import BinaryIO, NamedTuple

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
