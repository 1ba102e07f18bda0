"""What a digits job will need at its peak, held against what there is before it starts."""

from collections.abc import Sequence

from kmdist.engine.kernels.subspace import points_bytes
from kmdist.engine.passes import FAN_IN
from kmdist.engine.rows import MEMORY_SHARE, ROW_OVERHEAD_BYTES, projections_fit
from kmdist.errors import KmdistError
from kmdist.job.job import Job
from kmdist.job.memory import PROCESS_BYTES, Projection, Slots
from kmdist.recipes.digits.blocks import Range
from kmdist.recipes.digits.features import CELLS, DIRECTIONS, SIZE_PX
from kmdist.recipes.digits.landmarks import landmark_count
from kmdist.recipes.digits.model import Preset
from kmdist.recipes.digits.relabelling import MAX_CENTRES

SOLVER_BYTES = 120_000_000
"""SciPy's eigenvectors and solvers."""
TIE_BYTES = 16
"""An entry of an affinity: value, column, and what a product of sparse matrices keeps apart."""
TIES_EACH = 20
"""Others that a landmark is tied to, for each neighbour a row has (MNIST: 10 to 15)."""


class DigitProjection(Projection):
    """Projected peak memory of a digits job over all its processes."""

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in self.parts if size >= 5e6)
        kept = "kept" if self.keep_pixels else "made anew in every pass"
        return f"memory: projected peak {self.total_bytes / 1e9:.2f} GB ({listed}); rows {kept}"

    def require(self) -> None:
        """Refuse a job that cannot fit.

        Raises
        ------
        KmdistError : names the largest part and the remedy.
        """
        if self.total_bytes <= self.limit_bytes:
            return
        name, size = max(self.parts, key=lambda part: part[1])
        remedy = {
            "kept rows": "Use --keep-pixels auto or never.",
            "landmarks": "Use a smaller -k, or --preset gradient.",
        }.get(name, "Use a smaller --block-mpx, fewer --workers, or workers with more memory.")
        raise KmdistError(
            f"the job needs {self.total_bytes / 1e9:.2f} GB and may use "
            f"{self.limit_bytes / 1e9:.2f} GB; the largest part is {name} with "
            f"{size / 1e9:.2f} GB. {remedy}"
        )


def tie_bytes(preset: Preset, n: int, p: int) -> int:
    """Of the affinity of p landmarks in all sets, of n rows."""
    neighbours = preset.sets * preset.neighbours
    return TIE_BYTES * min(p**2, n * neighbours**2, TIES_EACH * neighbours * p)


def digit_projection(
    slots: Slots, items: Sequence[Range], preset: Preset, ks: Sequence[int], keep_pixels: str
) -> DigitProjection:
    """Project the peak memory of a digits job, and decide whether rows are kept.

    With T task slots, P worker processes, m images of s bytes in a block, f bytes of features and b
    of rows an image, d numbers a row: P × 320 MB + T × m × (2 s + 2 f + b + 12 h w), 120 MB more
    where the only process is this one, which solves for all; with components T × 3 × 8 F² of
    moments of F features, k clusters in all T × 24 k d. Landmarks, p in all sets, r of them tied
    to a row: P × 4 p d + (T + 2 × 8) × affinity, of at most p², n r² and 20 p r entries of 16
    bytes. A kernel of c centres: (T + 2 × 8) × 8 c². And n × (b + 20) where rows are kept, and
    n × b / 3 more for projections of them where these fit.

    Parameters
    ----------
    items : blocks of the images. keep_pixels : ``auto``, ``always`` or ``never``.
    """
    _, height, width = items[0].source.shape
    n, m = sum(part.n for part in items), max(part.n for part in items)
    item_bytes = {"uint8": 1, "uint16": 2}.get(items[0].source.dtype, 4)
    n_features = DIRECTIONS * CELLS**2 if preset.components else 0
    d = preset.components or height * width
    row_bytes = 4 * d if preset.components else item_bytes * d
    shown = max(height * width, SIZE_PX**2 if preset.components else 0)
    block = m * (2 * item_bytes * height * width + 8 * n_features + row_bytes + 12 * shown)
    moments = 3 * 8 * n_features**2
    workers = max(slots.processes - 1, 1)  # the memory of the pool is theirs
    parts = [
        ("processes", PROCESS_BYTES * workers + (SOLVER_BYTES if slots.processes == 1 else 0)),
        ("blocks", slots.threads * (block + moments + 24 * sum(ks) * d)),
    ]
    waiting = slots.threads + 2 * FAN_IN
    if preset.sets:
        p = preset.sets * landmark_count(n, max(ks), preset.rows_each, preset.per_cluster)
        ties = tie_bytes(preset, n, p)
        parts.append(("landmarks", workers * 4 * p * d + waiting * ties))
        if preset.relabelled:
            centres = min(p // preset.sets, MAX_CENTRES)
            parts.append(("kernel", waiting * 8 * centres**2))
    total = sum(size for _, size in parts)
    kept = n * (row_bytes + ROW_OVERHEAD_BYTES)
    limit = slots.memory_bytes
    keep = keep_pixels == "always" or (
        keep_pixels == "auto" and kept <= MEMORY_SHARE * limit and total + kept <= limit
    )
    if keep:
        if projections_fit(n, row_bytes, limit):
            kept += n * points_bytes(row_bytes)
        parts.append(("kept rows", kept))
        total += kept
    return DigitProjection(parts, total, limit, keep)


def keep_rows(job: Job, items: Sequence[Range], preset: Preset, ks: Sequence[int]) -> bool:
    """Say what the job needs, refuse it where there is less; whether rows are kept.

    Raises
    ------
    KmdistError : it cannot fit.
    """
    projection = digit_projection(job.pool, items, preset, ks, job.options.keep_pixels)
    job.require(projection)
    return projection.keep_pixels
