"""A collection of images as lazy Dask arrays."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import dask.array as da
import numpy as np
from dask.delayed import delayed

from kmdist.arguments import checked_arguments
from kmdist.errors import ImageError
from kmdist.images.blocks import Window, plan_blocks
from kmdist.images.finding.files import EVERYTHING, Choice
from kmdist.images.finding.find import find_images, listed_inputs
from kmdist.images.reading.image import MAX_PIXELS, decode, probe
from kmdist.images.source import ImageSource, Rejection


class ImageCollection(Mapping[str, da.Array]):
    """Images by name, each a lazy array (y, x, c) of its stored dtype.

    Attributes
    ----------
    sources : what is known of each image, in the order of names.
    rejected : files that cannot be used.
    """

    def __init__(
        self, sources: Sequence[ImageSource], rejected: Sequence[Rejection], block_mpx: float
    ) -> None:
        self.sources = list(sources)
        self.rejected = list(rejected)
        self._by_name = {source.name: source for source in sources}
        self._block_mpx = block_mpx

    def __getitem__(self, name: str) -> da.Array:
        source = self._by_name[name]
        windows = [p.window for b in plan_blocks([source], block_mpx=self._block_mpx) for p in b]
        rows: dict[int, list[da.Array]] = {}
        for window in windows:
            rows.setdefault(window.y0, []).append(_chunk(source, window))
        stacked = [da.concatenate(row, axis=1) for row in rows.values()]
        return da.concatenate(stacked, axis=0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"<ImageCollection of {len(self)} images, {len(self.rejected)} rejected>"


def _chunk(source: ImageSource, window: Window) -> da.Array:
    whole = window.pixels == source.pixels
    lazy = delayed(decode, pure=True)(source, None if whole else window)
    shape = (window.height, window.width, source.channels)
    return da.from_delayed(lazy, shape, dtype=np.dtype(source.dtype))


@checked_arguments
def open_images(
    inputs: str | Path | Iterable[str | Path],
    *,
    choice: Choice = EVERYTHING,
    max_pixels: int = MAX_PIXELS,
    block_mpx: float = 16.0,
) -> ImageCollection:
    """Open images lazily.

    Parameters
    ----------
    inputs, choice : as for `find_images`.
    max_pixels : limit for images that must be decoded whole.
    block_mpx : images that can be read by window have chunks of about this size.

    Returns
    -------
    ImageCollection : a mapping from name to Dask array (y, x, c), with `rejected`.

    Raises
    ------
    UsageError : an input does not exist or matches nothing.
    """
    found, rejected = find_images(listed_inputs(inputs), choice)
    sources = []
    for one in found:
        try:
            sources.append(probe(one, max_pixels=max_pixels))
        except ImageError as error:
            rejected.append(Rejection(one.name, error.code, error.reason))
    return ImageCollection(sources, rejected, block_mpx)
