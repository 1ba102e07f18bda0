"""Nearest centroids of cells, and labels of the pixels between them (numba).

‖y − c‖² differs between centroids by ‖c‖² − 2 c·y, and y is an affine map of the features as
measured; so a cell's **scores** are one affine map of its features, one number a centroid, and
the lowest names the nearest. Interpolating the scores between cells is the same as interpolating
the features, and takes k channels instead of d.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kmdist.filters.cells import CELL
from kmdist.filters.statistics import Projection, _affine
from kmdist.filters.tiles import Box


@dataclass(frozen=True)
class Scorer:
    """Scores of cells for k centroids: ``bias + (x − mean) @ weights``, lowest is nearest.

    Parameters
    ----------
    mean : (d,) float32.
    weights : (d, k) float32.
    bias : (k,) float32.
    """

    mean: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    @staticmethod
    def of(projection: Projection, centroids: NDArray[np.floating]) -> "Scorer":
        """The scorer for centroids (k, m) in the space of a projection."""
        centres = np.asarray(centroids, np.float64)
        weights = -2 * projection.matrix.astype(np.float64) @ centres.T
        bias = (centres**2).sum(1)
        return Scorer(projection.mean, weights.astype(np.float32), bias.astype(np.float32))

    @property
    def k(self) -> int:
        """Number of centroids."""
        return len(self.bias)

    def scores(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, columns, d) → (rows, columns, k) float32."""
        rows = np.ascontiguousarray(cells).reshape(-1, cells.shape[-1])
        out = np.empty((len(rows), self.k), np.float32)
        _affine(rows, self.mean, self.weights, self.bias, out)
        return out.reshape(*cells.shape[:-1], self.k)


def nearest(scores: NDArray[np.float32]) -> NDArray[np.unsignedinteger]:
    """Index of the lowest score, (…, k) → (…), in the smallest type; of equal ones the first."""
    return scores.argmin(-1).astype(np.min_scalar_type(scores.shape[-1] - 1))


def label_pixels(
    scores: NDArray[np.float32], have: Box, window: Box
) -> NDArray[np.unsignedinteger]:
    """Labels of pixels, from scores interpolated bilinearly between the centres of cells.

    Parameters
    ----------
    scores : (rows, columns, k) float32 for the cells of `have`.
    have : box of cells: those of the window and one around them, within the image.
    window : box of pixels that begins and ends at multiples of 4, or at the image's edge.

    Returns
    -------
    (height, width) of the type of `nearest`. Beyond the outermost centres of the image the
    nearest scores hold.
    """
    y0, x0, y1, x1 = window
    corners = nearest(scores)
    out = np.empty((y1 - y0, x1 - x0), corners.dtype)
    _interpolate(scores, corners, have[0], have[1], y0, x0, out)
    return out


def squared_distances(
    rows: NDArray[np.float32], labels: NDArray[np.unsignedinteger], centroids: NDArray[np.floating]
) -> float:
    """Σ ‖row − its centroid‖² in float64, from the differences.

    Parameters
    ----------
    rows : (n, m) float32 in the space of the centroids.
    labels : (n,) below k.
    centroids : (k, m).
    """
    centres = np.asarray(centroids, np.float64)
    return float(_squared_distances(rows, labels, centres))


def sum_colors(
    labels: NDArray[np.unsignedinteger], rgb: NDArray[np.uint8], sums: NDArray[np.int64]
) -> None:
    """Add each pixel's red, green, blue and 1 to its label's row of `sums`, (k, 4) int64.

    Labels of k and more, such as the mark of pixels that are not clustered, are left out.
    """
    if labels.shape != rgb.shape[:2] or rgb.shape[2:] != (3,) or sums.shape[1:] != (4,):
        raise ValueError(
            f"expected labels (h, w), rgb (h, w, 3), sums (k, 4), "
            f"got {labels.shape}, {rgb.shape}, {sums.shape}"
        )
    _sum_colors(labels, rgb, sums)


@njit(nogil=True, cache=True)
def _interpolate(scores, corner_labels, first_row, first_column, y0, x0, out):
    """Between four cell centres that agree nothing is computed: their label wins throughout."""
    rows, columns, k = scores.shape
    height, width = out.shape
    half = CELL // 2
    # Quad (i, j) lies between cells i, i + 1 and j, j + 1; its pixels start at the middle of cell
    # i, and the outermost quads of the image begin or end in a cell that has no neighbour.
    for i in range((y0 - half) // CELL, (y0 + height - 1 - half) // CELL + 1):
        upper = min(max(i - first_row, 0), rows - 1)
        lower = min(max(i + 1 - first_row, 0), rows - 1)
        top = max(i * CELL + half, y0)
        bottom = min(i * CELL + half + CELL, y0 + height)
        for j in range((x0 - half) // CELL, (x0 + width - 1 - half) // CELL + 1):
            left = min(max(j - first_column, 0), columns - 1)
            right = min(max(j + 1 - first_column, 0), columns - 1)
            start = max(j * CELL + half, x0)
            stop = min(j * CELL + half + CELL, x0 + width)
            label = corner_labels[upper, left]
            same = (
                label == corner_labels[upper, right]
                and label == corner_labels[lower, left]
                and label == corner_labels[lower, right]
            )
            for y in range(top, bottom):
                down = np.float32((y - i * CELL - half + 0.5) / CELL)
                for x in range(start, stop):
                    if same:
                        out[y - y0, x - x0] = label
                        continue
                    across = np.float32((x - j * CELL - half + 0.5) / CELL)
                    best = np.float32(np.inf)
                    winner = 0
                    for c in range(k):
                        a = scores[upper, left, c]
                        b = scores[lower, left, c]
                        a += across * (scores[upper, right, c] - a)
                        b += across * (scores[lower, right, c] - b)
                        a += down * (b - a)
                        if a < best:
                            best = a
                            winner = c
                    out[y - y0, x - x0] = winner


@njit(nogil=True, cache=True)
def _squared_distances(rows, labels, centroids):
    total = 0.0
    for n in range(rows.shape[0]):
        centre = centroids[labels[n]]
        distance = 0.0
        for i in range(rows.shape[1]):
            difference = rows[n, i] - centre[i]
            distance += difference * difference
        total += distance
    return total


@njit(nogil=True, cache=True)
def _sum_colors(labels, rgb, sums):
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label < sums.shape[0]:
                sums[label, 0] += rgb[y, x, 0]
                sums[label, 1] += rgb[y, x, 1]
                sums[label, 2] += rgb[y, x, 2]
                sums[label, 3] += 1
