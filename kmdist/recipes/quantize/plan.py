"""What a quantize run would do, for the dry run."""

from collections.abc import Mapping
from typing import Any

from kmdist.engine.passes import tree_shape
from kmdist.job.job import Job
from kmdist.job.outline import Outline, n_fits
from kmdist.recipes.quantize.memory import COUNT_FAN_IN, PHOTOGRAPHIC, projection

CHECKPOINT_BYTES = 8
"""A distinct colour in a checkpoint."""


def outline(options: Mapping[str, Any], job: Job) -> Outline:
    """Passes, tasks, memory and checkpoints of a quantize job."""
    passes = 2 if options.get("shared", True) else 1
    blocks = len(job.work)
    memory = projection(job, n_fits(options), passes=passes)
    if passes == 1:
        return Outline(1, blocks, memory)
    decodes = blocks if memory.keep_pixels else 0
    tasks = decodes + 2 * blocks + sum(tree_shape(blocks, COUNT_FAN_IN)[1:])
    checkpoints = int(CHECKPOINT_BYTES * PHOTOGRAPHIC * job.pixels)
    return Outline(1 if memory.keep_pixels else 2, tasks, memory, checkpoints)
