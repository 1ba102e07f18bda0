"""Colour spaces that palettes are fitted in.

``rgb``
    sRGB values as stored, 0 … 255.
``lab``
    CIE 1976 L*a*b*, white D65, 2° observer; L* is 0 … 100.
``oklab``
    Björn Ottosson, "A perceptual color space for image processing" (2020); L is 0 … 1.
``hsv``
    The HSV cone (s·v·cos h, s·v·sin h, v), v in 0 … 1. Hue is an angle, so that two reds either
    side of 0° are neighbours, and it does not matter where there is no saturation.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

SPACES = ("rgb", "lab", "oklab", "hsv")

# Rows converted at a time: float64 intermediates stay below 20 MB for 2²⁴ colours too.
_CHUNK_ROWS = 1 << 16

Float64Array = npt.NDArray[np.float64]

# IEC 61966-2-1 primaries to XYZ, D65.
_XYZ_FROM_RGB = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])
# CIE 15:2004: f(t) = t^(1/3) above (6/29)³, else linear.
_LAB_KNEE = (6 / 29) ** 3
_LAB_SLOPE = 841 / 108
_LMS_FROM_RGB = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OKLAB_FROM_LMS = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def to_space(
    rgb: npt.NDArray[np.uint8] | npt.NDArray[np.floating], space: str
) -> npt.NDArray[np.float32]:
    """Convert sRGB colours to coordinates in a colour space.

    Parameters
    ----------
    rgb : (n, 3), 0 … 255; uint8, or floating for colours between the stored ones.
    space : one of `SPACES`.

    Returns
    -------
    (n, 3) float32.

    Raises
    ------
    ValueError : an unknown space, or not three columns.
    """
    _check(rgb, space)
    if space == "rgb":
        return np.asarray(rgb, np.float32)
    convert = _FORWARD[space]
    points = np.empty(rgb.shape, np.float32)
    for start in range(0, len(rgb), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        points[part] = convert(rgb[part].astype(np.float64) / 255)
    return points


def to_srgb(points: npt.NDArray[np.floating], space: str) -> npt.NDArray[np.uint8]:
    """Convert coordinates in a colour space to sRGB that a display can show.

    Parameters
    ----------
    points : (n, 3) floating.
    space : one of `SPACES`.

    Returns
    -------
    (n, 3) uint8, rounded to the nearest; what lies outside the gamut is clipped per channel.

    Raises
    ------
    ValueError : an unknown space, or not three columns.
    """
    _check(points, space)
    colors = np.empty(points.shape, np.uint8)
    for start in range(0, len(points), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        values = _BACK[space](points[part].astype(np.float64))
        colors[part] = np.rint(np.clip(values * 255, 0, 255))
    return colors


def alpha_to_space(rgba: npt.NDArray[np.generic], space: str) -> npt.NDArray[np.float32]:
    """Coordinates of colours with alpha: what they show over black, and what over white.

    Colours that look alike over any background are near each other, whatever is hidden in what is
    transparent. Of opaque ones squared distances are twice those of `to_space`.

    Parameters
    ----------
    rgba : (n, 4), 0 … 255, alpha not multiplied into the colours.

    Returns
    -------
    (n, 6) float32.
    """
    shown = over_black_and_white(rgba)
    return np.concatenate([to_space(shown[:, :3], space), to_space(shown[:, 3:], space)], axis=1)


def over_black_and_white(rgba: npt.NDArray[np.generic]) -> Float64Array:
    """(…, 6): red, green and blue of (…, 4) laid over black, then over white; 0 … 255."""
    colors, alpha = np.split(rgba.astype(np.float64), [3], axis=-1)
    black = colors * alpha / 255
    return np.concatenate([black, black + 255 - alpha], axis=-1)


def alpha_from_space(points: npt.NDArray[np.floating], space: str) -> npt.NDArray[np.uint8]:
    """The (n, 4) colour with alpha that comes nearest to coordinates (n, 6) of `alpha_to_space`."""
    halves = np.split(points.astype(np.float64), 2, axis=1)
    black, white = (np.clip(_BACK[space](half), 0, 1) for half in halves)
    alpha = np.clip(1 - (white - black).mean(axis=1, keepdims=True), 0, 1)
    colors = (black + white - (1 - alpha)) / np.maximum(2 * alpha, 1 / 255)
    values = np.concatenate([np.clip(colors, 0, 1), alpha], axis=1)
    return np.rint(values * 255).astype(np.uint8)


def hex_color(color: Sequence[int]) -> str:
    """``#rrggbb`` of a colour (red, green, blue), ``#rrggbbaa`` of one with alpha."""
    return "#" + "".join(f"{int(value):02x}" for value in color)


def _check(colors: npt.NDArray[np.generic], space: str) -> None:
    if space not in SPACES:
        raise ValueError(f"unknown colour space {space!r}; allowed: {', '.join(SPACES)}")
    if colors.ndim != 2 or colors.shape[1] != 3:
        raise ValueError(f"colours must be (n, 3), received shape {colors.shape}")


def _linear(srgb: Float64Array) -> Float64Array:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _companded(linear: Float64Array) -> Float64Array:
    positive = np.maximum(linear, 0.0031308)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * positive ** (1 / 2.4) - 0.055)


def _lab_from_rgb(rgb: Float64Array) -> Float64Array:
    xyz = _linear(rgb) @ _XYZ_FROM_RGB.T / _WHITE_D65
    f = np.where(xyz > _LAB_KNEE, np.cbrt(xyz), _LAB_SLOPE * xyz + 4 / 29)
    x, y, z = f.T
    return np.column_stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _rgb_from_lab(lab: Float64Array) -> Float64Array:
    y = (lab[:, 0] + 16) / 116
    f = np.column_stack([y + lab[:, 1] / 500, y, y - lab[:, 2] / 200])
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) / _LAB_SLOPE) * _WHITE_D65
    return _companded(xyz @ np.linalg.inv(_XYZ_FROM_RGB).T)


def _oklab_from_rgb(rgb: Float64Array) -> Float64Array:
    return np.cbrt(_linear(rgb) @ _LMS_FROM_RGB.T) @ _OKLAB_FROM_LMS.T


def _rgb_from_oklab(oklab: Float64Array) -> Float64Array:
    lms = (oklab @ np.linalg.inv(_OKLAB_FROM_LMS).T) ** 3
    return _companded(lms @ np.linalg.inv(_LMS_FROM_RGB).T)


def _cone_from_rgb(rgb: Float64Array) -> Float64Array:
    red, green, blue = rgb.T
    value = rgb.max(axis=1)
    chroma = value - rgb.min(axis=1)
    step = np.where(chroma > 0, chroma, 1)
    sextant = np.select(
        [value == red, value == green],
        [(green - blue) / step, 2 + (blue - red) / step],
        4 + (red - green) / step,
    )
    angle = sextant * (np.pi / 3)
    return np.column_stack([chroma * np.cos(angle), chroma * np.sin(angle), value])


def _rgb_from_cone(cone: Float64Array) -> Float64Array:
    value = np.clip(cone[:, 2], 0, 1)
    chroma = np.minimum(np.hypot(cone[:, 0], cone[:, 1]), value)
    sextant = np.arctan2(cone[:, 1], cone[:, 0]) / (np.pi / 3)
    # Each channel falls from full to none between one and two sextants from its own hue.
    distance = np.abs((sextant[:, None] - np.array([0.0, 2.0, 4.0]) + 3) % 6 - 3)
    return value[:, None] - chroma[:, None] * np.clip(distance - 1, 0, 1)


def _rgb_from_rgb(points: Float64Array) -> Float64Array:
    return points / 255


_FORWARD: dict[str, Callable[[Float64Array], Float64Array]] = {
    "lab": _lab_from_rgb,
    "oklab": _oklab_from_rgb,
    "hsv": _cone_from_rgb,
}
_BACK: dict[str, Callable[[Float64Array], Float64Array]] = {
    "rgb": _rgb_from_rgb,
    "lab": _rgb_from_lab,
    "oklab": _rgb_from_oklab,
    "hsv": _rgb_from_cone,
}
