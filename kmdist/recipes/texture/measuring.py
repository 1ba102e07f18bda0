"""What a worker does with one image or tile of a texture job: read, measure, sum, label.

A **field** is what is measured on a piece: features of cells, or for the walk-through's preset
8-bit responses of pixels. Everything here is a plain function of pixels and a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.filters import tutorial
from kmdist.filters.cell_labels import (
    Scorer,
    label_pixels,
    nearest,
    squared_distances,
    sum_colors,
)
from kmdist.filters.features import (
    clustered_cells,
    features_of_textons,
    own_cells,
    tile_features,
    tile_moduli,
    tile_textons,
)
from kmdist.filters.grid import TileGrid, grid_shape, sampled_cells, within
from kmdist.filters.statistics import FeatureSums, Projection
from kmdist.filters.tiles import Box
from kmdist.images import Window, to_rgb8
from kmdist.images.color import to_space
from kmdist.job.job import Piece, read_piece
from kmdist.recipes.texture.model import Textons, Texture


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


@dataclass(frozen=True)
class Field:
    """Measured features of one piece, with its pixels.

    Parameters
    ----------
    piece : the image or tile.
    values : (rows, columns, d): features of the cells of ``grid.labelled``, float32; or 8-bit
        responses of the pixels of the piece.
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


def read_box(piece: Piece, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
    """8-bit RGB of a part of a piece's image, and where it is transparent.

    Raises
    ------
    ImageError : the file cannot be used.
    """
    return to_rgb8(read_piece(Piece(piece.source, Window(*box))))


def own_part(
    piece: Piece, read: Box, rgb: np.ndarray, transparent: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The piece's own part of pixels that were read around it; no mask where it masks nothing."""
    own = within(box_of(piece.window), read)
    mask = None if transparent is None else transparent[own]
    return rgb[own], mask if mask is not None and mask.any() else None


@dataclass(frozen=True)
class Moduli:
    """Magnitudes of a piece's own cells, with its pixels.

    Parameters
    ----------
    values : (rows, columns, d) float32.
    rgb, unclustered : as of a `Field`.
    """

    piece: Piece
    values: np.ndarray
    rgb: np.ndarray
    unclustered: np.ndarray | None


def read_moduli(texture: Texture, piece: Piece) -> Moduli:
    """Read and filter a piece.

    Raises
    ------
    ImageError : the file cannot be used.
    """
    grid = own_grid_of(texture, piece)
    rgb, transparent = read_box(piece, grid.read)
    values = tile_moduli(rgb, grid, texture.features)
    return Moduli(piece, values, *own_part(piece, grid.read, rgb, transparent))


def sampled_moduli(
    texture: Texture, moduli: Moduli, sampling: Sampling
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


def texton_map_of(moduli: Moduli, textons: Textons) -> np.ndarray:
    """The texton of each of a piece's own cells: (rows, columns) uint8."""
    return tile_textons(moduli.values, textons.scorer)


def measure(texture: Texture, piece: Piece) -> Field:
    """Read a piece and measure its features, which have no textons.

    Raises
    ------
    ImageError : the file cannot be used.
    """
    if texture.is_tutorial:
        box, shape = box_of(piece.window), shape_of(piece)
        read = tutorial.reading_window(box, shape)
        rgb, transparent = read_box(piece, read)
        responses = tutorial.tile_rows(rgb, box, shape)
        return Field(piece, responses, *own_part(piece, read, rgb, transparent))
    grid = grid_of(texture, piece)
    rgb, transparent = read_box(piece, grid.read)
    lab = None
    if texture.features.color_weight:
        lab = to_space(rgb.reshape(-1, 3), "lab").reshape(rgb.shape)
    values = tile_features(rgb, grid, texture.features, lab=lab)
    return Field(piece, values, *own_part(piece, grid.read, rgb, transparent))


def measure_textons(
    texture: Texture,
    piece: Piece,
    texton_map: np.ndarray,
    rgb: np.ndarray,
    unclustered: np.ndarray | None,
) -> Field:
    """Features of a piece from the textons of the cells that its windows reach.

    Parameters
    ----------
    texton_map : (rows, columns) uint8 for the cells of ``grid_of(texture, piece).source``.
    rgb, unclustered : of the piece.
    """
    values = features_of_textons(texton_map, grid_of(texture, piece), texture.features)
    return Field(piece, values, rgb, unclustered)


def valid_rows(texture: Texture, field: Field) -> tuple[np.ndarray, np.ndarray]:
    """A field's own values, (rows, columns, d), and where they count, (rows, columns)."""
    if texture.is_tutorial:
        values = field.values
        if field.unclustered is None:
            return values, np.ones(values.shape[:2], bool)
        return values, ~field.unclustered
    grid = grid_of(texture, field.piece)
    return own_cells(field.values, grid.labelled, grid), clustered_cells(field.unclustered, grid)


def field_rows(texture: Texture, field: Field, sampling: Sampling) -> tuple[FeatureSums, Sample]:
    """Sums over a field's own rows, and a sample of them, to fit clusters."""
    values, valid = valid_rows(texture, field)
    if texture.is_tutorial:
        box, shape = box_of(field.piece.window), shape_of(field.piece)
        empty = np.zeros(0)
        sums = FeatureSums(int(valid.sum()), empty, empty)
        return sums, _sampled(values, valid, box, shape, sampling)
    grid = grid_of(texture, field.piece)
    sample = _sampled(values, valid, grid.own, grid.shape, sampling)
    return FeatureSums.of(values[valid]), sample


def label_field(texture: Texture, field: Field, scorer: Scorer) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the pixels of a piece, and of its own rows, both without regard to the mask."""
    if texture.is_tutorial:
        labels = tutorial.label_rows(field.values, scorer)
        return labels, labels
    grid = grid_of(texture, field.piece)
    scores = scorer.scores(field.values)
    labels = label_pixels(scores, grid.labelled, grid.window)
    return labels, nearest(own_cells(scores, grid.labelled, grid))


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


def rows_in(texture: Texture, piece: Piece) -> int:
    """Rows that a whole image has: cells, or pixels."""
    height, width = shape_of(piece)
    if texture.is_tutorial:
        return height * width
    rows, columns = grid_shape((height, width))
    return rows * columns
