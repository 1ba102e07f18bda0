"""Normalise small images of single characters, and describe them by pooled gradient directions.

Every function maps images to images or images to rows, one image at a time, so results do not
depend on how a stack is cut into blocks. Typical use, per block::

    upright = normalise(block)                          # (n, 28, 28) float32
    features = gradient_maps(upright)                   # (n, 784) float32

followed by `kmdist.engine.components` over all blocks. Intensities are light ink on dark paper.
"""

from kmdist.recipes.digits.features.gradients import CELLS, DIRECTIONS, POWER, gradient_maps, hog
from kmdist.recipes.digits.features.normalising import (
    BOX_PX,
    SIZE_PX,
    blank,
    deskew_tutorial,
    intensities,
    normalise,
)

__all__ = [
    "BOX_PX",
    "CELLS",
    "DIRECTIONS",
    "POWER",
    "SIZE_PX",
    "blank",
    "deskew_tutorial",
    "gradient_maps",
    "hog",
    "intensities",
    "normalise",
]
