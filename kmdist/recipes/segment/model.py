"""Clusters of pixels of any channels, to label new pixels with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kmdist.arguments import described
from kmdist.engine.lloyd import predict_rows
from kmdist.errors import ImageError, UsageError
from kmdist.images import Window
from kmdist.images.reading.axes import axes_of, take_window
from kmdist.store import Run

CHUNK_ROWS = 1 << 14
"""Scaled at a time, so that float64 numbers never take the room of a whole block."""


@dataclass(frozen=True)
class Scaling:
    """What is made of the values of channels before distances are measured.

    Parameters
    ----------
    offset, factor : (c,) float64 that are taken off each channel, and divide it; or None: values
        are taken as they are.
    dtype : of the rows.
    components : (c, m) float64, orthonormal columns on which scaled channels are projected; None.
    """

    offset: np.ndarray | None
    factor: np.ndarray | None
    dtype: np.dtype
    components: np.ndarray | None = None

    @property
    def plain(self) -> bool:
        """Whether values are taken as they are."""
        return self.offset is None or self.factor is None

    def rows(self, values: np.ndarray) -> np.ndarray:
        """(n, c) or (n, m) rows of values in the units of the input."""
        if self.offset is None or self.factor is None:
            return np.ascontiguousarray(values, self.dtype)
        n_features = values.shape[1] if self.components is None else self.components.shape[1]
        rows = np.empty((len(values), n_features), self.dtype)
        for first in range(0, len(values), CHUNK_ROWS):
            here = slice(first, first + CHUNK_ROWS)
            rows[here] = self.scaled(values[here])
        return rows

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """As `rows`, in float64."""
        if self.offset is None or self.factor is None:
            return values.astype(np.float64)
        scaled = (values - self.offset) / self.factor
        if self.components is None:
            return scaled
        projected = np.zeros((len(scaled), self.components.shape[1]))
        for column, weights in zip(scaled.T, self.components, strict=True):
            projected += column[:, None] * weights  # bits of a row that depend on no other
        return projected

    def restored(self, rows: np.ndarray) -> np.ndarray:
        """(n, c) float64 values in the units of the input; of components the nearest such."""
        values = rows.astype(np.float64)
        if self.offset is None or self.factor is None:
            return values
        if self.components is not None:
            values = values @ self.components.T
        return values * self.factor + self.offset

    def record(self) -> dict[str, Any]:
        """As a run's attributes hold it."""
        arrays = {name: getattr(self, name) for name in ("offset", "factor", "components")}
        listed = {name: None if one is None else one.tolist() for name, one in arrays.items()}
        return {**listed, "dtype": str(self.dtype)}

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> "Scaling":
        """From a run's attributes."""
        arrays = {
            name: None if record.get(name) is None else np.array(record[name], np.float64)
            for name in ("offset", "factor", "components")
        }
        return Scaling(dtype=np.dtype(str(record["dtype"])), **arrays)


@dataclass(frozen=True)
class SegmentModel:
    """Centroids and how channels are scaled.

    Parameters
    ----------
    centroids : (k, c) float64 in the units of the input.
    palette : (k, 3) uint8, to draw clusters with.
    names : of the channels.
    coordinates : whether the last two are the column and the row.
    """

    centroids: np.ndarray
    palette: np.ndarray
    scaling: Scaling
    names: tuple[str, ...]
    coordinates: bool = False

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
        names = tuple(str(name) for name in run.attributes.get("channels", ()))
        scaling, there = Scaling.of_record(record), bool(run.parameters.get("coordinates"))
        return SegmentModel(np.asarray(centroids, np.float64), palette, scaling, names, there)

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centroids)

    @cached_property
    def scaled(self) -> np.ndarray:
        """(k, c) centroids as rows are."""
        return self.scaling.scaled(self.centroids)

    def label_rows(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int32, the nearest centroid of scaled rows."""
        return predict_rows(rows, self.scaled)

    def label(self, pixels: Any, /) -> np.ndarray:
        """(y, x) int32 labels of an array (y, x, c), or of named axes, in the units of the input.

        Where a value is NaN or masked, the label is the largest int32.

        Raises
        ------
        UsageError : no array of so many channels, or of other than finite numbers.
        """
        values = _in_memory(pixels, len(self.names) - 2 * self.coordinates)
        known = ~np.isnan(values).any(axis=2)
        if not np.isfinite(values[known]).all():
            raise UsageError(
                "an image holds infinite values: replace them by NaN, which is no data"
            )
        if self.coordinates:
            values = with_coordinates(values, 0, 0)
        labels = np.full(known.shape, np.iinfo(np.int32).max, np.int32)
        labels[known] = self.label_rows(self.scaling.rows(values[known]))
        return labels

    def record(self) -> dict[str, Any]:
        """What the run's record says, by which `of_run` makes it again."""
        return {"channels": list(self.names), "scaling": self.scaling.record()}


def with_nan(values: Any) -> np.ndarray:
    """An array; a masked one as floating point that holds its values, NaN where it is masked."""
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.result_type(values.dtype, np.float16)), np.nan)
    return np.asarray(values)


def _in_memory(image: Any, n_channels: int) -> np.ndarray:
    """(y, x, c) values of an array, with NaN where it is masked; errors as of `label`."""
    if not hasattr(image, "dtype") or not hasattr(image, "shape"):
        raise UsageError(
            f"an image is an array (y, x, {n_channels}), got {described(image)}; kmdist.predict "
            "labels files"
        )
    if np.dtype(image.dtype).kind not in "uif":
        raise UsageError(
            f"an image of {image.dtype} values; integers and floating point are allowed"
        )
    names = [str(name).lower() for name in getattr(image, "dims", ())]
    values = with_nan(image)
    if names:
        try:
            axes = axes_of(values.shape, names)
        except ImageError as error:
            raise UsageError(str(error)) from error
        values = take_window(
            values, axes, Window(0, 0, *(values.shape[i] for i in (axes.y, axes.x)))
        )
    elif values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] != n_channels:
        raise UsageError(
            f"an image is an array (y, x, {n_channels}); received shape {values.shape}"
        )
    return values


def with_coordinates(values: np.ndarray, y0: int, x0: int) -> np.ndarray:
    """(h, w, c + 2): values with the column and the row of each pixel, in pixels, floating point.

    Parameters
    ----------
    y0, x0 : row and column of the first pixel.
    """
    height, width, n_channels = values.shape
    both = np.empty((height, width, n_channels + 2), coordinates_dtype(values.dtype))
    both[:, :, :n_channels] = values
    both[:, :, -2] = np.arange(x0, x0 + width)
    both[:, :, -1] = np.arange(y0, y0 + height)[:, None]
    return both


def coordinates_dtype(dtype: Any) -> np.dtype:
    """Of values with coordinates: float32 where it holds both."""
    single = np.dtype(dtype).itemsize <= 2 or np.dtype(dtype) == np.float32
    return np.dtype(np.float32 if single else np.float64)


def cluster_colors(k: int) -> np.ndarray:
    """(k, 3) uint8 colours that tell clusters apart: hues a golden ratio apart, three shades."""
    from colorsys import hsv_to_rgb

    shades: Sequence[tuple[float, float]] = ((0.65, 0.95), (0.85, 0.7), (0.45, 0.8))
    golden = 0.618033988749895
    colors = [hsv_to_rgb((0.08 + i * golden) % 1.0, *shades[i % 3]) for i in range(k)]
    return np.round(255 * np.array(colors)).astype(np.uint8)
