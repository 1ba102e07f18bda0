"""What a recipe shows of a run besides its label maps, as data: whoever shows it draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Table:
    """Rows of text; numbers are aligned right by who draws them."""

    kind: ClassVar[str] = "table"
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Curves:
    """Lines over one axis.

    Parameters
    ----------
    lines : values at each of `x`, by the line's name.
    mark : a place on the axis worth a look, such as an elbow.
    from_zero : whether values are shares or counts, whose axis begins at 0.
    """

    kind: ClassVar[str] = "curves"
    title: str
    x_label: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    mark: float | None = None
    note: str = ""
    from_zero: bool = False


@dataclass(frozen=True)
class HeatMap:
    """A table of numbers, each on a ground as dark as `shades` says.

    Parameters
    ----------
    texts : of the cells, row by row. shades : (rows, columns) 0 … 1.
    """

    kind: ClassVar[str] = "heatmap"
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    texts: Sequence[Sequence[str]]
    shades: np.ndarray
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Small pictures.

    Parameters
    ----------
    pictures : (caption, (y, x) or (y, x, 3) uint8).
    """

    kind: ClassVar[str] = "gallery"
    title: str
    pictures: Sequence[tuple[str, np.ndarray]] = field(default_factory=tuple)
    note: str = ""


Exhibit = Table | Curves | HeatMap | Gallery


def signatures(title: str, centroids: np.ndarray, columns: Sequence[str], note: str) -> HeatMap:
    """Centroids (k, d) beside each other, the shades of each feature from its least to its most."""
    low, high = centroids.min(axis=0), centroids.max(axis=0)
    shades = (centroids - low) / np.where(high > low, high - low, 1.0)
    texts = [[f"{value:.3g}" for value in row] for row in centroids]
    return HeatMap(title, [str(i) for i in range(len(centroids))], columns, texts, shades, note)


def signed_levels(values: np.ndarray) -> np.ndarray:
    """(y, x) of either sign as uint8: grey is 0, the largest magnitude black or white."""
    return np.rint(127.5 + 127.5 * values / (np.abs(values).max() or 1.0)).astype(np.uint8)


def grey_levels(image: np.ndarray) -> np.ndarray:
    """(y, x) of any range as uint8, from its least value to its greatest."""
    low, high = float(np.min(image)), float(np.max(image))
    scaled = (np.asarray(image, np.float64) - low) / ((high - low) or 1.0)
    return np.rint(255 * scaled).astype(np.uint8)
