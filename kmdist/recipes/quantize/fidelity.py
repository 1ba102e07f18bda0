"""PSNR, SSIM and CIEDE2000 of label maps in the colours of their palettes; quality by k."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from kmdist.images import Piece
from kmdist.images.color import over_black_and_white
from kmdist.job.exhibits import Curves, Exhibit
from kmdist.recipes.quantize.kernels.fidelity import (
    NOTHING_SKIPPED,
    UNIT,
    squared_error,
    ssim_sum,
    window_step,
)
from kmdist.store import Nearness, Run


class Fidelity(NamedTuple):
    """How near a picture is to its original; exact sums, to be added in any order.

    Attributes
    ----------
    squared_error : over `n_values`, all channels of all pixels that are clustered.
    ssim : sum over `n_windows` in whole 2⁻³⁰; see `kmdist.recipes.quantize.kernels.fidelity`.
    delta_e : sum over `n_colors`, pixels spread evenly, in whole 2⁻¹⁰.
    """

    squared_error: int
    n_values: int
    ssim: int
    n_windows: int
    delta_e: int = 0
    n_colors: int = 0

    @property
    def means(self) -> Nearness:
        """Of the values, the windows and the colours."""
        return Nearness(
            psnr_db(self.squared_error, self.n_values),
            self.ssim / UNIT / self.n_windows if self.n_windows else math.nan,
            self.delta_e / DELTA_E_UNIT / self.n_colors if self.n_colors else math.nan,
        )


NOTHING = Fidelity(0, 0, 0, 0)
DELTA_E_UNIT = 1 << 10
"""CIEDE2000 is summed in whole 2⁻¹⁰: the last bits of one depend on which others are at hand."""


def psnr_db(squared_error: int, n_values: int) -> float:
    """PSNR of 8-bit values from the sum of their squared errors."""
    if not n_values:
        return math.nan
    return 10 * math.log10(255**2 * n_values / squared_error) if squared_error else math.inf


def delta_e_step(height: int, width: int) -> int:
    """Rows and columns between pixels whose CIEDE2000 is taken, 1 µs each: 2,048 of an image."""
    return 2 * window_step(height, width)


def delta_e(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """CIEDE2000 (Sharma, Wu and Dalal, 2005) of pairs of colours, as scikit-image takes it.

    Parameters
    ----------
    one, other : (..., 3) uint8 sRGB.

    Returns
    -------
    (n,) float64.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    pairs = (rgb2lab(colors.reshape(-1, 3)) for colors in (one, other))
    return np.asarray(deltaE_ciede2000(*pairs), np.float64)


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
    here, step = piece.window, delta_e_step(piece.source.height, piece.source.width)
    few = slice(-here.y0 % step, None, step), slice(-here.x0 % step, None, step)
    counts = np.s_[:] if unclustered is None else ~unclustered[few]
    apart = delta_e(pixels[few][counts], palette[labels[few][counts]])
    total = int(np.rint(DELTA_E_UNIT * apart).sum())
    return Fidelity(int(error), int(n_values), int(ssim), int(n_windows), total, apart.size)


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

    SSIM and CIEDE2000 of a run are means over its images, PSNR that of all their pixels.
    """
    if not by_name:
        return {}
    names = sorted(by_name)
    rows = [by_name[name].means for name in names]
    key = f"{prefix}/fidelity" if prefix else "fidelity"
    writer.write_array(key, np.array(rows), ("image", "figure"))
    ssim, apart = (
        fmean(known) if (known := [v for v in values if not math.isnan(v)]) else math.nan
        for values in list(zip(*rows, strict=True))[1:]
    )
    overall = Nearness(added(by_name.values()).means.psnr_db, ssim, apart)
    worst = min(range(len(names)), key=lambda at: rows[at].psnr_db)
    of_worst = {"image": names[worst], **rows[worst].info()}
    return {"fidelity": {**overall.info(), "worst": of_worst}}


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
