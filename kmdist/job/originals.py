"""The photographs behind label maps, while they exist."""

import numpy as np

from kmdist.errors import ImageError
from kmdist.images import Found, Window, decode, probe, to_rgb8
from kmdist.images.finding.files import file_status
from kmdist.job.pixels import Convert
from kmdist.store import RunImage


def require_there(image: RunImage) -> None:
    """Ask whether the file or object that a label map was made from is there.

    Raises
    ------
    ImageError : it is gone, or its store does not answer.
    """
    try:
        file_status(image.source)
    except ImageError as error:
        said = "is gone" if error.code == "missing" else error.reason
        raise ImageError(error.code, f"the original {image.source} {said}") from error


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
