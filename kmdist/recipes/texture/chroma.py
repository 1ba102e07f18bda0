"""Whether a collection of photographs is in colour, which decides what is measured on it."""

from collections.abc import Sequence

import numpy as np

from kmdist.engine.passes import Pool, run_pass
from kmdist.errors import ImageError
from kmdist.images import ImageSource, Window, decode, to_rgb8

COLORFUL = 8.0
"""Mean of max − min of the channels, 0 … 255. Of 20 photographs of the Berkeley set the greyest has
22, of 24 of Kodak's 18; grey pictures stored as colour have 0, with JPEG's rounding up to 2."""
LOOKED_AT = 8
"""Images, spread evenly over the collection: they are decoded once more than the others."""
_SIDE_PX = 1024


def in_color(sources: Sequence[ImageSource], pool: Pool) -> bool:
    """Whether at least half of the images are in colour, of at most `LOOKED_AT` that are read.

    Of images that can be read by window the middle is taken. One that cannot be read does not
    count, and one whose header says that it is grey is not read.
    """
    n = len(sources)
    places = dict.fromkeys(
        i * (n - 1) // max(min(n, LOOKED_AT) - 1, 1) for i in range(min(n, LOOKED_AT))
    )
    chosen = [sources[place] for place in places]
    found: list[bool | None] = [None] * len(chosen)

    def collect(index: int, colorful: bool | None) -> None:
        found[index] = colorful

    run_pass(pool, is_colorful, chosen, on_done=collect)
    known = [one for one in found if one is not None]
    return bool(known) and 2 * sum(known) >= len(known)


def is_colorful(source: ImageSource) -> bool | None:
    """Whether one image is in colour; None where it cannot be read. A task."""
    if source.channels == 1:
        return False
    window = None
    if source.windowed:
        y, x = max(source.height - _SIDE_PX, 0) // 2, max(source.width - _SIDE_PX, 0) // 2
        window = Window(y, x, min(y + _SIDE_PX, source.height), min(x + _SIDE_PX, source.width))
    try:
        rgb, transparent = to_rgb8(decode(source, window))
    except ImageError:
        return None
    chroma = rgb.max(axis=2) - rgb.min(axis=2)
    seen = chroma if transparent is None else chroma[~transparent]
    return bool(seen.size) and float(np.mean(seen)) >= COLORFUL
