"""Nearest centroids of distinct colours, exactly, by filtering a two-level tree of colour cells.

Colours sorted by Morton code form cubes at every scale: *leaves* of a few dozen colours, and
*nodes* of a few hundred, each with a box around them. Kanungo et al., "An efficient k-means
clustering algorithm: analysis and implementation" (IEEE PAMI 24, 2002): a centroid that is farther
than another from every point of a box is the nearest of no colour in it. Nodes filter all k
centroids, leaves filter what their node left, and colours meet only the centroids of their leaf.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from kmdist.recipes.quantize.kernels.color_vectors import LANES, filter_box, find_places

# Colours per leaf and node, at most (tuned on 12 Kodak images, k = 8 … 256).
LEAF_SIZE = 48
_NODE_SIZE = 768
# Nodes are grouped into chunks of about this many colours: the unit of parallel work, and of
# the order in which float64 partial sums are added.
_CHUNK_SIZE = 1 << 16

Float32Array = npt.NDArray[np.float32]
# int64 for points with integer coordinates, else float64.
Sums = npt.NDArray[Any]


@dataclass(frozen=True)
class ColorTree:
    """Weighted points with boxes around runs of them.

    Attributes
    ----------
    points : (3, n + 8) float32, coordinates in the space that is clustered; eight are read at once.
    weights : (n,) int64 for points with integer coordinates (sums are then exact), else float64.
    leaf_starts : (n_leaves + 1,) int64 into the points.
    leaf_boxes : (n_leaves, 6) float32: centre, then half side, rounded up.
    leaf_sums : (n_leaves, 4) of the weights' dtype: Σwx, Σwy, Σwz, Σw.
    node_starts : (n_nodes + 1,) int64 into the leaves.
    node_boxes : (n_nodes, 6) float32.
    chunk_starts : (n_chunks + 1,) int64 into the nodes.
    squares : Σ w‖x‖².
    largest : points of the largest leaf.
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
    largest: int

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
    columns = np.zeros((3, n + LANES), np.float32)
    columns[:, :n] = points.T
    starts = np.empty(n + 1, np.int64)
    leaf_starts = starts[: _split(codes, LEAF_SIZE, starts) + 1].copy()
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
        int(np.diff(leaf_starts).max()),
    )


@njit(nogil=True, cache=True)
def _split(codes, limit, starts):  # type: ignore[no-untyped-def]
    """Starts of the largest aligned cells that hold at most `limit` codes; returns their number."""
    # Eight levels of at most eight cells wait: start, end, bits.
    stack = np.empty((65, 3), np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, codes.size, 24
    depth, n = 1, 0
    while depth > 0:
        depth -= 1
        start, end, bits = stack[depth, 0], stack[depth, 1], stack[depth, 2]
        if end - start <= limit or bits == 0:
            starts[n] = start
            n += 1
            continue
        bits -= 3
        # Children in descending order, so that the stack returns them in ascending order.
        while end > start:
            child = np.int64(codes[end - 1]) >> bits
            first, above = start, end - 1
            while first < above:
                middle = (first + above) // 2
                if np.int64(codes[middle]) >> bits < child:
                    first = middle + 1
                else:
                    above = middle
            stack[depth, 0], stack[depth, 1], stack[depth, 2] = first, end, bits
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
    label_chunk(tree, chunk, centroids, np.empty(0, np.uint8), sums)
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
    labels : (n,) for all points of the tree; those of the chunk are written; empty: none are.
    sums : (k, 4) of the weights' dtype, added to as in `sum_chunk`.

    Returns
    -------
    Σ w‖x − c‖² over the chunk; without labels 0.
    """
    k = len(centroids)
    columns = np.zeros((3, k + LANES), np.float32)
    columns[:, :k] = centroids.T
    first, last = tree.chunk_starts[chunk : chunk + 2]
    inertia: float = _assign(
        tree.points,
        tree.weights,
        tree.leaf_starts,
        tree.leaf_boxes,
        tree.leaf_sums,
        tree.node_starts[first : last + 1],
        tree.node_boxes[first:last],
        columns,
        labels,
        sums,
        # Scratch, made here because each NumPy constructor costs 0.1 s of compilation.
        np.arange(k, dtype=np.int32),
        np.empty(k // 64 + 1, np.uint64),
        np.empty((3, k + LANES), np.float32),
        np.empty(k + LANES, np.int32),
        np.empty((3, k + LANES), np.float32),
        np.empty(k + LANES, np.int32),
        np.empty(tree.largest + LANES, np.uint32),
    )
    return inertia


# Inlined, and without views of rows: calls and references would take half of the time at k = 8.
@njit(nogil=True, cache=True, inline="always")
def _add(points, weights, start, end, index, places, sums):  # type: ignore[no-untyped-def]
    """Add the points of a leaf to the sums of their centroids."""
    value = sums.dtype.type
    for i in range(start, end):
        label = np.uint32(index[places[i - start]])
        w = weights[i]
        x, y, z = w * value(points[0, i]), w * value(points[1, i]), w * value(points[2, i])
        # Loaded before any is stored: the compiler makes one vector of the four.
        x += sums[label, 0]
        y += sums[label, 1]
        z += sums[label, 2]
        w += sums[label, 3]
        sums[label, 0], sums[label, 1], sums[label, 2], sums[label, 3] = x, y, z, w


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
    marks,
    of_node,
    node_index,
    of_leaf,
    leaf_index,
    places,
):
    """Add to `sums`; if `labels` are not empty, write them and return the inertia."""
    k = every.size
    labelling = labels.size > 0
    inertia = 0.0
    for node in range(node_starts.size - 1):
        n_node = filter_box(centroids, every, k, node_boxes, node, marks, of_node, node_index)
        for leaf in range(node_starts[node], node_starts[node + 1]):
            n_leaf = filter_box(
                of_node, node_index, n_node, leaf_boxes, leaf, marks, of_leaf, leaf_index
            )
            start, end = leaf_starts[leaf], leaf_starts[leaf + 1]
            if n_leaf == 1:
                for column in range(4):
                    sums[leaf_index[0], column] += leaf_sums[leaf, column]
                if not labelling:
                    continue
                places[: end - start] = 0
            else:
                find_places(points, start, end, of_leaf, n_leaf, places)
                _add(points, weights, start, end, leaf_index, places, sums)
            if labelling:
                of_cell = 0.0
                for i in range(start, end):
                    place = places[i - start]
                    labels[i] = leaf_index[place]
                    x = of_leaf[0, place] - np.float64(points[0, i])
                    y = of_leaf[1, place] - np.float64(points[1, i])
                    z = of_leaf[2, place] - np.float64(points[2, i])
                    of_cell += weights[i] * (x * x + y * y + z * z)
                inertia += of_cell
    return inertia
