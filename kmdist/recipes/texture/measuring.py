"""What a worker does with one image or tile of a texture job: read, measure, sum, label.

A **field** is what is measured on a piece: features of cells, or for the walk-through's preset
8-bit responses of pixels. Everything here is a plain function of pixels and a model.
"""

from dataclasses import dataclass

import numpy as np

from kmdist.filters import tutorial
from kmdist.filters.cells import TileGrid, within
from kmdist.filters.features import (
    features_of_textons,
    tile_features,
    tile_moduli,
    tile_textons,
)
from kmdist.filters.tiles import Box
from kmdist.images import Window, to_rgb
from kmdist.images.color import to_space
from kmdist.job.work import Piece, read_piece
from kmdist.recipes.texture.model import Textons, Texture


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
    """RGB of a part of a piece's image in its own precision, and where it is transparent.

    Raises
    ------
    ImageError : the file cannot be used.
    """
    return to_rgb(read_piece(Piece(piece.source, Window(*box))))


def own_part(
    piece: Piece, read: Box, rgb: np.ndarray, transparent: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """8 bits of a piece's own part of what was read around it; no mask where it masks nothing."""
    own = within(box_of(piece.window), read)
    mask = None if transparent is None else transparent[own]
    colors = rgb[own] if rgb.dtype == np.uint8 else np.rint(rgb[own]).astype(np.uint8)
    return colors, mask if mask is not None and mask.any() else None


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
        read = tutorial.reading_window(box_of(piece.window), shape_of(piece))
    else:
        read = grid_of(texture, piece).read
    rgb, transparent = read_box(piece, read)
    values = measured(texture, piece, rgb)
    return Field(piece, values, *own_part(piece, read, rgb, transparent))


def measured(texture: Texture, piece: Piece, rgb: np.ndarray) -> np.ndarray:
    """Features of a piece, which have no textons, from its pixels and those around it."""
    if texture.is_tutorial:
        return tutorial.tile_rows(rgb, box_of(piece.window), shape_of(piece))
    lab = None
    if texture.features.color_weight:
        lab = to_space(rgb.reshape(-1, 3), "lab").reshape(rgb.shape)
    return tile_features(rgb, grid_of(texture, piece), texture.features, lab=lab)


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
