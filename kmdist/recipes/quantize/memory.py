"""What a job will need at its peak, said before it starts and held against what there is."""

from kmdist.engine.passes import in_flight, tree_shape
from kmdist.job.memory import DECODE_BYTES, PROCESS_BYTES, Projection, Slots
from kmdist.job.photographs import Photographs
from kmdist.recipes.quantize.blocks import COUNT_AHEAD, COUNT_FAN_IN
from kmdist.recipes.quantize.kernels.histogram import TABLE_MEMORY_BYTES
from kmdist.recipes.quantize.palette import fit_memory_bytes

N_CODES = 1 << 24
COLOR_BYTES = 12
"""A distinct colour and its count."""
LABEL_BYTES = 4
"""A pixel being labelled and written: labels, pyramid, compressed chunks."""
CHECKPOINT_BYTES = 8
"""A distinct colour in a checkpoint."""
PHOTOGRAPHIC = 1 / 8
"""Distinct colours per pixel of a block of noisy photographs (Kodak 0.03, JPEG copies 0.06)."""


def projection(
    workload: Photographs, slots: Slots, n_fits: int, *, keep_pixels: str = "never", passes: int = 2
) -> Projection:
    """Project the peak memory of a quantize job, and decide whether pixels are kept.

    With T task slots, P processes, B pixels in the largest block, b = min(B, 2²⁴) and
    C = min(pixels, 2²⁴) colours at most: P × 320 MB + T × (12 B + 34 MB + 24 b + 4 B) + 12 b a
    histogram in flight + 3 × 12 C a level of the merge tree + the fit of C colours + P × 16.8 MB
    of label table a palette, + 3 bytes a pixel where pixels are kept. In photographs b and C
    are 1/8 of that.

    Parameters
    ----------
    n_fits : palettes fitted and label maps written per image.
    keep_pixels : ``auto``, ``always`` or ``never``.
    passes : 1 where each image is fitted on its own and its colours never leave the task.
    """
    worst = _parts(workload, slots, n_fits, passes, 1.0)
    likely = _parts(workload, slots, n_fits, passes, PHOTOGRAPHIC)
    likely_bytes = sum(size for _, size in likely)
    limit_bytes = slots.memory_bytes
    kept_bytes = 3 * workload.pixels
    keep = passes > 1 and (
        keep_pixels == "always"
        or (keep_pixels == "auto" and likely_bytes + kept_bytes <= limit_bytes)
    )
    if keep:
        worst.append(("kept pixels", kept_bytes))
        likely_bytes += kept_bytes
    return Projection(worst, likely_bytes, limit_bytes, keep)


def _parts(
    workload: Photographs, slots: Slots, n_fits: int, passes: int, distinct: float
) -> list[tuple[str, int]]:
    """Memory by what needs it, where `distinct` of the possible colours occur."""
    threads, processes = slots.threads, slots.processes
    block = max(work.pixels for work in workload.blocks)
    block_colors = int(distinct * min(block, N_CODES))
    colors = int(distinct * min(workload.pixels, N_CODES))
    waiting = 0
    if passes > 1:
        levels = tree_shape(len(workload.blocks), COUNT_FAN_IN)
        leaves = min(len(workload.blocks), in_flight(threads, COUNT_AHEAD) + COUNT_FAN_IN)
        waiting = leaves * block_colors + (COUNT_FAN_IN - 1) * max(len(levels) - 2, 0) * colors
    fits = fit_memory_bytes(colors) if passes > 1 else threads * fit_memory_bytes(block_colors)
    return [
        ("processes", PROCESS_BYTES * processes),
        ("decoding", threads * block * DECODE_BYTES),
        ("counting", threads * (TABLE_MEMORY_BYTES + 2 * block_colors * COLOR_BYTES)),
        ("merging", waiting * COLOR_BYTES),
        ("fit", fits),
        ("labels", threads * block * LABEL_BYTES + processes * n_fits * N_CODES),
    ]
