"""Quality of a palette against the pixels, and palettes of a wanted quality."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kmdist.errors import UsageError
from kmdist.recipes.quantize.kernels.histogram import Colors
from kmdist.recipes.quantize.palette.cloud import ColorCloud
from kmdist.recipes.quantize.palette.fit import Palette, PaletteOptions, fit_palette

_MAX_K = 256


@dataclass(frozen=True)
class PsnrFit:
    """A palette that just reaches a PSNR.

    Attributes
    ----------
    palette : the palette found.
    psnr_db : what it reaches.
    psnr_db_below : what the palette of one colour less, fitted in the same way, reaches;
        None for a palette of one colour.
    """

    palette: Palette
    psnr_db: float
    psnr_db_below: float | None


def psnr(
    colors: Colors, palette: npt.NDArray[np.uint8], labels: npt.NDArray[np.unsignedinteger]
) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and the three sRGB channels.

    Parameters
    ----------
    palette : (k, 3) uint8 sRGB, the colours that are shown.
    labels : (n,) palette entry of each distinct colour.

    Returns
    -------
    10 log10(255² / mean squared error); infinite if every pixel keeps its colour.
    """
    differences = colors.rgb.astype(np.int64) - palette[labels]
    squared_error = int((colors.counts * (differences**2).sum(axis=1)).sum())
    if squared_error == 0:
        return math.inf
    return 10 * math.log10(255**2 * 3 * colors.n_pixels / squared_error)


def fit_to_psnr(
    cloud: ColorCloud,
    psnr_db: float,
    options: PaletteOptions | None = None,
    *,
    on_fit: Callable[[int, float], None] | None = None,
) -> PsnrFit:
    """Find by bisection a palette that reaches a PSNR where one colour less does not.

    Quality need not rise with every colour added, so this is not always the smallest k there
    is; that k − 1 as fitted falls short is checked, not inferred. At most 9 fits.

    Parameters
    ----------
    psnr_db : the PSNR to reach, of the displayed palette over all pixels.
    on_fit : called with k and its PSNR after each fit.

    Raises
    ------
    UsageError : 256 colours do not reach it, or it is not a number, or the options fix k.
    """
    options = options or PaletteOptions()
    if math.isnan(psnr_db):
        raise UsageError("the PSNR to reach is not a number; give it in dB, for example 38")
    if not isinstance(options.init, str):
        raise UsageError("initial colours fix k; a PSNR to reach needs init k-means++ or random")
    fits: dict[int, tuple[Palette, float]] = {}

    def reaches(k: int) -> bool:
        palette = fit_palette(cloud, k, options)
        fits[k] = palette, psnr(cloud.colors, palette.palette, palette.labels)
        if on_fit is not None:
            on_fit(k, fits[k][1])
        return fits[k][1] >= psnr_db

    short, enough = 0, min(_MAX_K, len(cloud.colors))
    if not reaches(enough):
        raise UsageError(
            f"{psnr_db:g} dB cannot be reached: {enough} colours reach {fits[enough][1]:.2f} dB. "
            "Ask for less, or give -k"
        )
    while enough - short > 1:
        k = (short + enough) // 2
        if reaches(k):
            enough = k
        else:
            short = k
    return PsnrFit(*fits[enough], fits[short][1] if short else None)
