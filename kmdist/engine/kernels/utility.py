"""What rows would lose if their centroid were taken away."""

import numpy as np
from numba import njit

from kmdist.engine.kernels.chunks import NO_WEIGHTS, as_kernel_rows, kernel_chunks
from kmdist.engine.kernels.frame import Frame, make_panel, reaching
from kmdist.engine.kernels.nearest import PLAIN, TILE_ROWS, load_tile, nearest_rows
from kmdist.engine.kernels.totals import add_exactly, carry, no_totals


@njit(nogil=True, cache=True)
def _add_utilities(rows, weights, panel, k, shift, scale, plain, bins):  # type: ignore[no-untyped-def]
    tile = np.zeros((TILE_ROWS, rows.shape[1]), np.float32)
    best, second = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    nearest = np.empty(TILE_ROWS, np.int32)
    for first in range(0, len(rows), TILE_ROWS):
        size = min(TILE_ROWS, len(rows) - first)
        load_tile(rows, first, size, shift, scale, tile)
        nearest_rows(tile, size, panel, plain, best, second, nearest)
        for r in range(size):
            weight = weights[first + r] if weights.size else 1.0
            loss = np.float64(second[r]) - np.float64(best[r])
            add_exactly(bins, min(nearest[r], k - 1), weight * loss)


def utility_bins(
    rows: np.ndarray, weights: np.ndarray | None, centroids: np.ndarray, frame: Frame
) -> np.ndarray:
    """(k, bins) int64, Σ w(d₂² − d₁²) of each centroid, d₁ and d₂ being the two least distances.

    From float32 scores, in the frame's scale; sums of them are exact. k is two at the least.
    """
    frame = reaching(frame, centroids)
    panel = make_panel(centroids, frame)
    bins = no_totals(len(centroids))
    for first, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        own = NO_WEIGHTS if weights is None else weights[first : first + len(part)]
        _add_utilities(
            part, own, panel.scores, len(centroids), frame.shift, frame.scale, PLAIN, bins
        )
    return carry(bins)
