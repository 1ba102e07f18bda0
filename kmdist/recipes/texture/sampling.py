"""Which rows of a field are fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.filters.cells import grid_shape, sampled_cells
from kmdist.filters.features import clustered_cells, own_cells
from kmdist.filters.statistics import FeatureSums
from kmdist.filters.tiles import Box
from kmdist.job.work import Piece
from kmdist.recipes.texture.measuring import Field, Moduli, box_of, grid_of, own_grid_of, shape_of
from kmdist.recipes.texture.model import Texture


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


def rows_in(texture: Texture, piece: Piece) -> int:
    """Rows that a whole image has: cells, or pixels."""
    height, width = shape_of(piece)
    if texture.is_tutorial:
        return height * width
    rows, columns = grid_shape((height, width))
    return rows * columns
