"""Nearest centroids of distinct colours, exactly, by filtering a tree of colour cells.

Kanungo et al., "An efficient k-means clustering algorithm: analysis and implementation"
(IEEE PAMI 24, 2002): a centroid that is farther than another from every point of a box is the
nearest of no colour in it. Nodes filter all k centroids, leaves filter what their node left,
and colours meet only the centroids of their leaf.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from kmdist.recipes.quantize.kernels.color_tree import (
    LANES,
    LEAF_SIZE,
    ColorTree,
    Float32Array,
    Sums,
)

# Boxes are filtered with float32 distances, which carry at most 5 roundings of 2⁻²⁴; a
# centroid is dropped only where it loses by more than 30 times that.
_SLACK = 1e-5


def sum_chunk(tree: ColorTree, chunk: int, centroids: Float32Array) -> Sums:
    """Sum the points of one chunk per nearest centroid: a part of one Lloyd iteration.

    Parameters
    ----------
    centroids : (k, 3) float32, finite.

    Returns
    -------
    (k, 4) of the weights' dtype: Σwx, Σwy, Σwz, Σw. Nearest as in `label_chunk`.
    """
    sums = np.zeros((len(centroids), 4), tree.weights.dtype)
    _run(tree, chunk, centroids, np.empty(0, np.uint8), sums)
    return sums


def label_chunk(
    tree: ColorTree,
    chunk: int,
    centroids: Float32Array,
    labels: npt.NDArray[np.unsignedinteger],
    sums: Sums,
) -> float:
    """Label the points of one chunk with their nearest centroids.

    Distances are explicit differences in float64; ties go to the lowest index.

    Parameters
    ----------
    centroids : (k, 3) float32, finite.
    labels : (n,) for all points of the tree; those of the chunk are written.
    sums : (k, 4) of the weights' dtype, added to as in `sum_chunk`.

    Returns
    -------
    Σ w‖x − c‖² over the chunk.
    """
    return _run(tree, chunk, centroids, labels, sums)


def _run(
    tree: ColorTree,
    chunk: int,
    centroids: Float32Array,
    labels: npt.NDArray[np.unsignedinteger],
    sums: Sums,
) -> float:
    k = len(centroids)
    first, last = tree.chunk_starts[chunk : chunk + 2]
    inertia: float = _assign(
        tree.points,
        tree.weights,
        tree.leaf_starts,
        tree.leaf_boxes,
        tree.leaf_sums,
        tree.node_starts[first : last + 1],
        tree.node_boxes[first:last],
        np.ascontiguousarray(centroids.T),
        labels,
        sums,
        # Scratch, made here because each NumPy constructor costs 0.1 s of compilation.
        np.arange(k, dtype=np.int32),
        np.empty(k, np.float32),
        np.empty((3, k + 1), np.float32),
        np.empty(k + 1, np.int32),
        np.empty((3, k + 1), np.float32),
        np.empty(k + 1, np.int32),
        np.empty(LEAF_SIZE + LANES, np.float64),
        np.empty(LEAF_SIZE + LANES, np.int32),
    )
    return inertia


@njit(nogil=True, cache=True, inline="always")
def _filter(centroids, index, n, boxes, box, distances, out, out_index):  # type: ignore[no-untyped-def]
    """Keep the centroids that can be nearest somewhere in a box, in ascending order.

    j loses to s, the nearest to the box's centre m, in all of the box with half sides h if
    ‖c_j − m‖² − ‖c_s − m‖² > 2 Σ h |c_j − c_s|.
    """
    # Inlined, and without views of rows: calls and references would take half of the time at
    # k = 8.
    mx, my, mz = boxes[box, 0], boxes[box, 1], boxes[box, 2]
    hx, hy, hz = boxes[box, 3], boxes[box, 4], boxes[box, 5]
    best = np.float32(np.inf)
    for j in range(n):
        x = centroids[0, j] - mx
        y = centroids[1, j] - my
        z = centroids[2, j] - mz
        distances[j] = x * x + y * y + z * z
    nearest = 0
    for j in range(n):
        if distances[j] < best:
            best = distances[j]
            nearest = j
    near_x, near_y, near_z = centroids[0, nearest], centroids[1, nearest], centroids[2, nearest]
    less = np.float32(1 - _SLACK)
    more = np.float32(1 + _SLACK)
    two = np.float32(2)
    for j in range(n):
        reach = (
            hx * abs(centroids[0, j] - near_x)
            + hy * abs(centroids[1, j] - near_y)
            + hz * abs(centroids[2, j] - near_z)
        )
        distances[j] = distances[j] * less - two * reach * more
    limit = best * more
    kept = 0
    for j in range(n):
        out[0, kept] = centroids[0, j]
        out[1, kept] = centroids[1, j]
        out[2, kept] = centroids[2, j]
        out_index[kept] = index[j]
        kept += distances[j] <= limit
    return kept


@njit(nogil=True, cache=True)
def _find_nearest(points, start, padded, centroids, index, n, best, winner):  # type: ignore[no-untyped-def]
    """Squared distance and index of the nearest of n centroids, for a leaf's points."""
    for i in range(padded):
        best[i] = np.inf
    for j in range(n):
        cx = np.float64(centroids[0, j])
        cy = np.float64(centroids[1, j])
        cz = np.float64(centroids[2, j])
        label = index[j]
        for i in range(padded):
            x = cx - points[0, start + i]
            y = cy - points[1, start + i]
            z = cz - points[2, start + i]
            distance = x * x + y * y + z * z
            closer = distance < best[i]
            best[i] = distance if closer else best[i]
            winner[i] = label if closer else winner[i]


@njit(nogil=True, cache=True)
def _assign(  # type: ignore[no-untyped-def]
    points,
    weights,
    leaf_starts,
    leaf_boxes,
    leaf_sums,
    node_starts,
    node_boxes,
    centroids,
    labels,
    sums,
    every,
    distances,
    of_node,
    node_index,
    of_leaf,
    leaf_index,
    best,
    winner,
):
    """Add to `sums`; if `labels` are not empty, write them and return the inertia."""
    k = centroids.shape[1]
    value = sums.dtype.type
    labelling = labels.size > 0
    inertia = 0.0
    for node in range(node_starts.size - 1):
        n_node = _filter(centroids, every, k, node_boxes, node, distances, of_node, node_index)
        for leaf in range(node_starts[node], node_starts[node + 1]):
            n_leaf = _filter(
                of_node, node_index, n_node, leaf_boxes, leaf, distances, of_leaf, leaf_index
            )
            if n_leaf == 1:
                for column in range(4):
                    sums[leaf_index[0], column] += leaf_sums[leaf, column]
                if not labelling:
                    continue
            start = leaf_starts[leaf]
            size = leaf_starts[leaf + 1] - start
            padded = (size + LANES - 1) // LANES * LANES
            _find_nearest(points, start, padded, of_leaf, leaf_index, n_leaf, best, winner)
            if n_leaf > 1:
                for i in range(size):
                    weight, label = weights[start + i], winner[i]
                    sums[label, 0] += weight * value(points[0, start + i])
                    sums[label, 1] += weight * value(points[1, start + i])
                    sums[label, 2] += weight * value(points[2, start + i])
                    sums[label, 3] += weight
            if labelling:
                of_cell = 0.0
                for i in range(size):
                    labels[start + i] = winner[i]
                    of_cell += weights[start + i] * best[i]
                inertia += of_cell
    return inertia
