"""Labels, inertia and mean colours of a measured field."""

from dataclasses import dataclass

import numpy as np

from kmdist.filters import tutorial
from kmdist.filters.cell_labels import Scorer, label_pixels, nearest, squared_distances, sum_colors
from kmdist.filters.features import own_cells, tile_moduli
from kmdist.filters.statistics import Projection
from kmdist.images import ImageSource, Window
from kmdist.job.work import Piece
from kmdist.recipes.texture.measuring import (
    Field,
    Moduli,
    grid_of,
    measure_textons,
    measured,
    own_grid_of,
    texton_map_of,
)
from kmdist.recipes.texture.model import Texture, TextureModel
from kmdist.recipes.texture.sampling import valid_rows


def label_field(texture: Texture, field: Field, scorer: Scorer) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the pixels of a piece, and of its own rows, both without regard to the mask."""
    if texture.is_tutorial:
        labels = tutorial.label_rows(field.values, scorer)
        return labels, labels
    grid = grid_of(texture, field.piece)
    scores = scorer.scores(field.values)
    labels = label_pixels(scores, grid.labelled, grid.window)
    return labels, nearest(own_cells(scores, grid.labelled, grid))


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
        texture, textons = self.model.texture, self.model.textons
        height, width = pixels.shape[:2]
        source = ImageSource("", "", width, height, channels=3, dtype="uint8", format="")
        piece = Piece(source, Window(0, 0, height, width))
        if textons is None:
            field = Field(piece, measured(texture, piece, pixels), pixels, None)
        else:
            values = tile_moduli(pixels, own_grid_of(texture, piece), texture.features)
            cells = texton_map_of(Moduli(piece, values, pixels, None), textons)
            field = measure_textons(texture, piece, cells, pixels, None)
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
