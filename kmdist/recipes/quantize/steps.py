"""What a quantize job does, pass by pass: its dry run and its budget of memory are made of this."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kmdist.job.image_fits import each_stage
from kmdist.job.label_maps import label_items, mark_steps, shard_bytes, tiles_of
from kmdist.job.memory import DECODE_BYTES, LABEL_BYTES, Held, Step
from kmdist.job.photographs import Photographs
from kmdist.job.work import Work
from kmdist.recipes.quantize.blocks import (
    COLOR_BYTES,
    COUNT,
    LABEL,
    PHOTOGRAPHIC,
    decode_block,
    photographic_colors,
)
from kmdist.recipes.quantize.kernels.histogram import N_CODES, TABLE_MEMORY_BYTES
from kmdist.recipes.quantize.palette import fit_memory_bytes
from kmdist.recipes.quantize.weights import WEIGHING_BYTES, WeightedSource
from kmdist.store import label_dtype

TASK_FIT_BYTES = fit_memory_bytes(1) - fit_memory_bytes(0)
"""A distinct colour of an image that is fitted within a task."""


def shared_steps(
    blocks: Sequence[Work], ks: Sequence[int], *, keep: bool, label: bool = True
) -> list[Step]:
    """One palette for all blocks: count, fit, label.

    Parameters
    ----------
    ks : numbers of colours. keep : decoded pixels are kept.
    """
    count = replace(COUNT, prepare=decode_block) if keep else COUNT
    pixels = sum(work.pixels for work in blocks)
    fit = Held(here=fit_memory_bytes(photographic_colors(pixels)))
    steps = [count.step(blocks, weighing(blocks)), Step("fit", fit)]
    if label:
        items, tables = label_items(blocks, ()), sum(table_bytes(k) for k in ks)
        task = shard_bytes(blocks, ks)
        steps.append(LABEL.step(items, Held(worker=tables, task=task), reads=not keep))
    return steps


def weighing(blocks: Sequence[Work]) -> Held:
    """What masks take besides."""
    weighed = any(isinstance(work.pieces[0].source, WeightedSource) for work in blocks)
    return Held(pixel=WEIGHING_BYTES * weighed)


def each_steps(blocks: Sequence[Work], ks: Sequence[int]) -> list[Step]:
    """A palette for each image, in one pass; those larger than a block in passes of their own."""
    whole = [work for work in blocks if work.tile_of is None]
    fitting = 3 + LABEL_BYTES + PHOTOGRAPHIC * (2 * COLOR_BYTES + TASK_FIT_BYTES)
    each = Held(
        pixel=max(DECODE_BYTES, fitting),
        task=TABLE_MEMORY_BYTES + fit_memory_bytes(0) + max(table_bytes(k) for k in ks),
    )
    steps = [each_stage("quantize", each).step(whole, weighing(whole))] if whole else []
    for tiles in tiles_of(blocks).values():
        steps += shared_steps(tiles, ks, keep=False)
    return steps


def predict_steps(workload: Photographs, k: int) -> list[Step]:
    """Labels from a palette: transparent pixels of large images first, then one pass."""
    blocks = workload.blocks
    each = Held(
        pixel=DECODE_BYTES + LABEL_BYTES + 3 * COLOR_BYTES * PHOTOGRAPHIC,
        block=4,
        task=TABLE_MEMORY_BYTES + table_bytes(k) + shard_bytes(blocks, [k]),
    )
    items = label_items(blocks, ())
    return [*mark_steps(blocks), Step("label", each, items, len(items))]


def table_bytes(k: int) -> int:
    """Of a label for each colour code."""
    return N_CODES * np.dtype(label_dtype(k, False)).itemsize
