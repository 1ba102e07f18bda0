"""Labels of new pixels by the clusters of a run, in memory: what `Run.predict` does."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.errors import ImageError, UsageError
from kmdist.images import Found, decode, probe, to_rgb8
from kmdist.store.format.layout import label_dtype, unclustered_value


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
