"""Tiles of the pictures of a run, from the levels of their pyramids."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from kmdist.errors import ImageError, KmdistError
from kmdist.images import Window
from kmdist.job.recipe import Original
from kmdist.pictures import drawing
from kmdist.pictures.run_pictures import RunPicture
from kmdist.store import RunImage

TILE_PX = 512
THUMBNAIL_PX = 128
MOST_ORIGINAL_PIXELS = 16 << 20
"""Of an original, read for one tile; where it would take more, cluster colours stand for it."""
DEEPEST = 30
"""Times that a picture can be halved."""
LAYERS = ("original", "recolored", "labels", "chosen")


def tile(
    picture: RunPicture,
    layer: str,
    level: int,
    column: int,
    row: int,
    *,
    original: Original | None,
    clusters: Sequence[int] = (),
) -> bytes | None:
    """One tile as PNG; None outside the picture.

    Parameters
    ----------
    layer : one of `LAYERS`. level : how many times the picture is halved.
    column, row : of the tile, of `TILE_PX` pixels of this level.
    original : to take colours from; None: those of the clusters.
    clusters : that are shown of the layer ``chosen``; the rest is transparent.
    """
    if level > DEEPEST:
        return None
    step = 1 << level
    y0, x0 = row * TILE_PX * step, column * TILE_PX * step
    height, width = picture.image.height, picture.image.width
    if y0 >= height or x0 >= width:
        return None
    side = TILE_PX * step
    window = Window(y0, x0, min(y0 + side, height), min(x0 + side, width))
    labels = labels_of(picture.image, level, window)
    colors = colors_of(picture)
    shown = labels < len(colors)
    if layer == "labels":
        colors = drawing.label_colors(len(colors))
    rgba = np.full((*labels.shape, 4), 255, np.uint8)
    rgba[..., : colors.shape[1]] = colors[np.where(shown, labels, 0)]
    if layer == "chosen":
        shown &= np.isin(labels, list(clusters))
    if layer in ("original", "chosen"):
        found = _original_pixels(original, window, (labels.shape[1], labels.shape[0]))
        if found is not None:
            rgba[..., : found.shape[2]] = found
            shown |= layer == "original"
    rgba[~shown] = 0
    return png(rgba)


def colors_of(picture: RunPicture) -> np.ndarray:
    """(k, 3 or 4) uint8: the palette; of clusters without colours those of a label map."""
    try:
        return picture.palette
    except KmdistError:
        return drawing.label_colors(picture.run.k or 0)


def thumbnail(picture: RunPicture) -> bytes:
    """The picture in the colours of its clusters, as PNG of `THUMBNAIL_PX` at most."""
    image = picture.image
    level = max(0, (max(image.width, image.height) - 1) // THUMBNAIL_PX).bit_length()
    labels = labels_of(image, level, Window(0, 0, image.height, image.width))
    colors = colors_of(picture)
    return png(np.vstack([colors, np.zeros_like(colors[:1])])[np.minimum(labels, len(colors))])


def labels_of(image: RunImage, level: int, window: Window) -> np.ndarray:
    """Every 2ᵗʰ^level label of a window along both axes, also of levels the pyramid lacks.

    Parameters
    ----------
    window : in pixels of the image; its corner lies on a multiple of 2^level.
    """
    stored = min(level, image.levels - 1)
    rows = slice(window.y0 >> stored, -(-window.y1 >> stored), 1 << (level - stored))
    columns = slice(window.x0 >> stored, -(-window.x1 >> stored), 1 << (level - stored))
    return image.read_labels(stored, (rows, columns))


def png(pixels: np.ndarray) -> bytes:
    """Pixels as PNG, quickly."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _original_pixels(
    original: Original | None, window: Window, size: tuple[int, int]
) -> np.ndarray | None:
    pixels = (window.y1 - window.y0) * (window.x1 - window.x0)
    if original is None or pixels > MOST_ORIGINAL_PIXELS:
        return None
    try:
        found = Image.fromarray(original.rgb(window))
    except ImageError:
        return None
    return np.asarray(found.resize(size, Image.Resampling.BOX))
