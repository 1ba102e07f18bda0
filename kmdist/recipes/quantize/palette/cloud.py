"""The distinct colours of a collection in the space they are clustered in."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from kmdist.errors import UsageError
from kmdist.images.color import SPACES, to_space
from kmdist.recipes.quantize.kernels.color_tree import ColorTree, build_tree
from kmdist.recipes.quantize.kernels.histogram import Colors

T = TypeVar("T")


def fit_memory_bytes(n_colors: int) -> int:
    """Most memory that a `ColorCloud` of `n_colors` and a fit of it take, histogram included.

    Between the passes a cloud holds 42 bytes a colour; the peak is the summary for seeding.
    """
    return 110 * n_colors + (32 << 20)


@dataclass(frozen=True)
class ColorCloud:
    """A histogram's colours as weighted points, ready for any number of fits.

    Attributes
    ----------
    colors : the histogram, with at least one colour.
    space : one of `kmdist.images.color.SPACES`.
    threads : for passes over more than 65,536 colours. Results do not depend on it.

    Raises
    ------
    UsageError : no colours, or an unknown space.
    """

    colors: Colors
    space: str = "rgb"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise UsageError(f"unknown colour space {self.space!r}; allowed: {', '.join(SPACES)}")
        if len(self.colors) == 0:
            raise UsageError("there is no colour to fit a palette to: no pixel was counted")

    @cached_property
    def points(self) -> npt.NDArray[np.float32]:
        """Coordinates of the colours, (n, 3) float32."""
        return to_space(self.colors.rgb, self.space)

    @cached_property
    def tree(self) -> ColorTree:
        """The points in their cells; int64 weights where coordinates are integers."""
        counts = self.colors.counts
        weights = counts if self.space == "rgb" else counts.astype(np.float64)
        return build_tree(self.colors.codes, self.points, weights)

    @property
    def variance(self) -> float:
        """Mean of the variances of the three coordinates, over all pixels."""
        total = self.tree.leaf_sums.sum(axis=0).astype(np.float64)
        square_of_mean = float(((total[:3] / total[3]) ** 2).sum())
        return max(0.0, (self.tree.squares / float(total[3]) - square_of_mean) / 3)

    def map_chunks(self, function: Callable[[int], T]) -> list[T]:
        """Results of `function` for every chunk of the tree, in their order."""
        chunks = range(self.tree.n_chunks)
        if min(self.threads, len(chunks)) == 1:
            return [function(chunk) for chunk in chunks]
        with ThreadPoolExecutor(self.threads) as executor:
            return list(executor.map(function, chunks))
