"""Palettes: exact weighted k-means on the distinct colours of a collection.

Count colours with `kmdist.recipes.quantize.kernels.histogram`, put them into a `ColorCloud`, fit
any number of palettes, and label pixels with `kmdist.recipes.quantize.kernels.label_table`. Knows
neither files nor Dask.
"""

from kmdist.recipes.quantize.palette.cloud import AlphaCloud, ColorCloud, fit_memory_bytes
from kmdist.recipes.quantize.palette.fit import (
    Palette,
    PaletteOptions,
    fit_palette,
    fit_to_psnr,
    iterate_palette,
    label_colors,
    palette_for,
    psnr,
)

__all__ = [
    "AlphaCloud",
    "ColorCloud",
    "Palette",
    "PaletteOptions",
    "fit_memory_bytes",
    "fit_palette",
    "fit_to_psnr",
    "iterate_palette",
    "label_colors",
    "palette_for",
    "psnr",
]
