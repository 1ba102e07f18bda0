"""Pixels in the colours of a profile, converted to sRGB by Little CMS.

8-bit colours go through Pillow's binding, deeper ones through that of imagecodecs, which knows
them; both with the perceptual intent. One transform is made a profile and process.
"""

import io
from functools import lru_cache
from typing import Any, Literal

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
