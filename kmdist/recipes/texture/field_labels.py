"""Labels, inertia and mean colours of a measured field."""

import numpy as np

from kmdist.filters import tutorial
from kmdist.filters.cell_labels import Scorer, label_pixels, nearest, squared_distances, sum_colors
from kmdist.filters.features import own_cells
from kmdist.filters.statistics import Projection
from kmdist.recipes.texture.measuring import Field, grid_of
from kmdist.recipes.texture.model import Texture
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
