"""Kernels of colours, compiled before the clock starts."""

import numpy as np


def exercise_palette_kernels(space: str) -> None:
    """Use every kernel of a quantize job once."""
    from kmdist.recipes.quantize.kernels.fidelity import NOTHING_SKIPPED, squared_error, ssim_sum
    from kmdist.recipes.quantize.kernels.histogram import ColorCounter, merge_colors
    from kmdist.recipes.quantize.kernels.label_table import ColorLabels
    from kmdist.recipes.quantize.palette import ColorCloud, fit_palette

    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    unclustered = np.zeros((4, 5), bool)
    with ColorCounter() as counter:
        counter.add(pixels)
        counter.add(pixels, unclustered)
        colors = counter.colors()
    colors = merge_colors([colors, colors])
    fit = fit_palette(ColorCloud(colors, space), 3)
    with ColorLabels.borrowed(colors, fit.labels) as label_of:
        labels = label_of(pixels)
    for skip in (NOTHING_SKIPPED, unclustered):
        squared_error(pixels, labels, fit.palette, skip)
        ssim_sum(pixels, labels, fit.palette, skip, 0, 0, 1)
