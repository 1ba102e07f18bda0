"""The steps of Lloyd's method (1982) on the distinct colours: squared distances and means."""

import numpy as np
import numpy.typing as npt

from kmdist.recipes.quantize.kernels.color_filter import label_chunk, sum_chunk
from kmdist.recipes.quantize.kernels.color_tree import Sums
from kmdist.recipes.quantize.palette.cloud import ColorCloud
from kmdist.recipes.quantize.palette.repair import pick_members

Float32Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.unsignedinteger]


def step(
    cloud: ColorCloud, centroids: Float32Array
) -> tuple[npt.NDArray[np.int64], float, Float32Array, int]:
    """Assign every colour and move the centroids to the means.

    Returns
    -------
    counts (k,) int64 and inertia of the assignment to `centroids`; the next centroids (k, 3);
    how many of them stand where an empty cluster was repaired. Inertia is Σ w‖x − c‖² by
    expansion, good to 1e-12 of Σ w‖x‖².
    """
    parts = cloud.map_chunks(lambda chunk: sum_chunk(cloud.tree, chunk, centroids))
    sums: Sums = sum(parts[1:], parts[0])
    c, s = centroids.astype(np.float64), sums.astype(np.float64)
    explained = 2 * (c * s[:, :3]).sum() - ((c * c).sum(axis=1) * s[:, 3]).sum()
    inertia = max(0.0, float(cloud.tree.squares - explained))
    counts = sums[:, 3].astype(np.int64)
    n_repaired = 0
    if not counts.all():
        sums, n_repaired = _repair(cloud, centroids)
    filled = sums[:, 3] > 0
    updated = centroids.copy()
    updated[filled] = sums[filled, :3] / sums[filled, 3:]
    return counts, inertia, updated, n_repaired


def assign(
    cloud: ColorCloud, centroids: Float32Array
) -> tuple[Labels, npt.NDArray[np.int64], float]:
    """Nearest centroid of every colour, with distances in float64; ties to the lowest index.

    Returns
    -------
    labels (n,) uint8, or uint16 where k > 256; counts (k,) int64; inertia Σ w‖x − c‖² from
    differences in float64.
    """
    labels, sums, inertia = _label(cloud, centroids)
    return labels, sums[:, 3].astype(np.int64), inertia


def _label(cloud: ColorCloud, centroids: Float32Array) -> tuple[Labels, Sums, float]:
    k, tree = len(centroids), cloud.tree
    labels: Labels = np.empty(len(tree), np.uint8 if k <= 256 else np.uint16)
    parts: list[Sums] = [np.zeros((k, 4), tree.weights.dtype) for _ in range(tree.n_chunks)]
    inertias = cloud.map_chunks(
        lambda chunk: label_chunk(tree, chunk, centroids, labels, parts[chunk])
    )
    return labels, sum(parts[1:], parts[0]), float(sum(inertias))


def _repair(cloud: ColorCloud, centroids: Float32Array) -> tuple[Sums, int]:
    """Sums after giving empty clusters a colour each, and how many got one."""
    labels, sums, _ = _label(cloud, centroids)
    counts = cloud.colors.counts
    differences = cloud.points.astype(np.float64) - centroids[labels]
    costs = counts * (differences**2).sum(axis=1)
    moves = pick_members(costs, labels, counts, sums[:, 3].astype(np.int64))
    for color, cluster in moves:
        row = np.append(cloud.points[color], np.float32(1)).astype(sums.dtype)
        row *= sums.dtype.type(counts[color])
        sums[labels[color]] -= row
        sums[cluster] = row
    return sums, len(moves)
