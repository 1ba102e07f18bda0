"""What a digits job would do, before anything runs: images, blocks, passes, memory, disk."""

import os
from collections.abc import Sequence

from kmdist.engine.fits import FitOptions
from kmdist.engine.passes import tree_shape
from kmdist.job.memory import Slots
from kmdist.job.recipe import Outline
from kmdist.recipes.digits.features import CELLS, DIRECTIONS, SIZE_PX
from kmdist.recipes.digits.fitting import LANDMARK_ITERATIONS
from kmdist.recipes.digits.landmarks import landmark_count
from kmdist.recipes.digits.memory import digit_projection, tie_bytes
from kmdist.recipes.digits.model import Preset
from kmdist.recipes.digits.opening import Opened
from kmdist.recipes.digits.relabelling import MAX_CENTRES
from kmdist.recipes.digits.report import MEMBERS
from kmdist.recipes.digits.stacks import Stack

ARRAY_BYTES = 20_000
"""Of all that a fit holds beside arrays that grow: metadata, partly filled disk blocks."""
SEEDING_PASSES = 8
"""Of k-means++, about."""
STATE_BYTES = 4096
"""Of a checkpoint beside its arrays: names, headers, a line in the manifest."""
_MEMBERS_BYTES = 2 * MEMBERS * 8


def outline(
    opened: Opened,
    preset: Preset,
    ks: Sequence[int],
    fit: FitOptions,
    slots: Slots,
    keep_pixels: str,
) -> Outline:
    """Passes, tasks, memory, checkpoints and results of a digits job."""
    stack, blocks = opened.stack, len(opened.items)
    memory = digit_projection(slots, opened.items, preset, ks, keep_pixels)
    kept = memory.keep_pixels
    first = bool(preset.components or stack.names or not kept)
    passes, tasks = _passes(preset, ks, fit, kept, blocks, first=first)
    d = preset.components or stack.height * stack.width
    pictures = 4 * max(stack.height * stack.width, SIZE_PX**2 if preset.components else 0)
    models = len(ks) * _model_bytes(preset, stack.n, max(ks), d)
    fits = sum(4 * stack.n + k * (12 * d + pictures + _MEMBERS_BYTES) + ARRAY_BYTES for k in ks)
    names = sum(len(os.fsencode(one)) + 1 for one in (*stack.names, *stack.paths))
    states = _state_bytes(preset, stack, ks, fit, blocks)
    return Outline(passes, tasks, memory, states, fits + models + len(ks) * names)


def _passes(
    preset: Preset,
    ks: Sequence[int],
    fit: FitOptions,
    kept: bool,
    blocks: int,
    *,
    first: bool,
) -> tuple[int, int]:
    """Passes over the images, and tasks of all passes, at most.

    Parameters
    ----------
    first : whether a pass finds components, or damaged images, before there are rows.
    """
    if preset.sets:  # each set: random rows, iterations, their end; affinities; relabelling
        fits = preset.sets * (LANDMARK_ITERATIONS + 2) + 1 + preset.relabelled * len(ks)
    else:
        each = SEEDING_PASSES + fit.max_iter + 1
        fits = len(ks) * fit.n_init * each
    over_images = int(first) + 2  # components, rows, labels
    over_rows = 1 + fits + 1  # moments, fits, ranks
    tasks = (over_images + over_rows) * (blocks + sum(tree_shape(blocks)[1:]))
    return over_images if kept else over_images + over_rows, tasks


def _state_bytes(
    preset: Preset, stack: Stack, ks: Sequence[int], fit: FitOptions, blocks: int
) -> int:
    """What is kept for a resume, at most.

    With b blocks: b × 8 (F² + F) of moments of F features; b × 8 k (h w + 4 × 20 + classes + 2) of
    each k, what the last pass measures; components; landmarks and their affinities (see
    `kmdist.recipes.digits.memory`), or centroids of each fit; weights of a kernel.
    """
    features = DIRECTIONS * CELLS**2 if preset.components else 0
    d = preset.components or stack.height * stack.width
    shown = SIZE_PX**2 if preset.images == "normalise" else stack.height * stack.width
    measured = shown + 4 * MEMBERS + len(stack.class_names) + 2
    total = blocks * (8 * (features**2 + features) + STATE_BYTES)  # components, or what is damaged
    total += blocks * sum(8 * k * measured + STATE_BYTES for k in ks)
    total += 4 * (features + 1) * preset.components
    if preset.sets:
        p = landmark_count(stack.n, max(ks), preset.rows_each, preset.per_cluster)
        fits = preset.sets * _fit_bytes(p, d, LANDMARK_ITERATIONS)
        total += fits + tie_bytes(preset, stack.n, preset.sets * p) + 3 * STATE_BYTES
        total += sum(4 * MAX_CENTRES * k + STATE_BYTES for k in ks if preset.relabelled)
        return total
    return total + fit.n_init * sum(_fit_bytes(k, d, fit.max_iter) for k in ks)


def _fit_bytes(k: int, d: int, iterations: int) -> int:
    """A fit's last state: centroids, counts, history."""
    return 8 * (k * (d + 1) + 3 * (iterations + 1)) + STATE_BYTES


def _model_bytes(preset: Preset, n: int, k: int, d: int) -> int:
    """What labels images: components, landmarks or centroids, and a kernel."""
    features = DIRECTIONS * CELLS**2 if preset.components else 0
    p = landmark_count(n, k, preset.rows_each, preset.per_cluster) if preset.sets else 0
    kernel = min(p, MAX_CENTRES) * (d + k) if preset.relabelled else 0
    return 4 * ((features + 1) * preset.components + preset.sets * p * (d + 1) + kernel + 2 * k * d)
