"""Nearest centroids of distinct colours, exactly, by filtering a tree of colour cells.

Kanungo et al., "An efficient k-means clustering algorithm: analysis and implementation"
(IEEE PAMI 24, 2002): a centroid that is farther than another from every corner of a box is
the nearest of no point in it. Colours sorted by Morton code form such boxes at every scale.
Two scales are used: *nodes* of a few hundred colours filter all k centroids once, *leaves* of
a few dozen filter what their node left, and colours meet only the centroids of their leaf.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

# Colours per leaf and node, at most (tuned on 12 Kodak images, k = 8 … 256).
_LEAF_SIZE = 48
_NODE_SIZE = 768
# Loops over the colours of a leaf run to a multiple of this, past its end, so that the
# compiler's vector body covers all of them.
_LANES = 16
# Nodes are grouped into chunks of about this many colours: the unit of parallel work, and of
# the order in which float64 partial sums are added.
_CHUNK_SIZE = 1 << 16
# float32 distances carry at most 5 roundings of 2⁻²⁴; a centroid is dropped only where it
# loses by more than 30 times that.
_SLACK = 1e-5

Float32Array = npt.NDArray[np.float32]
# int64 for points with integer coordinates, else float64.
Sums = npt.NDArray[Any]


@dataclass(frozen=True)
class ColorTree:
    """Weighted points with boxes around runs of them.

    Attributes
    ----------
    points : (3, n + padding) float32, coordinates in the space that is clustered.
    weights : (n,) int64 for points with integer coordinates (sums are then exact), else float64.
    leaf_starts : (n_leaves + 1,) int64 into the points.
    leaf_boxes : (n_leaves, 6) float32: centre, then half side, rounded up.
    leaf_sums : (n_leaves, 4) of the weights' dtype: Σwx, Σwy, Σwz, Σw.
    node_starts : (n_nodes + 1,) int64 into the leaves.
    node_boxes : (n_nodes, 6) float32.
    chunk_starts : (n_chunks + 1,) int64 into the nodes.
    squares : Σ w‖x‖².
    """

    points: Float32Array
    weights: npt.NDArray[Any]
    leaf_starts: npt.NDArray[np.int64]
    leaf_boxes: Float32Array
    leaf_sums: Sums
    node_starts: npt.NDArray[np.int64]
    node_boxes: Float32Array
    chunk_starts: npt.NDArray[np.int64]
    squares: float

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def n_chunks(self) -> int:
        """Chunks that `sum_chunk` and `label_chunk` take."""
        return len(self.chunk_starts) - 1


def build_tree(
    codes: npt.NDArray[np.uint32],
    points: Float32Array,
    weights: npt.NDArray[Any],
) -> ColorTree:
    """Group points into leaves, nodes and chunks by their colour codes.

    Parameters
    ----------
    codes : (n,) uint32, ascending Morton codes of the colours the points stand for; they only
        decide on the grouping.
    points : (n, 3) float32, finite.
    weights : (n,) positive; int64 asks for integer sums and needs integer coordinates.

    Raises
    ------
    ValueError : lengths differ or there is no point.
    """
    n = len(codes)
    if n == 0 or points.shape != (n, 3) or weights.shape != (n,):
        raise ValueError(
            "a tree needs at least one point, with one code and one weight each; received "
            f"codes {codes.shape}, points {points.shape}, weights {weights.shape}"
        )
    columns = np.zeros((3, n + _LANES), np.float32)
    columns[:, :n] = points.T
    starts = np.empty(n + 1, np.int64)
    leaf_starts = starts[: _split(codes, _LEAF_SIZE, starts) + 1].copy()
    node_points = starts[: _split(codes, _NODE_SIZE, starts) + 1].copy()
    node_starts = np.searchsorted(leaf_starts, node_points).astype(np.int64)
    n_leaves, n_nodes = len(leaf_starts) - 1, len(node_points) - 1
    leaf_boxes = np.empty((n_leaves, 6), np.float32)
    node_boxes = np.empty((n_nodes, 6), np.float32)
    leaf_sums = np.zeros((n_leaves, 4), weights.dtype)
    _bound(columns, leaf_starts, leaf_boxes)
    _bound(columns, node_points, node_boxes)
    squares = _sum_leaves(columns, weights, leaf_starts, leaf_sums)
    chunk_of_node = node_points[:-1] // _CHUNK_SIZE
    chunk_starts = np.flatnonzero(np.diff(chunk_of_node, prepend=-1, append=n)).astype(np.int64)
    return ColorTree(
        columns,
        weights,
        leaf_starts,
        leaf_boxes,
        leaf_sums,
        node_starts,
        node_boxes,
        chunk_starts,
        squares,
    )


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


@njit(nogil=True, cache=True)
def _split(codes, limit, starts):  # type: ignore[no-untyped-def]
    """Starts of the largest aligned cells that hold at most `limit` codes; returns their number."""
    stack_start = np.empty(8 * 8 + 1, np.int64)
    stack_end = np.empty(8 * 8 + 1, np.int64)
    stack_bits = np.empty(8 * 8 + 1, np.int64)
    stack_start[0], stack_end[0], stack_bits[0] = 0, codes.size, 24
    depth, n = 1, 0
    while depth > 0:
        depth -= 1
        start, end, bits = stack_start[depth], stack_end[depth], stack_bits[depth]
        if end - start <= limit or bits == 0:
            starts[n] = start
            n += 1
            continue
        bits -= 3
        # Children in descending order, so that the stack returns them in ascending order.
        while end > start:
            child = np.int64(codes[end - 1]) >> bits
            first = start + np.searchsorted(codes[start:end], np.uint32(child << bits))
            stack_start[depth], stack_end[depth], stack_bits[depth] = first, end, bits
            depth += 1
            end = first
    starts[n] = codes.size
    return n


@njit(nogil=True, cache=True)
def _bound(points, starts, boxes):  # type: ignore[no-untyped-def]
    for box in range(starts.size - 1):
        for axis in range(3):
            low = high = points[axis, starts[box]]
            for i in range(starts[box] + 1, starts[box + 1]):
                low = min(low, points[axis, i])
                high = max(high, points[axis, i])
            middle = np.float32(0.5) * (low + high)
            boxes[box, axis] = middle
            half = max(np.float64(high) - middle, np.float64(middle) - low)
            boxes[box, 3 + axis] = half * 1.000001


@njit(nogil=True, cache=True)
def _sum_leaves(points, weights, starts, sums):  # type: ignore[no-untyped-def]
    """Fill `sums` and return Σ w‖x‖²."""
    value = sums.dtype.type
    squares = 0.0
    for leaf in range(starts.size - 1):
        square = 0.0
        for i in range(starts[leaf], starts[leaf + 1]):
            weight = weights[i]
            x, y, z = points[0, i], points[1, i], points[2, i]
            sums[leaf, 0] += weight * value(x)
            sums[leaf, 1] += weight * value(y)
            sums[leaf, 2] += weight * value(z)
            sums[leaf, 3] += weight
            square += weight * (np.float64(x) * x + np.float64(y) * y + np.float64(z) * z)
        squares += square
    return squares


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
    best = np.empty(_LEAF_SIZE + _LANES, np.float32)
    winner = np.empty(_LEAF_SIZE + _LANES, np.int32)
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
            padded = (size + _LANES - 1) // _LANES * _LANES
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
    best = np.empty(_LEAF_SIZE + _LANES, np.float64)
    winner = np.empty(_LEAF_SIZE + _LANES, np.int32)
    inertia = 0.0
    for node in range(node_starts.size - 1):
        n_node = _filter(centroids, every, k, node_boxes[node], distances, of_node, node_index)
        for leaf in range(node_starts[node], node_starts[node + 1]):
            n_leaf = _filter(
                of_node, node_index, n_node, leaf_boxes[leaf], distances, of_leaf, leaf_index
            )
            start = leaf_starts[leaf]
            size = leaf_starts[leaf + 1] - start
            padded = (size + _LANES - 1) // _LANES * _LANES
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
