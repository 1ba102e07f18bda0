"""What a segment run shows: three channels in false colour, and a table of its clusters."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import ImageError, UsageError
from kmdist.images import Found, Window
from kmdist.job.exhibits import Exhibit, signatures
from kmdist.job.photograph_recipe import max_pixels_of
from kmdist.job.pixels import require_there
from kmdist.recipes.segment.bands import scenes
from kmdist.recipes.segment.rasters import Asked, ProbeRaster, read_raster
from kmdist.store import Run, RunImage

STRETCH = (2, 98)
"""Percentiles of a channel that are shown as black and full."""
SAMPLE_SIDE = 1024
MOST_CHANNELS = 32
"""Whose means are shown."""


class FalseColor:
    """The file behind a label map, three of its channels as red, green and blue.

    Raises
    ------
    ImageError : it is gone, has another size than the label map, or cannot be read.
    """

    def __init__(self, run: Run, image: RunImage) -> None:
        require_there(image)
        asked = replace(Asked.of_record(run.parameters), coordinates=False)
        found = Found(image.name, image.source)
        if asked.bands:
            beside = sorted(Path(image.source).parent.iterdir())
            files = [Found(f"{image.name}/{one.name}", str(one)) for one in beside]
            found = scenes(files, asked.bands)[0]
        self._source = ProbeRaster(asked)(found, max_pixels=max_pixels_of(run))
        self._top = (self._source.planes // 2) * self._source.plane_height
        size = (self._source.width, self._source.plane_height, self._source.grid.planes)
        if size != (image.width, image.height, image.planes):
            raise ImageError("changed", f"the original {image.source} has another size now")
        side = Window(0, 0, min(image.height, SAMPLE_SIDE), min(image.width, SAMPLE_SIDE))
        values, valid = self._read(side)
        shown = values[valid][:, self._shown].astype(np.float64)
        if not len(shown):
            shown = np.zeros((1, 3))
        self._low, high = np.percentile(shown, STRETCH, axis=0)
        self._range = np.where(high > self._low, high - self._low, 1.0)

    @property
    def _shown(self) -> list[int]:
        if self._source.channels < 3:
            return [0, 0, 0]
        return [0, 1, 2] if self._source.picture else [2, 1, 0]  # bands rise in wavelength

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self._source.size_bytes

    def _read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """As `read_raster`, of the middle plane of a volume."""
        below = replace(window, y0=window.y0 + self._top, y1=window.y1 + self._top)
        return read_raster(self._source, below)

    def rgb(self, window: Window) -> np.ndarray:
        """(y, x, 3) uint8 of a window; black where there is no data."""
        values, valid = self._read(window)
        shown = (values[:, :, self._shown].astype(np.float64) - self._low) / self._range
        rgb = np.round(255 * np.clip(np.nan_to_num(shown), 0, 1)).astype(np.uint8)
        rgb[~valid] = 0
        return rgb


def signature_figure(run: Run) -> Any:
    """Mean ± standard deviation of each channel, a line a cluster, as a figure of matplotlib.

    Raises
    ------
    UsageError : a run of several k, or of which each image has clusters of its own.
    """
    from matplotlib.figure import Figure

    mean, sd, palette = run.array("channel_mean"), run.array("channel_sd"), run.palette
    if mean is None or sd is None or palette is None:
        raise UsageError(f"{run.path} has no clusters of its own: name RUN.zarr/kN of several k")
    names = [str(name) for name in run.attributes.get("channels", ())]
    places = np.arange(len(names))
    figure = Figure(figsize=(max(6.0, 2.0 + 0.5 * len(names)), 4.5), layout="constrained")
    axes = figure.subplots()
    for number, color in enumerate(palette / 255):
        low, high = mean[number] - sd[number], mean[number] + sd[number]
        axes.plot(places, mean[number], color=color, marker="o", label=str(number))
        axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xticks(places, names, rotation=0 if max(map(len, names)) < 4 else 60)
    axes.set_ylabel("mean ± standard deviation")
    axes.legend(title="cluster", ncols=1 + len(palette) // 17, fontsize="small")
    return figure


QUARTILES = (0.25, 0.75)


def cluster_table(run: Run) -> list[str]:
    """A line a cluster: its share; of each channel the mean ± standard deviation, and quartiles."""
    counts, names = run.counts, [str(name) for name in run.attributes.get("channels", ())]
    mean, sd = run.array("channel_mean"), run.array("channel_sd")
    if counts is None or mean is None or sd is None:
        return []
    total, shares = max(int(np.sum(counts)), 1), list(run.attributes.get("quantiles", ()))
    stored = run.array("channel_quantiles")
    if stored is None or not set(QUARTILES) <= set(shares):
        return []
    between = stored[:, [shares.index(one) for one in QUARTILES]]
    more = [" …"] if len(names) > 12 else []
    table = [["cluster", "share", *names[:12], *more]]
    for number, (count, row, spread, quartiles) in enumerate(
        zip(counts, mean, sd, between, strict=True)
    ):
        values = [
            f"{m:.4g} ± {s:.2g} ({low:.4g}–{high:.4g})"
            for m, s, low, high in zip(row[:12], spread[:12], *quartiles[:, :12], strict=True)
        ]
        table.append([str(number), f"{count / total:7.2%}", *values, *[""] * len(more)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]


def channel_exhibits(run: Run) -> Sequence[Exhibit]:
    """The mean of each channel in each cluster, in the units of the input."""
    mean = run.array("channel_mean")
    if mean is None:
        return ()
    names = [str(name) for name in run.attributes.get("channels", ())]
    note = "mean of each channel in each cluster, in the units of the input"
    return (signatures("Cluster signatures", mean[:, :MOST_CHANNELS], names[:MOST_CHANNELS], note),)
