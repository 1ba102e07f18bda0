"""What a worker does with one image or tile of a texture job: read, measure, sample, label.

A **field** is what is measured on a piece: features of cells, or for the walk-through's preset
8-bit responses of pixels. Everything here is a plain function of pixels and a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.filters import tutorial
from kmdist.filters.cell_labels import Scorer, label_pixels, nearest, squared_distances, sum_colors
from kmdist.filters.cells import TileGrid, sampled_cells, within
from kmdist.filters.features import (
    clustered_cells,
    features_of_textons,
    tile_features,
    tile_moduli,
    tile_textons,
)
from kmdist.filters.statistics import FeatureSums, Projection
from kmdist.filters.tiles import Box
from kmdist.images import ImageSource, Piece, Window, to_rgb
from kmdist.images.color import to_space
from kmdist.job.work import read_piece
from kmdist.recipes.texture.model import Textons, Texture, TextureModel

Masked = tuple[np.ndarray, np.ndarray | None]
"""RGB (y, x, 3), and where it is transparent (y, x); None: nowhere."""


@dataclass(frozen=True)
class Field:
    """What is measured on one piece, with its pixels.

    Parameters
    ----------
    piece : the image or tile.
    values : (rows, columns, d): features of the cells of ``grid.labelled``, float32; or 8-bit
        responses of the pixels of the piece; or, to find textons, moduli of the piece's own cells.
    rgb : (h, w, 3) uint8 of the piece.
    unclustered : (h, w) True where a pixel is transparent; None: nowhere.
    """

    piece: Piece
    values: np.ndarray
    rgb: np.ndarray
    unclustered: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        masked = 0 if self.unclustered is None else self.unclustered.nbytes
        return self.values.nbytes + self.rgb.nbytes + masked


def box_of(window: Window) -> tuple[int, int, int, int]:
    """A window as filters take it."""
    return window.y0, window.x0, window.y1, window.x1


def shape_of(piece: Piece) -> tuple[int, int]:
    """Rows and columns of the whole image."""
    return piece.source.height, piece.source.width


def grid_of(texture: Texture, piece: Piece) -> TileGrid:
    """The cells of a piece and of what its windows reach."""
    return texture.features.grid(box_of(piece.window), shape_of(piece))


def own_grid_of(texture: Texture, piece: Piece) -> TileGrid:
    """The cells of a piece alone."""
    return texture.features.own_grid(box_of(piece.window), shape_of(piece))


def read_box(piece: Piece, box: Box) -> Masked:
    """RGB of a part of a piece's image in its own precision, and where it is transparent.

    Raises
    ------
    ImageError : the file cannot be used.
    """
    return to_rgb(read_piece(Piece(piece.source, Window(*box))))


def own_part(piece: Piece, read: Box, rgb: np.ndarray, transparent: np.ndarray | None) -> Masked:
    """8 bits of a piece's own part of what was read around it; no mask where it masks nothing."""
    own = within(box_of(piece.window), read)
    mask = None if transparent is None else transparent[own]
    colors = rgb[own] if rgb.dtype == np.uint8 else np.rint(rgb[own]).astype(np.uint8)
    return colors, mask if mask is not None and mask.any() else None


def read_moduli(texture: Texture, piece: Piece, pixels: Masked | None = None) -> Field:
    """Read and filter a piece: the magnitudes of its own cells.

    Parameters
    ----------
    pixels : of the whole image, where they are known.

    Raises
    ------
    ImageError : the file cannot be used.
    """
    grid = own_grid_of(texture, piece)
    rgb, transparent = pixels or read_box(piece, grid.read)
    values = tile_moduli(rgb, grid, texture.features)
    return Field(piece, values, *own_part(piece, grid.read, rgb, transparent))


def measure_textons(texture: Texture, moduli: Field, textons: Textons) -> Field:
    """Features of a whole image from its moduli."""
    found, grid = tile_textons(moduli.values, textons.scorer), grid_of(texture, moduli.piece)
    return replace(moduli, values=features_of_textons(found, grid, texture.features))


def measure(
    texture: Texture, piece: Piece, textons: Textons | None = None, pixels: Masked | None = None
) -> Field:
    """Read a piece and measure its features.

    Parameters
    ----------
    textons : of features that have some; the piece is a whole image.
    pixels : of the whole image, where they are known.

    Raises
    ------
    ImageError : the file cannot be used.
    """
    if textons is not None:
        return measure_textons(texture, read_moduli(texture, piece, pixels), textons)
    box, shape = box_of(piece.window), shape_of(piece)
    if texture.is_tutorial:
        read = tutorial.reading_window(box, shape)
    else:
        grid = grid_of(texture, piece)
        read = grid.read
    rgb, transparent = pixels or read_box(piece, read)
    if texture.is_tutorial:
        values: np.ndarray = tutorial.tile_rows(rgb, box, shape)
    else:
        lab = None
        if texture.features.color_weight:
            lab = to_space(rgb.reshape(-1, 3), "lab").reshape(rgb.shape)
        values = tile_features(rgb, grid, texture.features, lab)
    return Field(piece, values, *own_part(piece, read, rgb, transparent))


@dataclass(frozen=True)
class Sampling:
    """Which rows a fit takes.

    Parameters
    ----------
    fraction : share of all rows.
    seed : of the Philox stream.
    first : number of the image's first row in the collection.
    """

    fraction: float
    seed: int
    first: int = 0


@dataclass(frozen=True)
class Sample:
    """Some of the rows, with their numbers in the collection.

    Parameters
    ----------
    rows : (n, d).
    numbers : (n,) int64; tiles come in another order than rows.
    """

    rows: np.ndarray
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def in_order(self) -> np.ndarray:
        """The rows by number: the same for every tiling."""
        if np.all(self.numbers[:-1] <= self.numbers[1:]):
            return self.rows
        return np.asarray(self.rows[np.argsort(self.numbers, kind="stable")])

    @staticmethod
    def joined(parts: Sequence["Sample"], depth: int, dtype: Any) -> "Sample":
        """Samples one after the other; (0, depth) where there are none."""
        given = [part for part in parts if len(part)]
        if not given:
            return Sample(np.empty((0, depth), dtype), np.empty(0, np.int64))
        return Sample(
            np.concatenate([part.rows for part in given]),
            np.concatenate([part.numbers for part in given]),
        )


def sampled_moduli(
    texture: Texture, moduli: Field, sampling: Sampling
) -> tuple[FeatureSums, Sample]:
    """Sums over the moduli of a piece's own cells, and a sample of them, to fit textons."""
    grid = own_grid_of(texture, moduli.piece)
    valid = clustered_cells(moduli.unclustered, grid)
    sample = _sampled(moduli.values, valid, grid.own, grid.shape, sampling)
    return FeatureSums.of(moduli.values[valid]), sample


def _sampled(
    values: np.ndarray, valid: np.ndarray, own: Box, shape: tuple[int, int], sampling: Sampling
) -> Sample:
    """The rows of a box, (rows, columns, d), that are valid and belong to the sample."""
    chosen = valid & sampled_cells(
        own, shape, sampling.fraction, sampling.seed, first=sampling.first
    )
    y, x = np.nonzero(chosen)
    return Sample(values[y, x], sampling.first + (y + own[0]) * shape[1] + (x + own[1]))


def valid_rows(texture: Texture, field: Field) -> tuple[np.ndarray, np.ndarray]:
    """A field's own values, (rows, columns, d), and where they count, (rows, columns)."""
    if texture.is_tutorial:
        values = field.values
        if field.unclustered is None:
            return values, np.ones(values.shape[:2], bool)
        return values, ~field.unclustered
    grid = grid_of(texture, field.piece)
    own = field.values[within(grid.own, grid.labelled)]
    return own, clustered_cells(field.unclustered, grid)


def field_rows(texture: Texture, field: Field, sampling: Sampling) -> tuple[FeatureSums, Sample]:
    """Sums over a field's own rows, and a sample of them, to fit clusters."""
    values, valid = valid_rows(texture, field)
    if texture.is_tutorial:
        own, shape = box_of(field.piece.window), shape_of(field.piece)
        sums = FeatureSums(int(valid.sum()), np.zeros(0), np.zeros(0))
    else:
        grid = grid_of(texture, field.piece)
        own, shape, sums = grid.own, grid.shape, FeatureSums.of(values[valid])
    return sums, _sampled(values, valid, own, shape, sampling)


def rows_in(texture: Texture, piece: Piece) -> int:
    """Rows that a whole image has: cells, or pixels."""
    height, width = shape_of(piece)
    return -(-height // texture.cell_px) * -(-width // texture.cell_px)


def label_field(texture: Texture, field: Field, scorer: Scorer) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the pixels of a piece, and of its own rows, both without regard to the mask."""
    if texture.is_tutorial:
        labels = tutorial.label_rows(field.values, scorer)
        return labels, labels
    grid = grid_of(texture, field.piece)
    scores = scorer.scores(field.values)
    labels = label_pixels(scores, grid.labelled, grid.window)
    return labels, nearest(scores[within(grid.own, grid.labelled)])


@dataclass(frozen=True)
class PixelLabels:
    """Textures to label photographs with: a `kmdist.job.recipe.Model`.

    Parameters
    ----------
    palette : (k, 3) uint8 mean colours of the clusters.
    """

    model: TextureModel
    palette: np.ndarray

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.model.centroids)

    def label(self, pixels: np.ndarray) -> np.ndarray:
        """Labels (y, x) of an image (y, x, 3), sRGB, uint8 or float32, 0 … 255."""
        texture = self.model.texture
        height, width = pixels.shape[:2]
        source = ImageSource("", "", width, height, channels=3, dtype="uint8", format="")
        piece = Piece(source, Window(0, 0, height, width))
        field = measure(texture, piece, self.model.textons, (pixels, None))
        labels, _ = label_field(texture, field, self.model.scorer)
        return labels


def row_inertia(
    texture: Texture,
    field: Field,
    row_labels: np.ndarray,
    projection: Projection,
    centroids: np.ndarray,
) -> float:
    """Σ‖row − centroid‖² over a field's own rows, those of masked cells left out."""
    values, valid = valid_rows(texture, field)
    total = 0.0
    for y in range(0, len(values), 64):  # a band at a time: the projected rows stay small
        here = valid[y : y + 64]
        rows = projection.apply(values[y : y + 64][here].astype(np.float32, copy=False))
        total += squared_distances(rows, row_labels[y : y + 64][here], centroids)
    return total


def color_sums(field: Field, labels: np.ndarray, k: int) -> np.ndarray:
    """(k, 4) int64: red, green, blue and number of the clustered pixels of each label."""
    sums = np.zeros((k, 4), np.int64)
    if field.unclustered is None:
        sum_colors(labels, field.rgb, sums)
    else:
        wide = labels.astype(np.uint32)
        wide[field.unclustered] = k
        sum_colors(wide, field.rgb, sums)
    return sums


def mean_colors(sums: np.ndarray) -> np.ndarray:
    """(k, 3) uint8 mean colour of each label, black where it has no pixel."""
    counts = np.maximum(sums[:, 3:], 1)
    return np.asarray((2 * sums[:, :3] + counts) // (2 * counts), np.uint8)
