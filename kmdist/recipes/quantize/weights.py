"""Masks that say which parts of photographs matter more in the fit of a palette."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath

import numpy as np

from kmdist.engine.passes import Pool
from kmdist.errors import ImageError, UsageError, quantity
from kmdist.images import ImageSource, Piece, find_images, to_rgb8
from kmdist.job.options import JobOptions
from kmdist.job.photographs import Photographs, blocks_of, probe_all
from kmdist.job.pixels import Pixels
from kmdist.job.progress import Message, Watcher
from kmdist.job.work import read_piece

WEIGHING_BYTES = 44
"""A pixel being weighed: its mask, decoded, and the sorted codes of its colours."""


@dataclass(frozen=True)
class WeightedSource(ImageSource):
    """An image with its mask.

    Parameters
    ----------
    mask : of its size; None: it has none, and all its pixels count fully.
    """

    mask: ImageSource | None = None


def with_masks(
    workload: Photographs, masks: str | Path, options: JobOptions, pool: Pool, watch: Watcher
) -> Photographs:
    """Photographs with the masks that are named as they are, but for suffixes.

    Parameters
    ----------
    masks : a folder, a glob or an image, as inputs are. A single one is that of a single image,
        whatever its name.

    Raises
    ------
    UsageError : a mask cannot be read, has not the size of its image, or none has an image.
    """
    found, lost = find_images([masks])
    probed, unusable = probe_all(pool, found, options.max_pixels, watch)
    for one in (*lost, *unusable):
        raise UsageError(f"--weights {masks}: {one.image}: {one.reason}")
    by_stem = {_stem(one): one for one in probed}
    if len(workload.sources) == len(probed) == 1:
        by_stem = {_stem(workload.sources[0]): probed[0]}
    sources = [_weighted(source, by_stem.get(_stem(source))) for source in workload.sources]
    n_masked = sum(source.mask is not None for source in sources)
    if sources and not n_masked:
        raise UsageError(
            f"--weights {masks}: no mask is named as an image, such as "
            f"{PurePosixPath(sources[0].name).with_suffix('.png')} for {sources[0].name}"
        )
    if n_masked < len(sources):
        said = (
            f"{quantity(n_masked, 'image')} of {len(sources):,} have masks; the others count fully"
        )
        watch(Message(said))
    return replace(workload, sources=sources, blocks=blocks_of(sources, options))


def masks_of(sources: Sequence[ImageSource]) -> list[ImageSource]:
    """The masks of images that have some."""
    masks = [source.mask for source in sources if isinstance(source, WeightedSource)]
    return [mask for mask in masks if mask is not None]


def weighed(pixels: Pixels) -> Pixels:
    """The pixels, with weights in a job that has masks.

    Raises
    ------
    ImageError : the mask cannot be read.
    """
    source, unclustered = pixels.piece.source, pixels.unclustered
    if not isinstance(source, WeightedSource):
        return pixels
    weights = np.full(pixels.rgb.shape[:2], 255, np.uint8)
    if source.mask is not None:
        try:
            rgb, transparent = to_rgb8(read_piece(Piece(source.mask, pixels.piece.window)))
        except ImageError as error:
            raise ImageError(error.code, f"its mask {source.mask.path}: {error.reason}") from error
        weights = (rgb.sum(axis=2, dtype=np.uint16) // 3).astype(np.uint8)
        if transparent is not None:
            weights[transparent] = 0
    if unclustered is not None:
        weights[unclustered] = 0
    return replace(pixels, weights=weights)


def _stem(source: ImageSource) -> str:
    return str(PurePosixPath(source.name).with_suffix(""))


def _weighted(source: ImageSource, mask: ImageSource | None) -> WeightedSource:
    if mask is not None and (mask.width, mask.height) != (source.width, source.height):
        raise UsageError(
            f"the mask {mask.path} is {mask.width} × {mask.height}, and {source.name} "
            f"{source.width} × {source.height}: they must be of one size"
        )
    known = {one.name: getattr(source, one.name) for one in fields(ImageSource)}
    return WeightedSource(**known, mask=mask)
