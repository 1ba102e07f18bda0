"""Sums of rows and weights per cluster: exact, so that rows may come and go in any order."""

from typing import NamedTuple

import numpy as np
from numba import njit

from kmdist.engine.kernels.grid import Grid, float_bits


class PartialSums(NamedTuple):
    """Per-cluster sums of some rows, exact on the levels of a grid (`kmdist.engine.kernels.grid`).

    Parameters
    ----------
    sums : (k, levels, d) float64; the sum over the levels is Σ w·x.
    counts : (k, levels of the weights) float64, of Σ w.
    """

    sums: np.ndarray
    counts: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """(k,) float64, Σ w."""
        return add_levels(self.counts)

    @property
    def totals(self) -> np.ndarray:
        """(k, d) float64, Σ w·x."""
        return add_levels(self.sums)


def no_sums(k: int, d: int, grid: Grid) -> PartialSums:
    """Of no rows."""
    levels, weight_levels = len(grid.rows) + 1, len(grid.weights) + 1
    return PartialSums(np.zeros((k, levels, d)), np.zeros((k, weight_levels)))


def merge_sums(parts: list[PartialSums]) -> PartialSums:
    """Add partial sums; exact, hence the same in any order."""
    sums, counts = parts[0].sums.copy(), parts[0].counts.copy()
    for part in parts[1:]:
        sums += part.sums
        counts += part.counts
    return PartialSums(sums, counts)


def add_levels(pieces: np.ndarray) -> np.ndarray:
    """Sums over axis 1, as if in twice the precision of float64 (Ogita, Rump and Oishi, 2005)."""
    total, rest = pieces[:, 0], np.zeros_like(pieces[:, 0])
    for level in range(1, pieces.shape[1]):
        piece = pieces[:, level]
        added = total + piece
        back = added - total
        rest = rest + ((total - (added - back)) + (piece - back))
        total = added
    return total + rest


def cluster_means(sums: PartialSums, centroids: np.ndarray) -> np.ndarray:
    """(k, d) float64, the mean of each cluster; its centroid where it has no rows."""
    weights = sums.weights
    filled = weights > 0
    means = centroids.astype(np.float64)
    means[filled] = sums.totals[filled] / weights[filled, None]
    return means


def weigh_labels(labels: np.ndarray, weights: np.ndarray | None, k: int, grid: Grid) -> np.ndarray:
    """(k, levels of the weights) float64, Σ w per label."""
    if weights is None:
        return np.bincount(labels, minlength=k).astype(np.float64)[:, None]
    counts = []
    for magic in grid.weights:
        pieces = (weights + magic) - magic
        counts.append(np.bincount(labels, weights=pieces, minlength=k))
        weights = weights - pieces
    counts.append(np.bincount(labels, weights=weights, minlength=k))
    return np.stack(counts, axis=1)


@njit(nogil=True, cache=True)
def move_row(rows, i, weight, grid, out, old, new, left):  # type: ignore[no-untyped-def]
    """Take a row and its weight from the sums of one cluster (−1: none) to those of another.

    Rows come as array and index: a view costs an atomic count of its users.

    Parameters
    ----------
    grid : tuple of a `Grid`. out : tuple of `PartialSums`.
    left : (d,) float64, scratch.
    """
    row_grid, weight_grid = grid
    sums, counts = out
    count = weight
    for level in range(weight_grid.size):
        part = (count + weight_grid[level]) - weight_grid[level]
        count -= part
        counts[new, level] += part
        if old >= 0:
            counts[old, level] -= part
    counts[new, weight_grid.size] += count
    if old >= 0:
        counts[old, weight_grid.size] -= count
    d, levels = rows.shape[1], row_grid.shape[0]
    if levels == 0:
        for p in range(d):
            t = np.float64(rows[i, p]) * weight
            if old >= 0:
                sums[old, 0, p] -= t
            sums[new, 0, p] += t
        return
    for p in range(d):
        left[p] = np.float64(rows[i, p]) * weight
    for level in range(levels):
        bits = np.int64(0)
        for p in range(d):
            t, magic = left[p], row_grid[level, p]
            piece = (t + magic) - magic
            rest = t - piece
            left[p] = rest
            bits |= float_bits(rest) << 1  # type: ignore[call-arg]  # a zero has a sign
            if old >= 0:
                sums[old, level, p] -= piece
            sums[new, level, p] += piece
        if bits == 0:
            return
    for p in range(d):
        if old >= 0:
            sums[old, levels, p] -= left[p]
        sums[new, levels, p] += left[p]
