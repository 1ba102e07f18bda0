"""What a segment job does, pass by pass: its dry run and its budget of memory are made of this."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kmdist.engine.coreset import coreset_size
from kmdist.engine.rows import centroid_dtype, kept_row_bytes
from kmdist.filters.regions import REGION_BYTES
from kmdist.job.image_fits import each_stage
from kmdist.job.label_maps import (
    kept_label_bytes,
    label_items,
    shard_bytes,
    tiles_of,
    write_steps,
)
from kmdist.job.memory import Held, Outline, Step, row_pass
from kmdist.job.photographs import Photographs
from kmdist.job.resumable_fit import ROWS, SEEDING_PASSES
from kmdist.job.work import Work
from kmdist.recipes.segment.labels import SAMPLE_VALUES
from kmdist.recipes.segment.model import SegmentModel
from kmdist.recipes.segment.rows import COUNT, channels_of
from kmdist.recipes.segment.wanted import Wanted

COPIES = 3
"""Of a sample where it is fitted: as it came, in order, and what the fit remembers."""
DRAWING_BYTES = 16
"""A row of a block of which a sample is drawn: its random number and place, if it may be drawn."""
LABELLING_BYTES = 16
"""A pixel being labelled and written besides its values: labels, their picture where some have no
data, pyramid, compressed chunks."""


@dataclass(frozen=True)
class Pixel:
    """Bytes of a pixel as the stages hold it.

    Parameters
    ----------
    n_channels : as they are read. n_features : of its row.
    stored : of its channels. plain, row : of its row, as it is and as it is clustered.
    made : of its row where it is not what was read.
    centroid : of a number of a centroid.
    """

    n_channels: int
    n_features: int
    stored: int
    plain: int
    row: int
    made: int
    centroid: int

    @staticmethod
    def of(blocks: Sequence[Work], n_components: int, *, scaled: bool) -> "Pixel":
        """Of some blocks, of whose scaled channels so many components are taken; 0: all."""
        sources = [piece.source for work in blocks for piece in work.pieces]
        channels = channels_of(sources)
        n_channels = len(channels.names)
        n_features = n_components or n_channels
        dtype = channels.scaled if scaled else channels.plain
        row = n_features * dtype.itemsize
        return Pixel(
            n_channels,
            n_features,
            n_channels * max(np.dtype(source.dtype).itemsize for source in sources),
            n_channels * channels.plain.itemsize,
            row,
            row * (scaled or any(np.dtype(source.dtype) != dtype for source in sources)),
            centroid_dtype(dtype).itemsize,
        )

    @property
    def reading(self) -> int:
        """As it is stored, and once more; which values are missing, and whether it has data."""
        return 2 * self.stored + self.n_channels + 4

    @property
    def loading(self) -> int:
        """As its row is made."""
        return max(self.reading, 2 * self.stored + self.made)

    @property
    def labelling(self) -> int:
        """As it gets a label."""
        return max(self.loading, 2 * self.stored + self.made + LABELLING_BYTES)

    @property
    def kept(self) -> int:
        """Of a row that is kept, with what a fit remembers of it."""
        return kept_row_bytes(self.row)

    def each(self, *, components: bool, regions: bool) -> int:
        """Of an image that is fitted and labelled by one task."""
        plain = self.plain * (self.plain != self.stored)
        scaling = plain + 8 * self.n_channels * components + DRAWING_BYTES
        fitting = self.kept - self.row + self.made
        return max(self.labelling + REGION_BYTES * regions, 2 * self.stored + max(scaling, fitting))


def outline(
    workload: Photographs, wanted: Wanted, *, shared: bool, label: bool, keep: bool
) -> Outline:
    """Passes, what is kept and results of a job that fits."""
    blocks = workload.blocks
    results = workload.label_bytes(len(wanted.ks)) * label
    tiled = [blocks] if shared else list(tiles_of(blocks).values())
    steps = [] if shared else _each_steps(blocks, wanted)
    kept, saved = 0, 0
    for group in tiled:
        pixel = _pixel(group, wanted)
        steps += _shared_steps(group, wanted, pixel, keep=keep, label=label)
        kept = max(kept, pixel.kept * sum(work.pixels for work in group))
        saved += kept_label_bytes(group, wanted.at_most) * label
    return Outline(steps, "rows", kept * keep, saved, results)


def predict_steps(blocks: Sequence[Work], learnt: SegmentModel) -> list[Step]:
    """Of a job that labels with the clusters of a run: count, label."""
    scaling = learnt.scaling
    n_components = 0 if scaling.components is None else scaling.components.shape[1]
    pixel = Pixel.of(blocks, n_components, scaled=scaling.offset is not None)
    return [COUNT.step(blocks, Held(pixel=pixel.reading)), _label_step(blocks, pixel, [learnt.k])]


def _pixel(blocks: Sequence[Work], wanted: Wanted) -> Pixel:
    return Pixel.of(blocks, wanted.features.components, scaled=not wanted.features.plain)


def _shared_steps(
    blocks: Sequence[Work], wanted: Wanted, pixel: Pixel, *, keep: bool, label: bool
) -> list[Step]:
    """One set of clusters for all blocks: count, scale, rows or a sample of them, fit, label."""
    ks, features, fit = wanted.at_most, wanted.features, wanted.fit
    measured = not (keep and features.plain)
    counting = pixel.stored + (pixel.stored + pixel.plain) * measured
    several = any(len(work.pieces) > 1 for work in blocks)  # which are joined to the block's rows
    loading = Held(pixel=pixel.loading, block=pixel.row * several)
    drawing = loading + Held(block=DRAWING_BYTES)
    products = loading + Held(block=8 * pixel.n_channels)
    steps = [
        COUNT.step(blocks, Held(pixel=max(pixel.reading, counting))),
        row_pass("scale", blocks, drawing, times=features.scale == "robust"),
        row_pass("components", blocks, products, times=2 * (features.components > 0)),
    ]
    centroids = Held(task=24 * max(ks) * pixel.n_features)
    steps = [replace(step, keeps=False) for step in steps]
    if keep:
        times = len(ks) * fit.n_init * (SEEDING_PASSES + fit.max_iter)
        keeping = replace(loading, pixel=pixel.loading - pixel.row)  # which is among the kept
        steps += [
            ROWS.step(blocks, keeping),
            row_pass("fit", blocks, centroids, times=times, reads=False),
        ]
    else:
        rows = max(coreset_size(k, pixel.n_features, pixel.centroid) for k in ks)
        sample = (pixel.n_features * pixel.centroid + 16) * rows
        times = (not features.plain) + len(ks) + bool(wanted.choices)
        steps += [
            row_pass("sample", blocks, drawing + Held(here=2 * sample), times=times),
            Step("fit", centroids + Held(here=COPIES * sample)),
        ]
    last = [_label_step(blocks, pixel, ks)]
    if label:
        last += write_steps(blocks, ks, regions=wanted.min_region > 0)
    return [*steps, *(replace(step, keeps=False) for step in last)]


def _each_steps(blocks: Sequence[Work], wanted: Wanted) -> list[Step]:
    """Clusters for each image, in one pass."""
    whole = [work for work in blocks if work.tile_of is None]
    if not whole:
        return []
    pixel = _pixel(whole, wanted)
    largest = max(work.largest_pixels for work in whole)
    centroids = 24 * max(wanted.at_most) * pixel.n_features
    each = pixel.each(components=wanted.features.components > 0, regions=wanted.min_region > 0)
    held = Held(pixel=each, task=centroids + _sample_bytes(pixel, largest))
    return [each_stage("segment", held).step(whole)]


def _label_step(blocks: Sequence[Work], pixel: Pixel, ks: Sequence[int]) -> Step:
    items, sampled = label_items(blocks, ()), sum(work.pixels for work in blocks)
    held = Held(
        pixel=pixel.labelling, task=shard_bytes(blocks, ks), here=_sample_bytes(pixel, sampled)
    )
    return Step("label", held, items, len(items))


def _sample_bytes(pixel: Pixel, n_pixels: int) -> float:
    """Of the values whose quantiles are taken: as they came, joined, saved, and their rows."""
    n = min(SAMPLE_VALUES / pixel.n_channels, n_pixels)
    return n * (4 * pixel.stored + 16 * pixel.n_channels + pixel.row)
