"""Stacks of small images of one size, and their classes where they are known.

=============  =====================================================================
`files`        a sprite sheet cut into cells; a folder of images, sub-folders being classes
`arrays`       ``.npy``, ``.npz``, Zarr, MNIST's IDX files, and the bundled ``sample:digits``
`opening`      from what a user names to a stack
=============  =====================================================================

A `Stack` describes the images and reads any range of them; it pickles, and workers read their
own ranges.
"""

from kmdist.recipes.digits.stacks.opening import open_stack
from kmdist.recipes.digits.stacks.stack import Stack, StackSource, border_of

__all__ = ["Stack", "StackSource", "border_of", "open_stack"]
