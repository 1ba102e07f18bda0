"""Colour profiles: what a file carries, and its pixels converted to sRGB by Little CMS.

8-bit colours go through Pillow's binding, deeper ones through that of imagecodecs, which knows
them; both with the perceptual intent. One transform is made a profile and process.

A profile is bytes of ICC. PNG also states colours without a profile (cICP, gAMA and cHRM), AVIF and
HEIF by code points (nclx): of those a profile is made, so that all go one way. Nothing said means
sRGB, which is an empty profile here.
"""

import io
import struct
from functools import lru_cache
from typing import Any, BinaryIO, Literal

import numpy as np

from kmdist.images.pixels import Pixels

State = Literal["", "converted", "unusable"]
"""What is to be done about a profile: nothing, to convert, to say that it is ignored."""

_STRIP_PIXELS = 1 << 20
"""Converted at a time: Pillow's copies of a strip take 11 bytes a pixel."""
_SAME_LEVELS = 2
"""A profile that moves no colour by more than this is sRGB: makers round its curve differently."""


@lru_cache(maxsize=64)
def state_of(profile: bytes, mode: str) -> State:
    """What is to be done about a profile.

    Parameters
    ----------
    profile : ICC profile; empty for none.
    mode : ``L``, ``RGB`` or ``CMYK``: what the samples are. Grey in the space of an RGB profile is
        its neutral axis.
    """
    if not profile:
        return ""
    try:
        if mode == "CMYK":
            _transform(profile, mode)
            return "converted"
        grey = profile[16:20] == b"GRAY"
        if grey and mode != "L":
            return "unusable"
        levels = np.linspace(0, 255, 18).round().astype(np.uint8)
        axes = [levels] * (1 if mode == "L" else 3)
        colours = np.stack(np.meshgrid(*axes), -1).reshape(1, -1, len(axes))
        moved = to_srgb(colours.copy(), profile).astype(int) - colours
    except Exception:  # a damaged profile fails in ways of its own
        return "unusable"
    return "" if np.abs(moved).max() <= _SAME_LEVELS else "converted"


def to_srgb(pixels: Pixels, profile: bytes) -> Pixels:
    """Convert grey or RGB pixels, alpha untouched.

    Floating point values outside 0 … 1 are no colours of any profile: then all stay as they are.

    Parameters
    ----------
    pixels : (y, x, c), c = 1, 3 or 4; overwritten.
    profile : of RGB; or of grey, if the colours of `pixels` are.

    Returns
    -------
    (y, x, c) of the same dtype.
    """
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            level = np.rint(pixels * 255)
        if not ((level >= 0) & (level <= 255)).all():
            return pixels
    if pixels.shape[2] == 1 or _is_grey(profile):
        pixels[:, :, :3] = _grey_to_srgb(pixels[:, :, :1], profile)
        return pixels
    rows = max(1, _STRIP_PIXELS // pixels.shape[1])
    for y in range(0, len(pixels), rows):
        pixels[y : y + rows, :, :3] = _converted(pixels[y : y + rows, :, :3], profile)
    return pixels


def cmyk_to_srgb(picture: Any, profile: bytes) -> Pixels:
    """The (y, x, 3) uint8 pixels of a CMYK picture of Pillow."""
    return np.array(_transform(profile, "CMYK").apply(picture))


def _grey_to_srgb(grey: Pixels, profile: bytes) -> Pixels:
    if grey.dtype.kind == "f":
        return _grey_levels(grey, profile)
    levels = np.arange(np.iinfo(grey.dtype).max + 1, dtype=grey.dtype)
    return _grey_levels(levels[None, :, None], profile)[0, :, 0][grey]


def _grey_levels(grey: Pixels, profile: bytes) -> Pixels:
    """(y, x, 1) as sRGB has it."""
    channels = grey if _is_grey(profile) else np.repeat(grey, 3, axis=2)
    return _converted(channels, profile)[:, :, 1:2]


def _converted(colours: Pixels, profile: bytes) -> Pixels:
    """(y, x, 3) sRGB of (y, x, 1 or 3)."""
    colours = np.ascontiguousarray(colours)
    mode = "L" if colours.shape[2] == 1 else "RGB"
    if colours.dtype == np.uint8:
        from PIL import Image

        picture = Image.fromarray(colours[:, :, 0] if mode == "L" else colours)
        return np.asarray(_transform(profile, mode).apply(picture))
    import imagecodecs

    narrow = colours.astype(np.float32) if colours.dtype == np.float64 else colours
    converted = imagecodecs.cms_transform(
        narrow[:, :, 0] if mode == "L" else narrow,
        profile,
        imagecodecs.cms_profile("srgb"),
        colorspace="gray" if mode == "L" else "rgb",
        outcolorspace="rgb",
        # Its tables for 16 bits are 14 of 256 levels wrong in the darks.
        flags=imagecodecs.CMS.FLAGS.NOOPTIMIZE,
    )
    if colours.dtype.kind == "f":
        converted = np.clip(converted, 0, 1)
    return np.asarray(converted).astype(colours.dtype, copy=False)


def _is_grey(profile: bytes) -> bool:
    return profile[16:20] == b"GRAY"


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Any:
    """From a profile to sRGB.

    Raises
    ------
    PyCMSError : the profile is damaged, or of another kind than `mode`.
    """
    from PIL import ImageCms

    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")


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
