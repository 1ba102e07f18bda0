"""What a job will need at its peak, said before it starts and held against what there is."""

from collections.abc import Sequence
from dataclasses import dataclass

from kmdist.errors import KmdistError
from kmdist.kernels.histogram import TABLE_MEMORY_BYTES
from kmdist.passes import FAN_IN, DaskPool
from kmdist.recipes.job import Job

PROCESS_BYTES = 300_000_000
"""A process with kmdist, Dask, OpenCV and numba loaded and kernels compiled: measured 230 MB."""
N_CODES = 1 << 24
COLOR_BYTES = 12
"""A distinct colour and its count."""
FIT_BYTES = 120
"""A distinct colour during the fit: histogram, coordinates, tree, labels and their copies."""
DECODE_BYTES = 12
"""A pixel being decoded: file, decoder's buffers, the picture, its RGB, its mask."""
LABEL_BYTES = 4
"""A pixel being labelled and written: labels, pyramid, compressed chunks."""


@dataclass(frozen=True)
class Projection:
    """Projected peak memory of a job over all its processes.

    Parameters
    ----------
    parts : what it is made of, (description, bytes).
    limit_bytes : what it may use.
    keep_pixels : whether decoded pixels are kept between the passes.
    """

    parts: Sequence[tuple[str, int]]
    limit_bytes: int
    keep_pixels: bool

    @property
    def total_bytes(self) -> int:
        """Sum of all parts."""
        return sum(size for _, size in self.parts)

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in self.parts if size >= 5e6)
        return f"memory: projected peak {self.total_bytes / 1e9:.2f} GB ({listed})"

    def require(self) -> None:
        """Refuse a job that cannot fit.

        Raises
        ------
        KmdistError : the projection exceeds the limit; names the largest part and the remedy.
        """
        if self.total_bytes <= self.limit_bytes:
            return
        name, size = max(self.parts, key=lambda part: part[1])
        remedy = (
            "Use --keep-pixels auto or never."
            if self.keep_pixels
            else "Use a smaller --block-mpx, fewer --workers, or workers with more memory."
        )
        raise KmdistError(
            f"the job needs {self.total_bytes / 1e9:.2f} GB and may use "
            f"{self.limit_bytes / 1e9:.2f} GB; the largest part is {name} with "
            f"{size / 1e9:.2f} GB. {remedy}"
        )


def projection(job: Job, n_fits: int, *, passes: int = 2) -> Projection:
    """Project the peak memory of a quantize job, and decide whether pixels are kept.

    With T task slots, P processes, B pixels in the largest block, C = min(pixels, 2²⁴) colours:
    300 MB × P + T × (67 MB + 16 B) + 8 T × 12 min(B, 2²⁴) × 2 for histograms waiting to be
    merged, bounded by 12 C × blocks, + 120 C for the fit + 16.8 MB × k's × P of label tables,
    + 3 bytes × pixels where they are kept.

    Parameters
    ----------
    n_fits : palettes fitted and label maps written per image.
    passes : 1 where each image is fitted on its own and its colours never leave the task.
    """
    threads = job.pool.threads
    processes = threads + 1 if isinstance(job.pool, DaskPool) else 1
    block = max(work.pixels for work in job.work)
    colors = min(job.pixels, N_CODES)
    block_colors = min(block, N_CODES)
    waiting = min(len(job.work), threads * FAN_IN) if passes > 1 else 0
    parts = [
        ("processes", PROCESS_BYTES * processes),
        ("decoding", threads * block * DECODE_BYTES),
        ("counting", threads * (TABLE_MEMORY_BYTES + 2 * block_colors * COLOR_BYTES)),
        ("merging", waiting * block_colors * COLOR_BYTES),
        ("fit", (colors if passes > 1 else threads * block_colors) * FIT_BYTES),
        ("labels", threads * block * LABEL_BYTES + processes * n_fits * N_CODES),
    ]
    needed = sum(size for _, size in parts)
    limit = job.pool.memory_bytes
    pixels = 3 * job.pixels
    keep = passes > 1 and (
        job.options.keep_pixels == "always"
        or (job.options.keep_pixels == "auto" and needed + pixels <= limit)
    )
    if keep:
        parts.append(("kept pixels", pixels))
    return Projection(parts, limit, keep)
