"""A palette to label new photographs with."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.job.in_memory import _for_all, _labels
from kmdist.recipes.quantize.kernels.histogram import Colors, count_colors
from kmdist.recipes.quantize.kernels.label_table import apply_table, borrowed_table
from kmdist.recipes.quantize.palette import ColorCloud, label_colors


@dataclass(frozen=True)
class Model:
    """A palette to label with.

    Parameters
    ----------
    centroids : (k, 3) float32 in `space`.
    palette : (k, 3) uint8 sRGB.
    """

    centroids: np.ndarray
    palette: np.ndarray
    space: str

    def label(self, colors: Colors) -> tuple[np.ndarray, np.ndarray, float]:
        """Labels of distinct colours, members of each cluster, and inertia."""
        if not len(colors):
            return np.empty(0, np.uint8), np.zeros(len(self.centroids), np.int64), 0.0
        return label_colors(ColorCloud(colors, self.space), self.centroids)


def predict_labels(centroids: NDArray[np.float32], space: str, images: Any) -> Any:
    """Label images with the nearest of some centroids.

    Parameters
    ----------
    centroids : (k, 3), in `space`.
    images : one image, a sequence of them, or a mapping of names to them. An image is a path, or
        an array (y, x), (y, x, 1), (y, x, 3) or (y, x, 4) in NumPy or Dask, RGB order.

    Returns
    -------
    (y, x) labels for one image, in the type `label_dtype` names, transparent pixels with its
    largest value; a list or a dict of them for several.

    Raises
    ------
    UsageError : an array is no image.
    ImageError : a file cannot be used, or values are out of range.
    """

    def label(rgb: NDArray[np.uint8], unclustered: NDArray[np.bool_] | None) -> NDArray[Any]:
        colors = count_colors(rgb, unclustered)
        if not len(colors):
            return np.zeros(rgb.shape[:2], np.uint8)
        nearest, _, _ = label_colors(ColorCloud(colors, space), centroids)
        with borrowed_table(colors.codes, nearest) as table:
            return apply_table(rgb, table)

    return _for_all(images, lambda image: _labels(len(centroids), label, image))
