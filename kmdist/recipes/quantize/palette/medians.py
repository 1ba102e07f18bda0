"""The steps of k-medians on the distinct colours: Manhattan distances and medians.

Values are 8-bit integers and so are their (lower) medians: distances, inertia and medians are
exact. Only in `rgb`; elsewhere coordinates cannot be counted.
"""

import numpy as np
import numpy.typing as npt

from kmdist.recipes.quantize.kernels.color_medians import medians_by_counting, nearest_manhattan
from kmdist.recipes.quantize.palette.cloud import ColorCloud
from kmdist.recipes.quantize.palette.repair import pick_members

Float32Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.unsignedinteger]


def step(
    cloud: ColorCloud, centroids: Float32Array
) -> tuple[npt.NDArray[np.int64], float, Float32Array, int]:
    """Assign every colour and move the centroids to the medians.

    Returns
    -------
    counts (k,) int64 and inertia Σ w Σ|x − c| of the assignment to `centroids`; the next
    centroids (k, 3); how many of them stand where an empty cluster was repaired.
    """
    k, weights = len(centroids), cloud.colors.counts
    labels, distances = nearest_manhattan(cloud.points, centroids)
    rgb = cloud.colors.rgb
    updated, counts = medians_by_counting(rgb, weights, labels, k)
    moves = []
    if not counts.all():
        moves = pick_members(weights.astype(np.float64) * distances, labels, weights, counts)
        for color, cluster in moves:
            labels[color] = cluster
        updated, filled = medians_by_counting(rgb, weights, labels, k)
        updated[filled == 0] = centroids[filled == 0]
    return counts, _inertia(weights, distances), updated, len(moves)


def assign(
    cloud: ColorCloud, centroids: Float32Array
) -> tuple[Labels, npt.NDArray[np.int64], float]:
    """Nearest centroid of every colour; ties to the lowest index.

    Returns
    -------
    labels (n,) uint8, or uint16 where k > 256; counts (k,) int64; inertia Σ w Σ|x − c|.
    """
    k, weights = len(centroids), cloud.colors.counts
    labels, distances = nearest_manhattan(cloud.points, centroids)
    counts = np.zeros(k, np.int64)
    np.add.at(counts, labels, weights)
    small: Labels = labels.astype(np.uint8 if k <= 256 else np.uint16)
    return small, counts, _inertia(weights, distances)


def _inertia(weights: npt.NDArray[np.int64], distances: npt.NDArray[np.float32]) -> float:
    return float((weights.astype(np.float64) * distances).sum())
