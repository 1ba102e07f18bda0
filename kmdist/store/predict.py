"""Labels of new pixels by the palette of a run, in memory: what `Run.predict` does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.errors import ImageError, UsageError
from kmdist.images import Found, decode, probe, to_rgb8
from kmdist.kernels.histogram import count_colors
from kmdist.kernels.label_table import apply_table, borrowed_table
from kmdist.palette import ColorCloud, label_colors
from kmdist.store.layout import label_dtype, unclustered_value


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
    if isinstance(images, Mapping):
        return {name: _labels(centroids, space, images[name]) for name in images}
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return [_labels(centroids, space, image) for image in images]
    return _labels(centroids, space, images)


def _labels(centroids: NDArray[np.float32], space: str, image: Any) -> NDArray[Any]:
    pixels = _read(Path(image)) if isinstance(image, str | Path) else np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise UsageError(
            f"an image is an array (y, x), (y, x, 1), (y, x, 3) or (y, x, 4); received shape "
            f"{np.shape(image) if not isinstance(image, str | Path) else pixels.shape}"
        )
    rgb, unclustered = to_rgb8(pixels)
    rgb = np.ascontiguousarray(rgb)
    k, marked = len(centroids), unclustered is not None
    colors = count_colors(rgb, unclustered)
    labels: NDArray[Any] = np.zeros(rgb.shape[:2], label_dtype(k, marked))
    if len(colors):
        nearest, _, _ = label_colors(ColorCloud(colors, space), centroids)
        with borrowed_table(colors.codes, nearest) as table:
            labels[...] = apply_table(rgb, table)
    if unclustered is not None:
        labels[unclustered] = unclustered_value(k, marked)
    return labels


def _read(path: Path) -> NDArray[Any]:
    try:
        return decode(probe(Found(path.name, str(path))))
    except ImageError as error:
        raise ImageError(error.code, f"{path}: {error.reason}") from error
