"""What a digits job would do, before anything runs: images, blocks, passes, memory, disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from kmdist.digit_features import CELLS, DIRECTIONS, SIZE_PX
from kmdist.digit_model import PRESETS, Preset
from kmdist.landmarks import landmark_count
from kmdist.passes import Pool, tree_shape
from kmdist.recipes.digit_job import WORK_FACTOR, Input, open_input
from kmdist.recipes.digit_landmarks import LANDMARK_ITERATIONS
from kmdist.recipes.digit_memory import digit_projection
from kmdist.recipes.digit_report import MEMBERS
from kmdist.recipes.digits import checked_ks, checked_preset
from kmdist.recipes.plan import Plan, compute_of, free_bytes, planned_slots
from kmdist.relabel import MAX_CENTRES

ARRAY_BYTES = 20_000
"""Of all that a fit holds beside arrays that grow: metadata, partly filled disk blocks."""
SEEDING_PASSES = 8
"""Of k-means++, about."""
_MEMBERS_BYTES = 2 * MEMBERS * 8


def plan_digits(options: Mapping[str, Any]) -> Plan:
    """Plan a digits job. Nothing is started and nothing is written; a gzipped stack is read once.

    Parameters
    ----------
    options : of the command, by the names of its function's parameters.

    Raises
    ------
    UsageError, KmdistError : inputs or options are not as they must be, or a scheduler that is
        to be joined does not answer.
    """
    given = Input(options["images"], options["cell"], options["labels"], options["polarity"])
    opened = open_input(given, options["block_mpx"])
    stack, blocks = opened.stack, len(opened.items)
    ks = checked_ks(options["k"], stack.n)
    preset = PRESETS[checked_preset(options["preset"], stack.n)]
    megapixels = stack.n * stack.height * stack.width / 1e6
    slots, kind = planned_slots(compute_of(options), WORK_FACTOR * megapixels)
    pool = cast(Pool, slots)
    memory = digit_projection(pool, opened.items, preset, ks, options["keep_pixels"])
    passes, tasks = _passes(preset, ks, options, memory.keep_pixels, blocks)
    d = preset.components or stack.height * stack.width
    pictures = 4 * max(stack.height * stack.width, SIZE_PX**2 if preset.components else 0)
    checkpoints = _model_bytes(preset, stack.n, max(ks), d)
    fits = sum(4 * stack.n + k * (12 * d + pictures + _MEMBERS_BYTES) + ARRAY_BYTES for k in ks)
    return Plan(
        "digits",
        str(options["output"]),
        stack.n,
        megapixels,
        blocks,
        tuple(opened.rejected),
        slots.threads,
        kind,
        passes,
        tasks,
        memory,
        fits + len(ks) * checkpoints,
        checkpoints,
        free_bytes(Path(str(options["output"]))),
    )


def _passes(
    preset: Preset, ks: tuple[int, ...], options: Mapping[str, Any], kept: bool, blocks: int
) -> tuple[int, int]:
    """Passes over the images, and tasks of all passes, at most."""
    if preset.sets:  # each set: random rows, iterations, their end; affinities; relabelling
        fits = preset.sets * (LANDMARK_ITERATIONS + 2) + 1 + preset.relabelled * len(ks)
    else:
        each = SEEDING_PASSES + (options["max_iter"] or 300) + 1
        fits = len(ks) * (options["n_init"] or 1) * each
    over_images = (1 if preset.components else 0) + 2  # components, rows, labels
    over_rows = 1 + fits + 1  # moments, fits, ranks
    tasks = (over_images + over_rows) * (blocks + sum(tree_shape(blocks)[1:]))
    return over_images if kept else over_images + over_rows, tasks


def _model_bytes(preset: Preset, n: int, k: int, d: int) -> int:
    """What labels images: components, landmarks or centroids, and a kernel."""
    features = DIRECTIONS * CELLS**2 if preset.components else 0
    p = landmark_count(n, k, preset.rows_each, preset.per_cluster) if preset.sets else 0
    kernel = min(p, MAX_CENTRES) * (d + k) if preset.relabelled else 0
    return 4 * ((features + 1) * preset.components + preset.sets * p * (d + 1) + kernel + 2 * k * d)
