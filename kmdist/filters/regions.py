"""Regions of label maps: those that are too small join a neighbour."""

import heapq
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

REGION_BYTES = 18
"""A pixel whose small regions are joined, beside its label: each pixel of noise is a region."""


def join_small_regions(
    labels: NDArray[np.int32], valid: NDArray[np.bool_], min_pixels: int, planes: int = 1
) -> None:
    """Give regions of fewer pixels the label with which they share the longest border; in place.

    A region is what hangs together by sides of pixels with one label. The smallest goes first, of
    equals the one whose first pixel comes first; what it joins is one region from then on, with a
    size of its own. Of borders of one length the lowest label's counts. Pixels without data border
    on nothing, and a region that borders on nothing else stays.

    Time: near-linear in the pixels, and in the pixels of small regions. Memory: 9 bytes a pixel
    beside the labels, and 9 a small region.

    Parameters
    ----------
    labels : (h, w) int32, contiguous. valid : (h, w) where there are labels.
    min_pixels : of regions that stay as they are.
    planes : that lie below one another; regions are within one.
    """
    if min_pixels <= 1 or not labels.size:
        return
    n_pixels = labels.size // planes
    min_pixels = min(min_pixels, n_pixels + 1)
    parent, size = np.empty((2, n_pixels), np.int32 if n_pixels < 2**31 else np.int64)
    border = np.zeros(int(labels.max()) + 1, np.int64)
    whole = np.ascontiguousarray(valid)
    for plane, there in zip(np.split(labels, planes), np.split(whole, planes), strict=True):
        _join(plane, there, min_pixels, parent, size, border)


@njit(cache=True, nogil=True)
def _root(parent: Any, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _unite(parent: Any, size: Any, i: int, j: int) -> int:
    a, b = _root(parent, i), _root(parent, j)
    if a == b:
        return a
    if b < a:
        a, b = b, a
    parent[b] = a
    size[a] += size[b]
    return a


@njit(cache=True, nogil=True)
def _regions(labels: Any, valid: Any, parent: Any, size: Any) -> None:
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            i = y * width + x
            parent[i], size[i] = i, 1
            if not valid[y, x]:
                continue
            if x > 0 and valid[y, x - 1] and labels[y, x - 1] == labels[y, x]:
                _unite(parent, size, i - 1, i)
            if y > 0 and valid[y - 1, x] and labels[y - 1, x] == labels[y, x]:
                _unite(parent, size, i - width, i)


@njit(cache=True, nogil=True)
def _join(labels: Any, valid: Any, min_pixels: int, parent: Any, size: Any, border: Any) -> None:
    height, width = labels.shape
    _regions(labels, valid, parent, size)
    n_pixels = np.int64(height * width)
    queue = [np.int64(0)][:0]  # by size, of equals by the first pixel: in one number, half as large
    for i in range(height * width):
        if parent[i] == i and size[i] < min_pixels and valid[i // width, i % width]:
            queue.append(size[i] * n_pixels + i)
    heapq.heapify(queue)
    seen = np.zeros(height * width, np.bool_)
    inside = np.empty(min_pixels, np.int64)
    while len(queue) > 0:
        pixels, first = divmod(heapq.heappop(queue), n_pixels)
        if parent[first] != first or size[first] != pixels:
            continue  # it has become part of another, or has grown
        own = labels[first // width, first % width]
        inside[0], seen[first], n = first, True, 1
        border[:] = 0
        position = 0
        while position < n:
            i = inside[position]
            position += 1
            y, x = i // width, i % width
            for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
                v, u = y + dy, x + dx
                if v < 0 or u < 0 or v >= height or u >= width or not valid[v, u]:
                    continue
                j = v * width + u
                if labels[v, u] != own:
                    border[labels[v, u]] += 1
                elif not seen[j]:
                    inside[n], seen[j] = j, True
                    n += 1
        for position in range(n):
            seen[inside[position]] = False
        if border.max() == 0:
            continue
        joined = np.int64(border.argmax())
        for position in range(n):
            i = inside[position]
            labels[i // width, i % width] = joined
        root = np.int64(first)
        for position in range(n):
            i = inside[position]
            y, x = i // width, i % width
            for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
                v, u = y + dy, x + dx
                if v < 0 or u < 0 or v >= height or u >= width or not valid[v, u]:
                    continue
                if labels[v, u] == joined:
                    root = np.int64(_unite(parent, size, i, v * width + u))
        if size[root] < min_pixels:
            heapq.heappush(queue, size[root] * n_pixels + root)


def largest_region(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(h, w) True in the largest region of what is True, of equals the one that comes first.

    Regions hang together by sides of pixels, as of `join_small_regions`; time and memory too.
    """
    if not inside.any():
        return inside
    n_pixels = inside.size
    parent, size = np.empty((2, n_pixels), np.int32 if n_pixels < 2**31 else np.int64)
    whole = np.ascontiguousarray(inside)
    _regions(whole, whole, parent, size)
    is_root = parent == np.arange(n_pixels, dtype=parent.dtype)
    largest = int(np.where(is_root & whole.ravel(), size, 0).argmax())
    found = np.zeros(whole.shape, np.bool_)
    _mark(whole.ravel(), parent, largest, found.ravel())
    return found


@njit(cache=True, nogil=True)
def _mark(inside: Any, parent: Any, root: int, found: Any) -> None:
    for i in range(inside.size):
        found[i] = inside[i] and _root(parent, i) == root
