"""Clusters of pixels of any channels, to label new pixels with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kmdist.errors import UsageError
from kmdist.estimators.model import predict_rows
from kmdist.store import Run


@dataclass(frozen=True)
class Scaling:
    """What is taken off each channel, and what it is divided by, before distances are measured.

    Parameters
    ----------
    offset, factor : (c,) float64, or None: values are taken as they are.
    dtype : of the rows.
    """

    offset: np.ndarray | None
    factor: np.ndarray | None
    dtype: np.dtype

    def rows(self, values: np.ndarray) -> np.ndarray:
        """(n, c) rows of values in the units of the input."""
        if self.offset is None or self.factor is None:
            return np.ascontiguousarray(values, self.dtype)
        return ((values - self.offset) / self.factor).astype(self.dtype)

    def restored(self, rows: np.ndarray) -> np.ndarray:
        """(n, c) float64 values in the units of the input."""
        values = rows.astype(np.float64)
        if self.offset is None or self.factor is None:
            return values
        return values * self.factor + self.offset


@dataclass(frozen=True)
class SegmentModel:
    """Centroids and how channels are scaled.

    Parameters
    ----------
    centroids : (k, c) float64 in the units of the input.
    palette : (k, 3) uint8, to draw clusters with.
    names : of the channels.
    """

    centroids: np.ndarray
    palette: np.ndarray
    scaling: Scaling
    names: tuple[str, ...]

    @staticmethod
    def of_run(run: Run) -> "SegmentModel":
        """Of a run of one k.

        Raises
        ------
        UsageError : the run has no set of clusters for new images.
        """
        centroids, palette, record = run.centroids, run.palette, run.attributes.get("scaling")
        if centroids is None or palette is None or not isinstance(record, Mapping):
            raise UsageError(f"{run.path} has no clusters that new images could be labelled with")
        offset, factor = record.get("offset"), record.get("factor")
        scaling = Scaling(
            None if offset is None else np.array(offset, np.float64),
            None if factor is None else np.array(factor, np.float64),
            np.dtype(str(record["dtype"])),
        )
        names = tuple(str(name) for name in run.attributes.get("channels", ()))
        return SegmentModel(np.asarray(centroids, np.float64), palette, scaling, names)

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centroids)

    @cached_property
    def scaled(self) -> np.ndarray:
        """(k, c) centroids as rows are."""
        if self.scaling.offset is None or self.scaling.factor is None:
            return self.centroids
        return (self.centroids - self.scaling.offset) / self.scaling.factor

    def label_rows(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int32, the nearest centroid of scaled rows."""
        return predict_rows(rows, self.scaled)

    def label(self, pixels: np.ndarray, /) -> np.ndarray:
        """(y, x) labels of (y, x, c) values in the units of the input."""
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if pixels.ndim != 3 or pixels.shape[2] != self.centroids.shape[1]:
            raise UsageError(
                f"an image is an array (y, x, {self.centroids.shape[1]}); received shape "
                f"{pixels.shape}"
            )
        rows = self.scaling.rows(pixels.reshape(-1, pixels.shape[2]))
        return self.label_rows(rows).reshape(pixels.shape[:2])

    def record(self) -> dict[str, Any]:
        """What the run's record says, by which `of_run` makes it again."""
        offset, factor = self.scaling.offset, self.scaling.factor
        return {
            "channels": list(self.names),
            "scaling": {
                "offset": None if offset is None else offset.tolist(),
                "factor": None if factor is None else factor.tolist(),
                "dtype": str(self.scaling.dtype),
            },
        }


def cluster_colors(k: int) -> np.ndarray:
    """(k, 3) uint8 colours that tell clusters apart: hues a golden ratio apart, three shades."""
    from colorsys import hsv_to_rgb

    shades: Sequence[tuple[float, float]] = ((0.65, 0.95), (0.85, 0.7), (0.45, 0.8))
    golden = 0.618033988749895
    colors = [hsv_to_rgb((0.08 + i * golden) % 1.0, *shades[i % 3]) for i in range(k)]
    return np.round(255 * np.array(colors)).astype(np.uint8)
