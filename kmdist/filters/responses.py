"""Filter responses of whole images as lazy Dask arrays.

One `map_overlap`: a chunk with `bank.halo` pixels of its neighbours, and the image's own edge
left to the filter, which reflects it as OpenCV does. A chunk is one task (and those that fetch
its neighbours' edges) and its responses take 4 · len(bank) bytes a pixel.
"""

from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from kmdist.arguments import checked_arguments
from kmdist.errors import UsageError
from kmdist.filters import FilterBank, grey, tile_responses, with_halo

CHUNK_PX = 1024
"""Side of the chunks that a NumPy image is cut into: 48 responses of a chunk take 200 MB."""


def _responses_of_chunk(
    chunk: NDArray[np.float32], *, bank: FilterBank, block_info: Any = None
) -> NDArray[np.float32]:
    """Responses of one chunk that has its neighbours' pixels, but none beyond the image."""
    place = block_info[0]
    spans = []
    for axis in (0, 1):
        index, count = place["chunk-location"][axis], place["num-chunks"][axis]
        before, after = bank.halo * (index > 0), bank.halo * (index < count - 1)
        spans.append((before, chunk.shape[axis] - after))
    (y0, y1), (x0, x1) = spans
    return tile_responses(with_halo(chunk, (y0, x0, y1, x1), bank.halo), bank)


def _as_grey(image: Any) -> da.Array:
    """A Dask array (y, x) float32 of an image, colour by BT.601."""
    array = image if isinstance(image, da.Array) else np.asarray(image)
    colour = array.ndim == 3 and array.shape[2] in (1, 3, 4)
    if not (array.ndim == 2 or colour) or 0 in array.shape or array.dtype.kind not in "buif":
        raise UsageError(
            f"responses: expected an image (y, x) or (y, x, c) of real numbers with c = 1, 3 or 4 "
            f"and no empty side, got shape {array.shape}, dtype {array.dtype}"
        )
    if not isinstance(array, da.Array):
        array = da.from_array(array, chunks=(CHUNK_PX, CHUNK_PX, *array.shape[2:]))
    if colour:
        return da.map_blocks(grey, array.rechunk({2: -1}), drop_axis=2, dtype=np.float32)
    return da.map_blocks(grey, array, dtype=np.float32)


@checked_arguments
def responses(image: Any, bank: FilterBank) -> da.Array:
    """Responses of an image of any size to every kernel of a bank, lazily.

    Parameters
    ----------
    image : (y, x) or (y, x, c) NumPy or Dask array of finite real numbers; c = 1, 3 or 4: colour
        becomes grey by BT.601, alpha is ignored. Values are used as they are (0 … 255 stays).
    bank : see `kmdist.filters.leung_malik` and `kmdist.filters.gabor`.

    Returns
    -------
    (y, x, len(bank)) float32 Dask array: correlations, reflect-101 at the image's edge. Chunks
    are those of the image, joined where they are smaller than the halo.

    Raises
    ------
    UsageError : not an image of a shape given above, or with a side of 0.
    """
    array = _as_grey(image)
    least = max(bank.halo, 1)
    chunks = tuple(
        da.overlap.ensure_minimum_chunksize(min(least, side), sides)
        for side, sides in zip(array.shape, array.chunks, strict=True)
    )
    array = array.rechunk(chunks)
    depth = {axis: bank.halo if array.numblocks[axis] > 1 else 0 for axis in (0, 1)}
    return da.map_overlap(
        _responses_of_chunk,
        array,
        bank=bank,
        depth=depth,
        boundary="none",
        trim=False,
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
        new_axis=2,
        chunks=(*array.chunks, (len(bank),)),
    )
