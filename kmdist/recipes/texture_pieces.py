"""What a worker does with one image or tile of a texture job: read, measure, sum, label.

A **field** is what is measured on a piece: features of cells, or for the walk-through's preset
8-bit responses of pixels. Everything here is a plain function of pixels and a model.
"""

from dataclasses import dataclass

import numpy as np

from kmdist.color import to_space
from kmdist.filters import tutorial
from kmdist.filters.features import (
    clustered_cells,
    features_of_textons,
    own_cells,
    tile_features,
    tile_moduli,
    tile_textons,
)
from kmdist.filters.grid import TileGrid, grid_shape, sampled_cells, within
from kmdist.filters.nearest import (
    Scorer,
    label_pixels,
    nearest,
    squared_distances,
    sum_colors,
)
from kmdist.filters.statistics import FeatureSums, Projection
from kmdist.images import Window, to_rgb8
from kmdist.recipes.job import Piece, read_piece
from kmdist.texture_model import Textons, Texture


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
    """The cells of a piece."""
    return texture.features.grid(box_of(piece.window), shape_of(piece))


def read_for(texture: Texture, piece: Piece) -> tuple[np.ndarray, np.ndarray | None]:
    """8-bit RGB of a piece and of what its filters reach around it, and where it is transparent.

    Raises
    ------
    ImageError : the file cannot be used.
    """
    if texture.is_tutorial:
        read = tutorial.reading_window(box_of(piece.window), shape_of(piece))
    else:
        read = grid_of(texture, piece).read
    return to_rgb8(read_piece(Piece(piece.source, Window(*read))))


def own_pixels(texture: Texture, piece: Piece, pixels: np.ndarray) -> np.ndarray:
    """The piece's own part of what `read_for` returned."""
    box = box_of(piece.window)
    if texture.is_tutorial:
        read = tutorial.reading_window(box, shape_of(piece))
    else:
        read = grid_of(texture, piece).read
    return pixels[within(box, read)]


def moduli_of(texture: Texture, piece: Piece, rgb: np.ndarray) -> np.ndarray:
    """Moduli of the cells that a piece's windows reach, from what `read_for` returned."""
    return tile_moduli(rgb, grid_of(texture, piece), texture.features)


def sampled_moduli(
    texture: Texture,
    piece: Piece,
    moduli: np.ndarray,
    transparent: np.ndarray | None,
    sampling: Sampling,
) -> tuple[FeatureSums, np.ndarray]:
    """Sums over the moduli of a piece's own cells, and a sample of them, to fit textons.

    Parameters
    ----------
    transparent : of the pixels that were read, or None.
    """
    grid = grid_of(texture, piece)
    values = own_cells(moduli, grid.source, grid)
    mask = None if transparent is None else own_pixels(texture, piece, transparent)
    valid = clustered_cells(mask, grid)
    return FeatureSums.of(values[valid]), values[valid & _sample(grid, sampling)]


def _sample(grid: TileGrid, sampling: Sampling) -> np.ndarray:
    return sampled_cells(
        grid.own, grid.shape, sampling.fraction, sampling.seed, first=sampling.first
    )


def measure(
    texture: Texture,
    piece: Piece,
    rgb: np.ndarray,
    transparent: np.ndarray | None,
    texton_map: np.ndarray | None = None,
) -> Field:
    """Measure the features of a piece.

    Parameters
    ----------
    rgb, transparent : as `read_for` returns them.
    texton_map : where the features have textons: those of the cells of ``grid.source``.
    """
    mask = None if transparent is None else own_pixels(texture, piece, transparent)
    if mask is not None and not mask.any():
        mask = None
    own = own_pixels(texture, piece, rgb)
    if texture.is_tutorial:
        responses = tutorial.tile_rows(rgb, box_of(piece.window), shape_of(piece))
        return Field(piece, responses, own, mask)
    grid, features = grid_of(texture, piece), texture.features
    if texton_map is not None:
        return Field(piece, features_of_textons(texton_map, grid, features), own, mask)
    lab = None
    if features.color_weight:
        lab = to_space(rgb.reshape(-1, 3), "lab").reshape(rgb.shape)
    return Field(piece, tile_features(rgb, grid, features, lab=lab), own, mask)


def texton_map_of(moduli: np.ndarray, textons: Textons) -> np.ndarray:
    """The texton of each cell: (rows, columns) uint8."""
    return tile_textons(moduli, textons.scorer)


def valid_rows(texture: Texture, field: Field) -> tuple[np.ndarray, np.ndarray]:
    """A field's own values, (rows, columns, d), and where they count, (rows, columns)."""
    if texture.is_tutorial:
        values = field.values
        if field.unclustered is None:
            return values, np.ones(values.shape[:2], bool)
        return values, ~field.unclustered
    grid = grid_of(texture, field.piece)
    return own_cells(field.values, grid.labelled, grid), clustered_cells(field.unclustered, grid)


def field_rows(
    texture: Texture, field: Field, sampling: Sampling
) -> tuple[FeatureSums, np.ndarray]:
    """Sums over a field's own rows, and a sample of them, to fit clusters."""
    values, valid = valid_rows(texture, field)
    if texture.is_tutorial:
        shape = shape_of(field.piece)
        box = box_of(field.piece.window)
        chosen = sampled_cells(box, shape, sampling.fraction, sampling.seed, first=sampling.first)
        empty = np.zeros(0)
        return FeatureSums(int(valid.sum()), empty, empty), values[valid & chosen]
    chosen = valid & _sample(grid_of(texture, field.piece), sampling)
    return FeatureSums.of(values[valid]), values[chosen]


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
