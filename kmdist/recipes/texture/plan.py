"""What a texture job would do, before anything runs."""

from collections.abc import Mapping
from typing import Any

from kmdist.engine.fits import FitOptions
from kmdist.engine.passes import tree_shape
from kmdist.job.job import Job
from kmdist.job.label_maps import label_items
from kmdist.job.outline import Outline
from kmdist.job.work import Work
from kmdist.recipes.texture.learning import TEXTON_ROWS
from kmdist.recipes.texture.memory import TextureProjection, texture_projection
from kmdist.recipes.texture.wanted import SAMPLE_ROWS, TextureWanted, texture_of, texture_wanted

SETTINGS = ("pool_px", "whiten", "textons", "color_weight")
FITS = ("init", "n_init", "max_iter", "tol", "seed")
MAP_BYTES = 1 / 16
"""A pixel's texton in a checkpoint."""


def wanted_of_options(options: Mapping[str, Any]) -> TextureWanted:
    """What the options of the command ask for.

    Raises
    ------
    UsageError : an option is not as it must be.
    """
    changed = {name: options.get(name) for name in SETTINGS}
    return texture_wanted(
        options["k"],
        options["shared"],
        texture_of(options["preset"], options["scales"], **changed),
        options["sample"],
        FitOptions(**{name: options[name] for name in FITS}),
        options["keep_responses"],
    )


def outline(options: Mapping[str, Any], job: Job) -> Outline:
    """Passes, tasks, memory, checkpoints and kept responses of a texture job."""
    shared = bool(options.get("shared", True))
    wanted = wanted_of_options(options)
    memory = projected(job, wanted, shared=shared)
    passes, tasks = passes_of(job, wanted, shared=shared)
    if memory.keep_pixels:
        passes, tasks = passes - 1, tasks + len(job.work)
    checkpoints = checkpoint_bytes(job, wanted, shared=shared)
    return Outline(passes, tasks, memory, checkpoints, response_bytes(job, wanted))


def passes_of(job: Job, wanted: TextureWanted, *, shared: bool) -> tuple[int, int]:
    """Passes over the pixels, each reading every image once, and the tasks of all passes.

    Pyramids of images larger than a block are not counted, and features are not kept. An image
    larger than a block has clusters of its own in as many passes as a collection has.
    """
    whole = [work for work in job.work if work.pieces[0].whole]
    tiled: dict[str, list[Work]] = {}
    for work in job.work:
        if not work.pieces[0].whole:
            tiled.setdefault(work.pieces[0].source.name, []).append(work)
    sums = 2 if wanted.texture.has_textons else 1
    groups = [len(blocks) for blocks in tiled.values()]
    tasks = 0 if shared else len(whole)
    for blocks in [job.work] if shared else tiled.values():
        tasks += sums * sum(tree_shape(len(blocks))) + len(label_items(blocks, {}, {}))
    tasks += sum(groups) if wanted.texture.has_textons else 0
    if wanted.keep_responses:
        tasks += len(job.work) if shared else sum(groups)
    several = sums + 1 + wanted.keep_responses
    return several if shared or groups else 1, tasks


def projected(job: Job, wanted: TextureWanted, *, shared: bool) -> TextureProjection:
    """The projection of memory that the job would make."""
    return texture_projection(job, wanted, passes=2 if shared else 1)


def checkpoint_bytes(job: Job, wanted: TextureWanted, *, shared: bool) -> int:
    """Samples and sums of the blocks of images that share clusters, and textons of tiles."""
    texture = wanted.texture
    blocks = [work for work in job.work if shared or not work.pieces[0].whole]
    pixels = sum(work.pixels for work in blocks)
    if not pixels:
        return 0
    row_bytes = texture.depth * (1 if texture.is_tutorial else 4)
    rows = wanted.fraction(pixels) * pixels / (1 if texture.is_tutorial else 16)
    total = min(rows, SAMPLE_ROWS if wanted.sample is None else rows) * row_bytes
    total += len(blocks) * 8 * texture.depth**2
    if texture.has_textons:
        depth = texture.features.bank.n_features
        tiled = sum(work.pixels for work in blocks if not work.pieces[0].whole)
        total += TEXTON_ROWS * 4 * depth + len(blocks) * 8 * depth**2 + MAP_BYTES * tiled
    return int(total)


def response_bytes(job: Job, wanted: TextureWanted) -> int:
    """Of the filter responses that are kept, before compression."""
    if not wanted.keep_responses:
        return 0
    texture = wanted.texture
    n_filters = texture.depth if texture.is_tutorial else len(texture.features.bank)
    return 4 * n_filters * job.pixels
