"""A palette to label new photographs with."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.errors import UsageError
from kmdist.recipes.quantize.kernels.histogram import ColorCounter, Colors
from kmdist.recipes.quantize.kernels.label_table import ColorLabels
from kmdist.recipes.quantize.palette import ColorCloud, label_colors
from kmdist.recipes.quantize.transparency import OVER_WHITE, Transparency


@dataclass(frozen=True)
class Model:
    """A palette to label with: a `kmdist.job.recipe.Model` of photographs.

    Parameters
    ----------
    centroids : (k, 3) float32 in `space`; (k, 6) of colours with alpha.
    palette : (k, 3) uint8 sRGB; (k, 4) with alpha.
    """

    centroids: np.ndarray
    palette: np.ndarray
    space: str
    transparency: Transparency = OVER_WHITE

    @classmethod
    def of_run(cls, run: Any) -> "Model":
        """The palette that a run's images share.

        Raises
        ------
        UsageError : each image has its own.
        """
        if run.centroids is None or run.palette is None:
            raise UsageError(
                f"{run.path} has a palette for each image and none for new ones (each image has "
                "its own); make the model without --per-image"
            )
        transparency = Transparency.of_record(run.attributes)
        widths = (6, 4) if transparency.alpha else (3, 3)
        arrays = run.arrays(
            {"centroids": ("cluster", widths[0]), "palette": ("cluster", widths[1])}
        )
        space = str(run.attributes.get("space") or "rgb")
        return cls(**arrays, space=space, transparency=transparency)

    @property
    def k(self) -> int:
        """Number of colours."""
        return len(self.centroids)

    def label_colors(self, colors: Colors) -> tuple[np.ndarray, np.ndarray, float]:
        """Labels of distinct colours, members of each cluster, and inertia."""
        if not len(colors):
            return np.empty(0, np.uint8), np.zeros(self.k, np.int64), 0.0
        cloud = ColorCloud.of(colors, self.space, alpha=self.transparency.alpha)
        return label_colors(cloud, self.centroids)

    def label(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Labels (y, x) of an image (y, x, 3), sRGB, or (y, x, 4): the nearest centroids."""
        with ColorCounter() as counter:
            counter.add(pixels)
            colors = counter.colors()
        labels, _, _ = self.label_colors(colors)
        with ColorLabels.borrowed(colors, labels) as label_of:
            return label_of(pixels)
