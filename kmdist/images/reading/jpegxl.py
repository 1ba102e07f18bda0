"""Size of a JPEG XL picture from its header: its readers decode all of it to tell.

ISO/IEC 18181-1 (codestream, SizeHeader) and 18181-2 (boxes).
"""

from typing import BinaryIO

_CODESTREAM = b"\xff\x0a"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIDE_BITS = (9, 13, 18, 30)


def size_of(file: BinaryIO) -> tuple[int, int] | None:
    """Width and height as stored; None where there is no such header.

    Parameters
    ----------
    file : at its start, which is where it is left.
    """
    start = _codestream(file)
    file.seek(0)
    if start[:2] != _CODESTREAM or len(start) < 12:
        return None
    bits = _Bits(int.from_bytes(start[2:], "little"))
    small = bits.take(1)
    height = bits.side(small)
    ratio = bits.take(3)
    if not ratio:
        return bits.side(small), height
    wide, high = _RATIOS[ratio - 1]
    return height * wide // high, height


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


def _codestream(file: BinaryIO) -> bytes:
    """The first bytes of the codestream, which may lie in boxes; empty where there is none."""
    start = file.read(12)
    if start[:2] == _CODESTREAM:
        return start
    file.seek(0)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        header_bytes = 8
        if length == 1:
            length, header_bytes = int.from_bytes(file.read(8), "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            return file.read(16)[4 if kind == b"jxlp" else 0 :]
        if length < header_bytes:
            return b""
        file.seek(length - header_bytes, 1)
    return b""
