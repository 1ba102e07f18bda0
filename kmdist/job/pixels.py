"""Decoded pixels: of pieces, of images in memory, and of the originals of label maps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.errors import ImageError, UsageError
from kmdist.images import Found, Piece, Window, decode, probe, to_rgb8
from kmdist.images.finding.files import file_status
from kmdist.job.recipe import Model
from kmdist.job.work import read_piece
from kmdist.store import RunImage, label_dtype, unclustered_value

Convert = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""Makes 8-bit colours and a mask of decoded pixels, as `kmdist.images.to_rgb8`."""


@dataclass(frozen=True)
class Pixels:
    """One decoded piece.

    Parameters
    ----------
    rgb : (y, x, 3) uint8; with alpha (y, x, 4).
    unclustered : (y, x) bool, True where a pixel is transparent; None: nowhere.
    weights : (y, x) uint8, how much each pixel counts; None: all alike.
    """

    piece: Piece
    rgb: np.ndarray
    unclustered: np.ndarray | None
    weights: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self.rgb, self.unclustered, self.weights)
        return sum(one.nbytes for one in arrays if one is not None)


def decode_piece(piece: Piece, convert: Convert = to_rgb8) -> Pixels:
    """Decode one piece to 8-bit colours."""
    rgb, unclustered = convert(read_piece(piece))
    return Pixels(piece, rgb, unclustered)


def require_there(image: RunImage) -> None:
    """Ask whether the file or object that a label map was made from is there.

    Raises
    ------
    ImageError : it is gone, or its store does not answer.
    """
    try:
        file_status(image.source)
    except ImageError as error:
        said = " is gone" if error.code == "missing" else f": {error.reason}"
        raise ImageError(error.code, f"the original {image.source}{said}") from error


class Photograph:
    """The photograph behind a label map: a `kmdist.job.recipe.Original`.

    Parameters
    ----------
    convert : makes 8-bit colours of decoded pixels.

    Raises
    ------
    ImageError : it is gone, has another size than the label map, or cannot be read.
    """

    def __init__(self, image: RunImage, max_pixels: int, convert: Convert = to_rgb8) -> None:
        self._convert = convert
        require_there(image)
        self._source = probe(Found(image.name, image.source), max_pixels=max_pixels)
        if (self._source.width, self._source.height) != (image.width, image.height):
            raise ImageError(
                "changed",
                f"the original {image.source} has changed: it is {self._source.width} × "
                f"{self._source.height} now, its label map {image.width} × {image.height}",
            )
        self._whole: np.ndarray | None = None

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self._source.size_bytes

    def rgb(self, window: Window) -> np.ndarray:
        """(y, x, 3) uint8 of a window, with alpha (y, x, 4); kept whole if it is read whole."""
        if self._source.windowed:
            return self._convert(decode(self._source, window))[0]
        if self._whole is None:
            self._whole = self._convert(decode(self._source))[0]
        return self._whole[window.y0 : window.y1, window.x0 : window.x1]


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
