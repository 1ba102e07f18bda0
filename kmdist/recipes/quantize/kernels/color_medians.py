"""Nearest medians by Manhattan distance, and exact medians of 8-bit values by counting."""

import numpy as np
import numpy.typing as npt
from numba import njit

# Points whose running minima stay in the first-level cache while the medians pass by.
_BLOCK = 1024


def nearest_manhattan(
    points: npt.NDArray[np.float32], medians: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Nearest of k medians for every point, ties to the lowest index.

    Parameters
    ----------
    points : (n, 3) float32.
    medians : (k, 3) float32.

    Returns
    -------
    labels (n,) int32 and distances Σ|x − m| (n,) float32; exact where all are 8-bit integers.
    """
    labels = np.zeros(len(points), np.int32)
    distances = np.full(len(points), np.inf, np.float32)
    _nearest(np.ascontiguousarray(points.T), medians, labels, distances)
    return labels, distances


def medians_by_counting(
    rgb: npt.NDArray[np.uint8],
    weights: npt.NDArray[np.int64],
    labels: npt.NDArray[np.integer],
    k: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Weighted medians of each cluster's channels, exactly.

    The lower of the two where the weight divides evenly, so that medians are values that
    occur.

    Parameters
    ----------
    rgb : (n, 3) uint8.
    weights : (n,) int64.
    labels : (n,) cluster of each row, 0 … k − 1.

    Returns
    -------
    medians (k, 3) float32, zero for empty clusters; counts (k,) int64, Σ w per cluster.
    Memory: 6 kB a cluster.
    """
    frequencies = np.zeros((k, 3, 256), np.int64)
    _count_values(rgb, weights, labels, frequencies)
    cumulated = frequencies.cumsum(axis=2)
    totals = cumulated[:, 0, -1]
    medians = (2 * cumulated >= totals[:, None, None]).argmax(axis=2)
    return medians.astype(np.float32), totals


@njit(nogil=True, cache=True)
def _nearest(points, medians, labels, distances):  # type: ignore[no-untyped-def]
    for start in range(0, labels.size, _BLOCK):
        end = min(start + _BLOCK, labels.size)
        for j in range(medians.shape[0]):
            mx, my, mz = medians[j, 0], medians[j, 1], medians[j, 2]
            label = np.int32(j)
            for i in range(start, end):
                x, y, z = points[0, i] - mx, points[1, i] - my, points[2, i] - mz
                distance = abs(x) + abs(y) + abs(z)
                closer = distance < distances[i]
                distances[i] = distance if closer else distances[i]
                labels[i] = label if closer else labels[i]


@njit(nogil=True, cache=True)
def _count_values(rgb, weights, labels, frequencies):  # type: ignore[no-untyped-def]
    for i in range(labels.size):
        for channel in range(3):
            frequencies[labels[i], channel, rgb[i, channel]] += weights[i]
