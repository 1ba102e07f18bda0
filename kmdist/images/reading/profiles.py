"""The colour profile that a file carries, as bytes of an ICC profile.

PNG also states colours without a profile (cICP, gAMA and cHRM), AVIF and HEIF by code points
(nclx): of those a profile is made, so that all go one way. Nothing said means sRGB, which is an
empty profile here.
"""

import struct
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

UNREADABLE = b"unreadable"
"""Stands for a profile that is there and cannot be read; no colour engine takes it."""

_HEAD_BYTES = 1 << 16
_WHITE_D65 = (0.3127, 0.3290)
_SRGB_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES = {
    1: (*_WHITE_D65, *_SRGB_PRIMARIES),
    2: (*_WHITE_D65, *_SRGB_PRIMARIES),
    5: (*_WHITE_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_WHITE_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_WHITE_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_WHITE_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_WHITE_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
"""White, red, green and blue as x, y, by code point (ITU-T H.273, table 2)."""
_GAMMAS = {1: 0.0, 2: 0.0, 4: 2.2, 5: 2.8, 6: 0.0, 8: 1.0, 13: 0.0, 14: 0.0, 15: 0.0, 17: 2.6}
"""Exponents by code point (ITU-T H.273, table 3); 0 is sRGB's curve, which displays also use for
pictures coded as video (1, 6, 14, 15). High dynamic range (16, 18) has no place in sRGB."""


def profile_of(picture: Any, file: BinaryIO, kind: str) -> bytes:
    """The profile of a picture that Pillow has opened; empty for sRGB.

    Parameters
    ----------
    picture : Pillow's reader; `file` : what it reads from, whose position is kept.
    """
    said = _ELSEWHERE[kind](picture, file) if kind in _ELSEWHERE else None
    if said is not None:
        return said
    if "icc_profile" in picture.info:
        return picture.info["icc_profile"] or UNREADABLE
    return b""


def _png(picture: Any, file: BinaryIO) -> bytes | None:
    """cICP before iCCP before sRGB before gAMA and cHRM (PNG, third edition, 4.3)."""
    code_points = _png_chunk(file, b"cICP")
    if code_points is not None:
        return _of_code_points(*code_points[:2]) if len(code_points) == 4 else UNREADABLE
    if "icc_profile" in picture.info:
        return None
    stated = "gamma" in picture.info or "chromaticity" in picture.info
    if "srgb" in picture.info or not stated:
        return b""
    points = tuple(picture.info.get("chromaticity", _PRIMARIES[1]))
    exponent = picture.info.get("gamma")
    if exponent == 0:
        return UNREADABLE
    # What writers of sRGB are told to add for readers that know no sRGB (PNG, 11.3.2.5).
    like_srgb = exponent is None or abs(exponent - 1 / 2.2) < 1e-3
    if like_srgb and np.allclose(points, _PRIMARIES[1], atol=2e-3):
        return b""
    return _made(points, 1 / exponent if exponent else 0.0)


def _png_chunk(file: BinaryIO, wanted: bytes) -> bytes | None:
    """The data of a chunk before the pixels of a PNG."""
    position, found = file.tell(), None
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == wanted:
            found = file.read(min(length, _HEAD_BYTES))
        if kind in (wanted, b"IDAT", b"IEND"):
            break
        file.seek(length + 4, 1)
    file.seek(position)
    return found


def _nclx(picture: Any, file: BinaryIO) -> bytes | None:
    """Code points of AVIF (ISO/IEC 23000-22, 14496-12); a profile beside them comes first."""
    if picture.info.get("icc_profile"):
        return None
    head = _head(file)
    start = head.find(b"colrnclx")
    return _of_code_points(*struct.unpack_from(">HH", head, start + 8)) if start >= 0 else None


def _jpeg2000(_: Any, file: BinaryIO) -> bytes | None:
    """The colour specification box with a profile (ISO/IEC 15444-1, I.5.3.3), else none."""
    head = _head(file)
    start = max(head.find(b"colr\x02"), head.find(b"colr\x03"))
    if start < 4:
        return None
    return _piece(file, start + 7, int.from_bytes(head[start - 4 : start], "big") - 11)


def _bmp(_: Any, file: BinaryIO) -> bytes | None:
    """The profile embedded in a bitmap of version 5, else none."""
    head = _head(file)
    if head[14:18] != b"\x7c\0\0\0" or head[70:74] != b"DEBM":
        return None
    offset, length = struct.unpack_from("<II", head, 14 + 112)
    return _piece(file, 14 + offset, length)


_ELSEWHERE = {"png": _png, "avif": _nclx, "heif": _nclx, "jpeg2000": _jpeg2000, "bmp": _bmp}


def _head(file: BinaryIO) -> bytes:
    position = file.tell()
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(position)
    return head


def _piece(file: BinaryIO, start: int, length: int) -> bytes:
    position = file.tell()
    file.seek(start)
    piece = file.read(max(0, length))
    file.seek(position)
    return piece if 0 < length == len(piece) else UNREADABLE


def _of_code_points(primaries: int, transfer: int) -> bytes:
    if primaries not in _PRIMARIES or transfer not in _GAMMAS:
        return UNREADABLE
    gamma = _GAMMAS[transfer]
    if primaries in (1, 2) and not gamma:
        return b""
    return _made(_PRIMARIES[primaries], gamma)


def of_linear_light(points: tuple[float, ...] | None) -> bytes:
    """The profile of light in some primaries, white point first; None: sRGB's."""
    return _made(points or _PRIMARIES[1], 1.0)


@lru_cache(maxsize=64)
def _made(points: tuple[float, ...], gamma: float) -> bytes:
    """A profile of a white point and primaries, and of a power curve, or for 0 sRGB's."""
    import imagecodecs

    curve: dict[str, Any] = {"gamma": gamma}
    if not gamma:
        level = np.linspace(0, 1, 4096)
        linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
        curve = {"transferfunction": linear.astype(np.float32)}
    try:
        return imagecodecs.cms_profile(
            "rgb",
            whitepoint=list(points[:2]),
            primaries=list(points[2:]),
            **curve,
        )
    except (ValueError, imagecodecs.CmsError):  # no colours have these primaries
        return UNREADABLE
