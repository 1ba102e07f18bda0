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
    CHUNK,
    NOTHING_SKIPPED,
    UNIT,
    WHOLE,
    WINDOW,
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


_STRIP_PIXELS = 1 << 20


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
    pixels, palette = _opaque(pixels), _opaque(palette)
    skip = NOTHING_SKIPPED if unclustered is None else unclustered
    what = pixels, labels, palette, skip
    step = window_step(piece.source.height, piece.source.width)
    error, n_values = squared_error(*what)
    ssim, n_windows = ssim_sum(*what, piece.window.y0, piece.window.x0, step, CHUNK)
    here, step = piece.window, delta_e_step(piece.source.height, piece.source.width)
    few = slice(-here.y0 % step, None, step), slice(-here.x0 % step, None, step)
    counts = np.s_[:] if unclustered is None else ~unclustered[few]
    apart = delta_e(pixels[few][counts], palette[labels[few][counts]])
    total = int(np.rint(DELTA_E_UNIT * apart).sum())
    return Fidelity(int(error), int(n_values), int(ssim), int(n_windows), total, apart.size)


def _opaque(colors: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 as they are; (..., 6) of colours with alpha, over black and over white."""
    if colors.shape[-1] == 4:
        colors = np.rint(over_black_and_white(colors)).astype(np.uint8)
    return np.ascontiguousarray(colors)


class Comparison:
    """How near a picture is to its original, of all pixels, band by band from top to bottom.

    PSNR is 10·log₁₀(255² / mean squared error of all channels). Pictures with alpha are compared
    as they look over black and over white, in equal parts. SSIM (Wang, Bovik, Sheikh and
    Simoncelli, 2004) is scikit-image's `structural_similarity` with its defaults: the mean over
    the channels and all pixels whose window lies within the picture. CIEDE2000 is the mean of
    pixels spread evenly. Pixels that are not clustered count in none.

    Memory: 160 bytes a pixel of one strip of 1 Mpx, or of 64 rows where those are more.

    Parameters
    ----------
    palette : (k, 3) or (k, 4) uint8: colours of the labels.
    step : rows and columns between pixels whose CIEDE2000 is taken.
    """

    def __init__(self, palette: np.ndarray, step: int = 1) -> None:
        self.squared_error = 0
        self.n_values = 0
        self._palette, self._step, self._y = _opaque(palette), step, 0
        self._ssim, self._n_windows = 0, 0
        self._delta_e, self._n_colors = 0.0, 0
        self._above: tuple[np.ndarray, ...] | None = None

    @property
    def means(self) -> Nearness:
        """Figures of what was compared so far; not a number where nothing was."""
        return Nearness(
            psnr_db(self.squared_error, self.n_values),
            self._ssim / UNIT / self._n_windows if self._n_windows else math.nan,
            self._delta_e / self._n_colors if self._n_colors else math.nan,
        )

    def add(self, original: np.ndarray, labels: np.ndarray, skip: np.ndarray | None) -> None:
        """Compare the next rows.

        Parameters
        ----------
        original : (rows, width, 3) uint8; or (rows, width, 4) with alpha.
        labels : (rows, width), below k.
        skip : (rows, width) True where the pixel does not count; None: all count.
        """
        skip = np.zeros(labels.shape, np.bool_) if skip is None else skip
        rows = max(_STRIP_PIXELS // labels.shape[1], 64)
        for y in range(0, len(labels), rows):
            strip = slice(y, y + rows)
            self._add(_opaque(original[strip]), labels[strip], skip[strip])

    def _add(self, original: np.ndarray, labels: np.ndarray, skip: np.ndarray) -> None:
        error, n_values = squared_error(original, labels, self._palette, skip)
        self.squared_error += int(error)
        self.n_values += int(n_values)
        few = slice(-self._y % self._step, None, self._step), slice(None, None, self._step)
        counts = ~skip[few]
        apart = delta_e(original[few][counts], self._palette[labels[few][counts]])
        self._y += len(labels)
        self._delta_e += float(apart.sum())
        self._n_colors += apart.size
        if self._above is not None:
            pairs = zip(self._above, (original, labels, skip), strict=True)
            original, labels, skip = map(np.concatenate, pairs)
        ssim, n_windows = ssim_sum(original, labels, self._palette, skip, 0, 0, 1, WHOLE)
        self._ssim += int(ssim)
        self._n_windows += int(n_windows)
        last = slice(max(len(labels) - WINDOW + 1, 0), None)
        self._above = original[last].copy(), labels[last].copy(), skip[last].copy()


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
