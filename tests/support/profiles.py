"""Colour profiles, and one colour as two of them have it."""

from typing import Any

import imagecodecs
import numpy as np
from PIL import ImageCms

COLOUR, AS_SRGB = (200, 100, 50), (215, 93, 31)
PLAIN = np.full((4, 6, 3), COLOUR, np.uint8)
P3_POINTS = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
SRGB_POINTS = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)


def profile(points: tuple[float, ...], gamma: float = 0.0) -> bytes:
    level = np.linspace(0, 1, 1024)
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    curve: dict[str, Any] = {"transferfunction": linear.astype(np.float32)}
    return imagecodecs.cms_profile(
        "rgb",
        whitepoint=points[:2],
        primaries=points[2:],
        **({"gamma": gamma} if gamma else curve),
    )


P3 = profile(P3_POINTS)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_18 = imagecodecs.cms_profile("gray", gamma=1.8)
