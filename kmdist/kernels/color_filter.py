"""Nearest centroids of distinct colours, exactly, by filtering a tree of colour cells.

Kanungo et al., "An efficient k-means clustering algorithm: analysis and implementation"
(IEEE PAMI 24, 2002): a centroid that is farther than another from every point of a box is the
nearest of no colour in it. Nodes filter all k centroids, leaves filter what their node left,
and colours meet only the centroids of their leaf.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from kmdist.kernels.color_tree import LANES, LEAF_SIZE, ColorTree, Float32Array, Sums

# float32 distances carry at most 5 roundings of 2⁻²⁴; a centroid is dropped only where it
# loses by more than 30 times that.
_SLACK = 1e-5


def sum_chunk(tree: ColorTree, chunk: int, centroids: Float32Array) -> Sums:
    """Sum the points of one chunk per nearest centroid: a part of one Lloyd iteration.

    Parameters
    ----------
    centroids : (k, 3) float32, finite.

    Returns
    -------
    (k, 4) of the weights' dtype: Σwx, Σwy, Σwz, Σw. Distances are explicit differences in
    float32; ties go to the lowest index.
    """
    sums = np.zeros((len(centroids), 4), tree.weights.dtype)
    _filter_sum(
        tree.points,
        tree.weights,
        tree.leaf_starts,
        tree.leaf_boxes,
        tree.leaf_sums,
        tree.node_starts[tree.chunk_starts[chunk] : tree.chunk_starts[chunk + 1] + 1],
        tree.node_boxes[tree.chunk_starts[chunk] :],
        np.ascontiguousarray(centroids.T),
        sums,
    )
    return sums


def label_chunk(
    tree: ColorTree,
    chunk: int,
    centroids: Float32Array,
    labels: npt.NDArray[np.unsignedinteger],
    sums: Sums,
) -> float:
    """Label the points of one chunk with distances in float64.

    Parameters
    ----------
    centroids : (k, 3) float32, finite.
    labels : (n,) for all points of the tree; those of the chunk are written.
    sums : (k, 4) of the weights' dtype, added to as in `sum_chunk`.

    Returns
    -------
    Σ w‖x − c‖² over the chunk, from differences in float64.
    """
    inertia: float = _filter_label(
        tree.points,
        tree.weights,
        tree.leaf_starts,
        tree.leaf_boxes,
        tree.node_starts[tree.chunk_starts[chunk] : tree.chunk_starts[chunk + 1] + 1],
        tree.node_boxes[tree.chunk_starts[chunk] :],
        np.ascontiguousarray(centroids.T),
        labels,
        sums,
    )
    return inertia


@njit(nogil=True, cache=True, inline="always")
def _filter(centroids, index, n, box, distances, out, out_index):  # type: ignore[no-untyped-def]
    """Keep the centroids that can be nearest somewhere in `box`, in ascending order.

    j loses to s, the nearest to the box's centre m, in all of the box with half sides h if
    ‖c_j − m‖² − ‖c_s − m‖² > 2 Σ h |c_j − c_s|.
    """
    best = np.float32(np.inf)
    for j in range(n):
        x = centroids[0, j] - box[0]
        y = centroids[1, j] - box[1]
        z = centroids[2, j] - box[2]
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
            box[3] * abs(centroids[0, j] - near_x)
            + box[4] * abs(centroids[1, j] - near_y)
            + box[5] * abs(centroids[2, j] - near_z)
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
def _filter_sum(  # type: ignore[no-untyped-def]
    points, weights, leaf_starts, leaf_boxes, leaf_sums, node_starts, node_boxes, centroids, sums
):
    k = centroids.shape[1]
    value = sums.dtype.type
    every = np.arange(k).astype(np.int32)
    distances = np.empty(k, np.float32)
    of_node, node_index = np.empty((3, k + 1), np.float32), np.empty(k + 1, np.int32)
    of_leaf, leaf_index = np.empty((3, k + 1), np.float32), np.empty(k + 1, np.int32)
    best = np.empty(LEAF_SIZE + LANES, np.float32)
    winner = np.empty(LEAF_SIZE + LANES, np.int32)
    for node in range(node_starts.size - 1):
        n_node = _filter(centroids, every, k, node_boxes[node], distances, of_node, node_index)
        for leaf in range(node_starts[node], node_starts[node + 1]):
            n_leaf = _filter(
                of_node, node_index, n_node, leaf_boxes[leaf], distances, of_leaf, leaf_index
            )
            if n_leaf == 1:
                for column in range(4):
                    sums[leaf_index[0], column] += leaf_sums[leaf, column]
                continue
            start = leaf_starts[leaf]
            size = leaf_starts[leaf + 1] - start
            padded = (size + LANES - 1) // LANES * LANES
            for i in range(padded):
                best[i] = np.inf
            for j in range(n_leaf):
                cx, cy, cz, label = of_leaf[0, j], of_leaf[1, j], of_leaf[2, j], leaf_index[j]
                for i in range(padded):
                    x = cx - points[0, start + i]
                    y = cy - points[1, start + i]
                    z = cz - points[2, start + i]
                    distance = x * x + y * y + z * z
                    closer = distance < best[i]
                    best[i] = distance if closer else best[i]
                    winner[i] = label if closer else winner[i]
            for i in range(size):
                weight, label = weights[start + i], winner[i]
                sums[label, 0] += weight * value(points[0, start + i])
                sums[label, 1] += weight * value(points[1, start + i])
                sums[label, 2] += weight * value(points[2, start + i])
                sums[label, 3] += weight


@njit(nogil=True, cache=True)
def _filter_label(  # type: ignore[no-untyped-def]
    points, weights, leaf_starts, leaf_boxes, node_starts, node_boxes, centroids, labels, sums
):
    k = centroids.shape[1]
    value = sums.dtype.type
    every = np.arange(k).astype(np.int32)
    distances = np.empty(k, np.float32)
    of_node, node_index = np.empty((3, k + 1), np.float32), np.empty(k + 1, np.int32)
    of_leaf, leaf_index = np.empty((3, k + 1), np.float32), np.empty(k + 1, np.int32)
    best = np.empty(LEAF_SIZE + LANES, np.float64)
    winner = np.empty(LEAF_SIZE + LANES, np.int32)
    inertia = 0.0
    for node in range(node_starts.size - 1):
        n_node = _filter(centroids, every, k, node_boxes[node], distances, of_node, node_index)
        for leaf in range(node_starts[node], node_starts[node + 1]):
            n_leaf = _filter(
                of_node, node_index, n_node, leaf_boxes[leaf], distances, of_leaf, leaf_index
            )
            start = leaf_starts[leaf]
            size = leaf_starts[leaf + 1] - start
            padded = (size + LANES - 1) // LANES * LANES
            for i in range(padded):
                best[i] = np.inf
            for j in range(n_leaf):
                cx = np.float64(of_leaf[0, j])
                cy = np.float64(of_leaf[1, j])
                cz = np.float64(of_leaf[2, j])
                label = leaf_index[j]
                for i in range(padded):
                    x = cx - points[0, start + i]
                    y = cy - points[1, start + i]
                    z = cz - points[2, start + i]
                    distance = x * x + y * y + z * z
                    closer = distance < best[i]
                    best[i] = distance if closer else best[i]
                    winner[i] = label if closer else winner[i]
            of_cell = 0.0
            for i in range(size):
                weight, label = weights[start + i], winner[i]
                labels[start + i] = label
                of_cell += weight * best[i]
                sums[label, 0] += weight * value(points[0, start + i])
                sums[label, 1] += weight * value(points[1, start + i])
                sums[label, 2] += weight * value(points[2, start + i])
                sums[label, 3] += weight
            inertia += of_cell
    return inertia
