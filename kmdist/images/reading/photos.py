"""Camera raw by LibRaw and OpenEXR by its own library: what is developed into a picture of sRGB.

Both packages belong to the extra ``kmdist[photos]``.
"""

import io
from contextlib import redirect_stdout
from threading import Lock
from typing import Any, BinaryIO

import numpy as np

from kmdist.errors import ImageError
from kmdist.images.pixels import Pixels
from kmdist.images.reading.srgb import of_linear_light, to_srgb
from kmdist.images.source import Header

_SRGB_CURVE = (2.4, 12.92)
_ALONE = Lock()
_TURNED = 4
"""Bit of LibRaw's flip that exchanges rows and columns."""


def probe_photo(file: BinaryIO, kind: str) -> Header:
    """Read a header.

    Raises
    ------
    ImageError : channels. Exception : whatever the library raises for a header that is damaged.
    """
    if kind == "raw":
        import rawpy

        with rawpy.imread(file) as raw:
            size = raw.sizes
        height, width = size.height, size.width
        if size.flip & _TURNED:
            height, width = width, height
        return Header(width, height, 3, "uint8", "photo")
    import OpenEXR

    with OpenEXR.File(file, header_only=True) as opened:
        (left, top), (right, bottom) = opened.header()["dataWindow"]
        channels = _channels([one.name for one in opened.header()["channels"]])
    return Header(int(right - left) + 1, int(bottom - top) + 1, channels, "float32", "photo")


def decode_photo(data: bytes, kind: str) -> Pixels:
    """Develop camera raw, with the camera's white balance, or encode the light of OpenEXR as sRGB.

    Light above 1 and below 0 is clipped, as a display shows it.

    Returns
    -------
    (y, x, c): uint8 of camera raw, upright; float32 of OpenEXR.
    """
    if kind == "raw":
        import rawpy

        with rawpy.imread(io.BytesIO(data)) as raw:
            return np.asarray(raw.postprocess(use_camera_wb=True, gamma=_SRGB_CURVE))
    import OpenEXR

    # It prints which parts are damaged; what is printed to is one for all threads.
    with _ALONE, redirect_stdout(io.StringIO()), OpenEXR.File(io.BytesIO(data)) as opened:
        channels = opened.channels()
        light = next(channels[name].pixels for name in ("RGBA", "RGB", "Y") if name in channels)
        points = opened.header().get("chromaticities")
    light = np.array(light, np.float32)
    if light.ndim == 2:
        light = light[:, :, None]
    if not np.isfinite(light).all():
        return light
    if light.shape[2] == 4:  # colours are multiplied by alpha
        light[:, :, :3] /= np.maximum(light[:, :, 3:], np.float32(1e-6))
    return to_srgb(np.clip(light, 0, 1), of_linear_light(_flat(points)))


def _channels(channels: list[str]) -> int:
    if {"R", "G", "B"} <= set(channels):
        return 4 if "A" in channels else 3
    if "Y" in channels:
        return 1
    raise ImageError("channels", f"OpenEXR with channels {', '.join(channels)}; RGB or Y is needed")


def _flat(points: Any) -> tuple[float, ...] | None:
    """White, red, green and blue as x, y; the file has white last."""
    if points is None:
        return None
    red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y = map(float, points)
    return white_x, white_y, red_x, red_y, green_x, green_y, blue_x, blue_y
