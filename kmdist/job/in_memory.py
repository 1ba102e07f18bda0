"""Labels of new pixels by the clusters of a run, in memory: what `Run.predict` does."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.errors import ImageError, UsageError
from kmdist.filters import tutorial
from kmdist.filters.cell_labels import label_pixels
from kmdist.filters.features import tile_features
from kmdist.images import Found, decode, probe, to_rgb8
from kmdist.images.color import to_space
from kmdist.recipes.digits.model import DigitModel
from kmdist.recipes.digits.stacks import open_stack
from kmdist.recipes.quantize.kernels.histogram import count_colors
from kmdist.recipes.quantize.kernels.label_table import apply_table, borrowed_table
from kmdist.recipes.quantize.palette import ColorCloud, label_colors
from kmdist.recipes.texture.model import TextureModel
from kmdist.store.format.layout import label_dtype, unclustered_value


def predict_textures(model: TextureModel, images: Any) -> Any:
    """Label images with the nearest of some texture clusters; as `predict_labels`.

    Parameters
    ----------
    model : of a run of texture.
    """
    scorer = model.scorer
    textons = None if model.textons is None else model.textons.scorer

    def label(rgb: NDArray[np.uint8], _: NDArray[np.bool_] | None) -> NDArray[Any]:
        shape = (rgb.shape[0], rgb.shape[1])
        window = (0, 0, *shape)
        if model.texture.is_tutorial:
            return tutorial.label_rows(tutorial.tile_rows(rgb, window, shape), scorer)
        features = model.texture.features
        grid = features.grid(window, shape)
        lab = None
        if features.color_weight:
            lab = to_space(rgb.reshape(-1, 3), "lab").reshape(rgb.shape)
        cells = tile_features(rgb, grid, features, textons=textons, lab=lab)
        return label_pixels(scorer.scores(cells), grid.labelled, window)

    return _for_all(images, lambda image: _labels(scorer.k, label, image))


def predict_digits(model: DigitModel, images: Any) -> NDArray[np.int32]:
    """Label images of characters as the run of a model labelled its own.

    Parameters
    ----------
    images : (n, h, w) in NumPy or Dask, or what names a stack; see
        `kmdist.recipes.digits.stacks.open_stack`.

    Returns
    -------
    (n,) int32

    Raises
    ------
    UsageError : not an array (n, h, w), or images of another size than the run's.
    KmdistError : a file cannot be used; names it.
    """
    width, height = model.size
    if isinstance(images, str | Path | list | tuple) and not _is_numbers(images):
        stack, rejected = open_stack(images, size=model.size)
        for one in rejected:
            raise ImageError(one.code, f"{one.image}: {one.reason}")
        values = stack.read(0, stack.n)
    else:
        values = np.asarray(images)
    if values.ndim != 3 or values.shape[1:] != (height, width):
        raise UsageError(
            f"images are an array (n, {height}, {width}), as the run has them; received shape "
            f"{values.shape}"
        )
    if values.dtype.kind not in "uif":
        raise UsageError(f"images are {values.dtype}; expected uint8, uint16 or floating point")
    if values.dtype not in (np.uint8, np.uint16):
        values = values.astype(np.float32)
    return model.label(values)


def _is_numbers(images: Any) -> bool:
    return (
        not isinstance(images, str | Path)
        and bool(images)
        and not isinstance(images[0], str | Path | Found)
    )


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


def _for_all(images: Any, one: Callable[[Any], NDArray[Any]]) -> Any:
    """Label one image, a sequence or a mapping of them."""
    if isinstance(images, Mapping):
        return {name: one(images[name]) for name in images}
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return [one(image) for image in images]
    return one(images)


def _labels(
    k: int,
    label: Callable[[NDArray[np.uint8], NDArray[np.bool_] | None], NDArray[Any]],
    image: Any,
) -> NDArray[Any]:
    """Labels of one image, in the type that k needs, transparent pixels marked."""
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
    marked = unclustered is not None
    labels = label(rgb, unclustered).astype(label_dtype(k, marked), copy=False)
    if unclustered is not None:
        labels[unclustered] = unclustered_value(k, marked)
    return labels


def _read(path: Path) -> NDArray[Any]:
    try:
        return decode(probe(Found(path.name, str(path))))
    except ImageError as error:
        raise ImageError(error.code, f"{path}: {error.reason}") from error
