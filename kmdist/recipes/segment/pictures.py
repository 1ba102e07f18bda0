"""What a segment run shows: three channels in false colour, and a table of its clusters."""

from collections.abc import Sequence

import numpy as np

from kmdist.errors import ImageError
from kmdist.images import Found, Window
from kmdist.job.exhibits import Exhibit, signatures
from kmdist.job.originals import require_there
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
        given = run.parameters
        asked = Asked(
            tuple(given.get("channels") or ()),
            tuple(given.get("nodata") or ()),
            given.get("channel_axis"),
            given.get("z"),
            given.get("t"),
        )
        limit = int(given.get("max_pixels") or 200_000_000)
        self._source = ProbeRaster(asked)(Found(image.name, image.source), max_pixels=limit)
        if (self._source.width, self._source.height) != (image.width, image.height):
            raise ImageError("changed", f"the original {image.source} has another size now")
        side = Window(0, 0, min(image.height, SAMPLE_SIDE), min(image.width, SAMPLE_SIDE))
        values, valid = read_raster(self._source, side)
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

    def rgb(self, window: Window) -> np.ndarray:
        """(y, x, 3) uint8 of a window; black where there is no data."""
        values, valid = read_raster(self._source, window)
        shown = (values[:, :, self._shown].astype(np.float64) - self._low) / self._range
        rgb = np.round(255 * np.clip(np.nan_to_num(shown), 0, 1)).astype(np.uint8)
        rgb[~valid] = 0
        return rgb


def cluster_table(run: Run) -> list[str]:
    """A line a cluster: its share and the mean of each channel ± its standard deviation."""
    counts, names = run.counts, [str(name) for name in run.attributes.get("channels", ())]
    mean, sd = run.array("channel_mean"), run.array("channel_sd")
    if counts is None or mean is None or sd is None:
        return []
    total = max(int(np.sum(counts)), 1)
    lines = [f"cluster    share  {'  '.join(names[:12])}{' …' if len(names) > 12 else ''}"]
    for number, (count, row, spread) in enumerate(zip(counts, mean, sd, strict=True)):
        values = "  ".join(f"{m:.4g} ± {s:.2g}" for m, s in zip(row[:12], spread[:12], strict=True))
        lines.append(f"{number:7d}  {100 * count / total:6.2f}%  {values}")
    return lines


def channel_exhibits(run: Run) -> Sequence[Exhibit]:
    """The mean of each channel in each cluster, in the units of the input."""
    mean = run.array("channel_mean")
    if mean is None:
        return ()
    names = [str(name) for name in run.attributes.get("channels", ())]
    note = "mean of each channel in each cluster, in the units of the input"
    return (signatures("Cluster signatures", mean[:, :MOST_CHANNELS], names[:MOST_CHANNELS], note),)
