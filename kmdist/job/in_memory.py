"""Label images in memory with a model: what `Run.predict` does, whatever the recipe."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.errors import ImageError, UsageError
from kmdist.images import Found, decode, probe, to_rgb8
from kmdist.job.pixels import Convert
from kmdist.job.recipe import Model
from kmdist.store import label_dtype, unclustered_value


def label_images(model: Model, images: Any, convert: Convert = to_rgb8) -> Any:
    """Label photographs in memory.

    Parameters
    ----------
    images : one image, a sequence of them, or a mapping of names to them. An image is a path, or
        an array (y, x), (y, x, 1), (y, x, 3) or (y, x, 4) in NumPy or Dask, RGB order.
    convert : makes what the model labels of decoded pixels, and says where they are transparent.

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
        return {name: _labels(model, image, convert) for name, image in images.items()}
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return [_labels(model, image, convert) for image in images]
    return _labels(model, images, convert)


def _labels(model: Model, image: Any, convert: Convert) -> NDArray[Any]:
    """Labels of one image, in the type that k needs, transparent pixels marked."""
    pixels = _read(Path(image)) if isinstance(image, str | Path) else np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise UsageError(
            f"an image is an array (y, x), (y, x, 1), (y, x, 3) or (y, x, 4); received shape "
            f"{np.shape(image) if not isinstance(image, str | Path) else pixels.shape}"
        )
    rgb, unclustered = convert(pixels)
    marked = unclustered is not None
    labels = model.label(np.ascontiguousarray(rgb)).astype(label_dtype(model.k, marked), copy=False)
    if unclustered is not None:
        labels[unclustered] = unclustered_value(model.k, marked)
    return labels


def _read(path: Path) -> NDArray[Any]:
    try:
        return decode(probe(Found(path.name, str(path))))
    except ImageError as error:
        raise ImageError(error.code, f"{path}: {error.reason}") from error
