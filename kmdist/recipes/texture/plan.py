"""What a texture job would do, before anything runs."""

import numpy as np

from kmdist.engine.passes import tree_shape
from kmdist.job.label_maps import label_items
from kmdist.job.memory import Slots
from kmdist.job.photographs import Photographs
from kmdist.job.recipe import Outline
from kmdist.job.work import Work
from kmdist.recipes.texture.learning import TEXTON_ROWS
from kmdist.recipes.texture.memory import texture_projection
from kmdist.recipes.texture.wanted import SAMPLE_ROWS, TextureWanted

MAP_BYTES = 1 / 16
"""A pixel's texton in a checkpoint."""


def outline(
    wanted: TextureWanted, shared: bool, workload: Photographs, slots: Slots, keep_pixels: str
) -> Outline:
    """Passes, tasks, memory, checkpoints and results of a texture job."""
    memory = texture_projection(
        workload, slots, wanted, keep_pixels=keep_pixels, passes=2 if shared else 1
    )
    passes, tasks = passes_of(workload, wanted, shared=shared)
    if memory.keep_pixels:
        passes, tasks = passes - 1, tasks + len(workload.blocks)
    checkpoints = checkpoint_bytes(workload, wanted, shared=shared)
    results = workload.label_bytes(len(wanted.ks)) + response_bytes(workload, wanted)
    return Outline(passes, tasks, memory, checkpoints, results)


def passes_of(workload: Photographs, wanted: TextureWanted, *, shared: bool) -> tuple[int, int]:
    """Passes over the pixels, each reading every image once, and the tasks of all passes.

    Pyramids of images larger than a block are not counted, and features are not kept. An image
    larger than a block has clusters of its own in as many passes as a collection has.
    """
    whole = [work for work in workload.blocks if work.pieces[0].whole]
    tiled: dict[str, list[Work]] = {}
    for work in workload.blocks:
        if not work.pieces[0].whole:
            tiled.setdefault(work.pieces[0].source.name, []).append(work)
    sums = 2 if wanted.texture.has_textons else 1
    groups = [len(blocks) for blocks in tiled.values()]
    tasks = 0 if shared else len(whole)
    for blocks in [workload.blocks] if shared else tiled.values():
        tasks += sums * sum(tree_shape(len(blocks))) + 2 * len(label_items(blocks, ()))
    tasks += sum(groups) if wanted.texture.has_textons else 0
    if wanted.keep_responses:
        tasks += len(workload.blocks) if shared else sum(groups)
    several = sums + 1 + wanted.keep_responses
    return several if shared or groups else 1, tasks


def checkpoint_bytes(workload: Photographs, wanted: TextureWanted, *, shared: bool) -> int:
    """Samples, sums and labels of images that share clusters, and textons of tiles."""
    texture = wanted.texture
    blocks = [work for work in workload.blocks if shared or not work.pieces[0].whole]
    pixels = sum(work.pixels for work in blocks)
    if not pixels:
        return 0
    row_bytes = texture.depth * (1 if texture.is_tutorial else 4)
    rows = wanted.fraction(pixels) * pixels / (1 if texture.is_tutorial else 16)
    total = min(rows, SAMPLE_ROWS if wanted.sample is None else rows) * row_bytes
    total += len(blocks) * 8 * texture.depth**2
    total += pixels * sum(np.min_scalar_type(k or max(wanted.choices)).itemsize for k in wanted.ks)
    if texture.has_textons:
        depth = texture.features.bank.n_features
        tiled = sum(work.pixels for work in blocks if not work.pieces[0].whole)
        total += TEXTON_ROWS * 4 * depth + len(blocks) * 8 * depth**2 + MAP_BYTES * tiled
    return int(total)


def response_bytes(workload: Photographs, wanted: TextureWanted) -> int:
    """Of the filter responses that are kept, before compression."""
    if not wanted.keep_responses:
        return 0
    texture = wanted.texture
    n_filters = texture.depth if texture.is_tutorial else len(texture.features.bank)
    return 4 * n_filters * workload.pixels
