"""What becomes of transparency: it is laid over a background, or part of the colours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.images import to_rgb8
from kmdist.images.color import hex_color
from kmdist.images.pixels import WHITE, to_rgba8


@dataclass(frozen=True)
class Transparency:
    """What becomes of transparency; pixels that are wholly transparent are not clustered.

    Parameters
    ----------
    alpha : colours have alpha, pixels and palettes four channels.
    background : sRGB that is seen through what is partly transparent, where they have not.
    """

    alpha: bool = False
    background: tuple[int, int, int] = WHITE

    def convert(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """8-bit colours (y, x, 3) or (y, x, 4) of decoded pixels, and where none are clustered."""
        return to_rgba8(pixels) if self.alpha else to_rgb8(pixels, self.background)

    def record(self) -> dict[str, Any]:
        """What the parameters and the attributes of a run say of it."""
        return {"alpha": self.alpha, "background": hex_color(self.background)}

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> "Transparency":
        """From a run's attributes."""
        if record.get("alpha"):
            return Transparency(alpha=True)
        return Transparency(background=color_of(str(record.get("background") or "#ffffff")))


def color_of(text: str) -> tuple[int, int, int]:
    """A colour by its CSS name or code, such as ``white`` or ``#ffffff``.

    Raises
    ------
    ValueError : neither; or with alpha.
    """
    from PIL import ImageColor

    message = f"{text!r} is no opaque colour: give a name such as white, or #rrggbb"
    try:
        color = ImageColor.getrgb(text)
    except ValueError as error:
        raise ValueError(message) from error
    if len(color) != 3:
        raise ValueError(message)
    return color


OVER_WHITE = Transparency()
