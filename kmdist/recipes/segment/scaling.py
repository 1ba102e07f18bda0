"""What channels are scaled by, from the pixels of a whole collection."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.engine.coreset import draw_uniform, steady
from kmdist.engine.rows import Rows
from kmdist.errors import UsageError
from kmdist.recipes.segment.model import Scaling
from kmdist.recipes.segment.options import SegmentOptions

SAMPLE_ROWS = 200_000
"""Rows whose quartiles stand for those of all."""
BITS = 24
"""That are kept of statistics, the last of which depend on how pixels are shared out."""


@dataclass(frozen=True)
class Features:
    """What is made of channels.

    Parameters
    ----------
    scale : ``none``, ``standard``, ``minmax`` or ``robust``.
    weights : of scaled channels, by name or number.
    components : principal components that are kept; 0: channels stay as they are.
    coordinates : how far the longer side of an image is, in roots of the total variance; 0: the
        last two channels are no coordinates.
    """

    scale: str
    weights: Mapping[str, float]
    components: int
    coordinates: float

    @staticmethod
    def of(options: SegmentOptions) -> "Features":
        """What the options ask for."""
        o = options
        return Features(o.scale, o.weights, o.components or 0, o.coordinates)

    def check(self, names: tuple[str, ...]) -> None:
        """Raise what these channels cannot be scaled by.

        Raises
        ------
        UsageError : a weight of no channel, or more components than channels.
        """
        _weights(self.weights, names)
        if self.components > len(names):
            raise UsageError(
                f"components is {self.components}; {len(names)} channels have at most as many"
            )

    @property
    def plain(self) -> bool:
        """Whether values are taken as they are."""
        return self.scale == "none" and not (self.weights or self.components or self.coordinates)


@dataclass(frozen=True)
class Channels:
    """The channels of a collection.

    Parameters
    ----------
    names : of all, coordinates among them.
    plain, scaled : types of rows that are not scaled, and that are.
    side : of the largest image, px.
    """

    names: tuple[str, ...]
    plain: np.dtype
    scaled: np.dtype
    side: int


def find_scaling(
    rows_of: Callable[[Scaling], Rows], features: Features, channels: Channels, seed: int
) -> Scaling:
    """Statistics of all pixels with data; see `kmdist.recipes.segment.steps` for the passes.

    Parameters
    ----------
    rows_of : the rows of all of them under a scaling.
    features : that were checked for these channels.
    """
    whole = Scaling(None, None, channels.plain)
    if features.plain:
        return whole
    rows = rows_of(whole)
    m, n = rows.moments, len(channels.names) - (2 if features.coordinates else 0)
    offset, factor = np.zeros(len(channels.names)), np.ones(len(channels.names))
    if features.scale == "minmax":
        offset, factor = m.low.astype(np.float64), m.high.astype(np.float64) - m.low
    elif features.scale == "standard":
        offset, factor = m.mean.copy(), np.sqrt(m.variance)
    elif features.scale == "robust":
        sample = draw_uniform(rows, min(SAMPLE_ROWS, rows.n_rows), seed)
        low, offset, high = np.percentile(sample.rows.astype(np.float64), [25, 50, 75], axis=0)
        factor = high - low
    factor = np.where(factor > 0, factor, 1.0) / _weights(features.weights, channels.names)
    if features.coordinates:
        spread = np.sqrt((m.variance[:n] / factor[:n] ** 2).sum()) or 1.0
        factor[n:], offset[n:] = channels.side / (features.coordinates * spread), 0.0
    deviation = np.sqrt(m.variance)
    offset = steady(offset, BITS, beside=deviation)
    scaling = Scaling(offset, steady(factor, BITS), channels.scaled)
    mean = steady(m.mean, BITS, beside=deviation)
    return _projected(rows_of, scaling, mean, features.components)


def _weights(given: Mapping[str, float], names: tuple[str, ...]) -> np.ndarray:
    weights = np.ones(len(names))
    for name, weight in given.items():
        number = int(name) - 1 if name.isdecimal() and name not in names else -1
        if name not in names and not 0 <= number < len(names):
            raise UsageError(f"weight {name}={weight:g}: channels are {', '.join(names[:20])}")
        weights[number if name not in names else names.index(name)] = weight
    return weights


def _projected(
    rows_of: Callable[[Scaling], Rows], scaling: Scaling, mean: np.ndarray, components: int
) -> Scaling:
    """With the principal components of the scaled channels, of most variance first."""
    if not components:
        return scaling
    centred = Scaling(mean, scaling.factor, np.dtype(np.float64))
    products = rows_of(centred).run(_products, merge=sum)
    lengths = np.sqrt(products.diagonal())
    _, vectors = np.linalg.eigh(steady(products, BITS, beside=np.outer(lengths, lengths)))
    vectors = vectors[:, ::-1][:, :components]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(components)])
    return Scaling(centred.offset, centred.factor, scaling.dtype, np.ascontiguousarray(vectors))


def _products(source: Any) -> np.ndarray:
    """Leaf of the pass that sums products of channels."""
    rows = source.open().rows
    return np.asarray(rows.T @ rows)
