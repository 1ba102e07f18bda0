"""PSNR and SSIM of label maps in the colours of their palettes; quality against k."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kmdist.images.color import over_black_and_white
from kmdist.job.exhibits import Curves, Exhibit
from kmdist.job.work import Piece
from kmdist.recipes.quantize.kernels.fidelity import (
    NOTHING_SKIPPED,
    UNIT,
    squared_error,
    ssim_sum,
    window_step,
)
from kmdist.store import Run


class Fidelity(NamedTuple):
    """How near a picture is to its original; exact sums, to be added in any order.

    Attributes
    ----------
    squared_error : over `n_values`, all channels of all pixels that are clustered.
    ssim : sum over `n_windows` in whole 2⁻³⁰; see `kmdist.recipes.quantize.kernels.fidelity`.
    """

    squared_error: int
    n_values: int
    ssim: int
    n_windows: int

    @property
    def psnr_db(self) -> float:
        """In dB; infinite where the pictures are equal, not a number where nothing was compared."""
        return psnr_db(self.squared_error, self.n_values)

    @property
    def mean_ssim(self) -> float:
        """−1 … 1; not a number for pictures of fewer than 7 rows or columns."""
        return self.ssim / UNIT / self.n_windows if self.n_windows else math.nan

    def record(self) -> dict[str, float | None]:
        """As JSON: None for what is no finite number."""
        figures = {"psnr_db": round(self.psnr_db, 4), "ssim": round(self.mean_ssim, 6)}
        return {name: value if math.isfinite(value) else None for name, value in figures.items()}


NOTHING = Fidelity(0, 0, 0, 0)


def psnr_db(squared_error: int, n_values: int) -> float:
    """PSNR of 8-bit values from the sum of their squared errors."""
    if not n_values:
        return math.nan
    return 10 * math.log10(255**2 * n_values / squared_error) if squared_error else math.inf


def fidelity_of(
    piece: Piece,
    pixels: np.ndarray,
    labels: np.ndarray,
    palette: np.ndarray,
    unclustered: np.ndarray | None,
) -> Fidelity:
    """Compare the pixels of a piece with the colours of their labels.

    Colours with alpha are compared as they look over black and over white.

    Parameters
    ----------
    pixels : (y, x, 3) or (y, x, 4) uint8. labels : (y, x). palette : (k, 3) or (k, 4) uint8.
    unclustered : (y, x) True where a pixel does not count, or None.
    """
    if pixels.shape[2] == 4:
        pixels, palette = (
            np.rint(over_black_and_white(one)).astype(np.uint8) for one in (pixels, palette)
        )
    skip = NOTHING_SKIPPED if unclustered is None else unclustered
    what = np.ascontiguousarray(pixels), labels, np.ascontiguousarray(palette), skip
    step = window_step(piece.source.height, piece.source.width)
    error, n_values = squared_error(*what)
    ssim, n_windows = ssim_sum(*what, piece.window.y0, piece.window.x0, step)
    return Fidelity(int(error), int(n_values), int(ssim), int(n_windows))


def added(parts: Iterable[Fidelity]) -> Fidelity:
    """Of all parts together."""
    return Fidelity(*map(sum, zip(*parts, NOTHING, strict=True)))


def merged(parts: Iterable[Mapping[str, Fidelity]]) -> dict[str, Fidelity]:
    """By name, of images that may be in several parts."""
    by_name: dict[str, list[Fidelity]] = {}
    for part in parts:
        for name, one in part.items():
            by_name.setdefault(name, []).append(one)
    return {name: added(of_image) for name, of_image in by_name.items()}


def write_fidelity(writer: Any, prefix: str, by_name: Mapping[str, Fidelity]) -> dict[str, Any]:
    """Write the figures of all images, in the order of their names; what the record says of them.

    SSIM of a run is the mean over its images, PSNR that of all their pixels.
    """
    if not by_name:
        return {}
    names = sorted(by_name)
    rows = np.array([(by_name[name].psnr_db, by_name[name].mean_ssim) for name in names])
    key = f"{prefix}/fidelity" if prefix else "fidelity"
    writer.write_array(key, rows, ("image", "figure"))
    overall = added(by_name.values())
    similar = [one.mean_ssim for one in by_name.values() if one.n_windows]
    worst = min(names, key=lambda name: (by_name[name].psnr_db, name))
    record = overall.record()
    record["ssim"] = round(math.fsum(similar) / len(similar), 6) if similar else None
    return {"fidelity": {**record, "worst": {"image": worst, **by_name[worst].record()}}}


def quality_by_k(run: Run) -> Sequence[Exhibit]:
    """PSNR of the collection against k, from the inertia in sRGB; in other spaces, inertia."""
    if not run.runs:
        return ()
    ks, runs = list(run.runs), list(run.runs.values())
    inertia = np.array([float(one.inertia or 0.0) for one in runs])
    title = "Quality against k"
    if any(one.attributes.get("space", "rgb") != "rgb" for one in runs) or not inertia.all():
        return (Curves(title, "k", ks, {"inertia": inertia.tolist()}),)
    pixels = np.array([np.sum(one.counts) if one.counts is not None else 1 for one in runs])
    psnr = 10 * np.log10(255**2 * 3 * pixels / inertia)
    note = "PSNR of all pixels together, with centroids before they are rounded to 8 bits"
    return (Curves(title, "k", ks, {"PSNR in dB": psnr.tolist()}, note=note),)
