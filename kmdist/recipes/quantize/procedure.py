"""What a quantize job does: a palette shared by the collection, or one an image.

Passes over the files: ``--shared`` decodes each block twice (count, label), or once where the
pixels are kept on the workers; ``--per-image`` decodes each image once, but an image larger than
a block as ``--shared`` does. Tasks: blocks × passes, plus the merge tree of the counting pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.engine.passes import Pool
from kmdist.errors import ImageError, quantity
from kmdist.job.each_image import EachImage, Fits, summary, write_image
from kmdist.job.job import Job
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photographs import PhotographProcedure, Photographs, fingerprint
from kmdist.job.pixels import decode_piece
from kmdist.job.progress import Message, Watcher, compile_kernels
from kmdist.job.recipe import Results
from kmdist.job.work import Piece
from kmdist.recipes.quantize.blocks import PHOTOGRAPHIC
from kmdist.recipes.quantize.fidelity import Fidelity, fidelity_of, write_fidelity
from kmdist.recipes.quantize.kernels.histogram import ColorCounter, Colors
from kmdist.recipes.quantize.kernels.label_table import ColorLabels
from kmdist.recipes.quantize.options import QuantizeOptions
from kmdist.recipes.quantize.shared import PaletteGroup, fit_of
from kmdist.recipes.quantize.steps import each_steps, shared_steps
from kmdist.recipes.quantize.wanted import Wanted
from kmdist.recipes.quantize.weights import masks_of, weighed, with_masks
from kmdist.store import RunWriter

CHECKPOINT_BYTES = 8
"""A distinct colour in a checkpoint."""


@dataclass(frozen=True)
class QuantizeFit(PhotographProcedure):
    """Fit palettes to photographs and label them: a `kmdist.job.recipe.Procedure`.

    Parameters
    ----------
    wanted : palettes that `options` ask for.
    """

    options: QuantizeOptions
    wanted: Wanted
    recipe: str = "quantize"

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Photographs:
        """Find and probe the image files, and their masks."""
        workload = super().open(options, pool, watch)
        if self.options.weights is None:
            return workload
        return with_masks(workload, self.options.weights, options, pool, watch)

    def parameters(self, workload: Photographs, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        masks = masks_of(workload.sources)
        weighed = {"weights": fingerprint(masks)} if masks else {}
        return {**self.wanted.parameters(self.options), **weighed}

    def outline(self, workload: Photographs, options: JobOptions, *, keep: bool) -> Outline:
        """Passes, what is kept, checkpoints and results."""
        ks, blocks = self.wanted.at_most, workload.blocks
        label = not self.options.fit_only
        results = workload.label_bytes(len(ks)) if label else 0
        if not self.options.shared:
            return Outline(each_steps(blocks, ks), result_bytes=results)
        keep = keep and label
        steps = shared_steps(blocks, ks, keep=keep, label=label)
        checkpoints = int(CHECKPOINT_BYTES * PHOTOGRAPHIC * workload.pixels)
        each = (4 if self.wanted.transparency.alpha else 3) + (self.options.weights is not None)
        kept = each * workload.pixels * keep
        return Outline(steps, "pixels", kept, checkpoints, results)

    def run(self, job: Job, workload: Photographs) -> Results:
        """Count colours, fit, label."""
        self._say_transparency(job, workload)
        compile_kernels(lambda: exercise_palette_kernels(self.wanted.space), job.watch)
        if not self.options.shared:
            return Results(quantize_each(job, workload, self.wanted))
        label = not self.options.fit_only
        return Results(PaletteGroup(job, self.wanted, workload.blocks, job.keep, label).run())

    def _say_transparency(self, job: Job, workload: Photographs) -> None:
        n = sum(1 for source in workload.sources if source.channels == 4)
        if n and not self.options.alpha:
            over = f"partly transparent pixels show {self.options.background} (--background)"
            job.watch(Message(f"alpha in {quantity(n, 'image')}: {over}; --alpha keeps it"))


def quantize_each(job: Job, workload: Photographs, wanted: Wanted) -> dict[int, dict[str, Any]]:
    """Fit the wanted palettes to every image on its own and label it.

    Returns
    -------
    dict : attributes of the run, by the number of colours asked for.
    """
    each = EachImage("quantize", quantize_image, PaletteGroup, wanted)
    fits = each.run(job, workload.blocks)
    attributes = {}
    for k in wanted.ks:
        of_k = [fit[k] for fit in fits.values()]
        fidelity = {name: Fidelity(*fit[k]["fidelity"]) for name, fit in fits.items()}
        figures = write_fidelity(job.writer, wanted.prefix(k), fidelity)
        attributes[k] = summary(of_k, **wanted.transparency.record(), **figures)
    return attributes


def quantize_image(piece: Piece, wanted: Wanted, writer: RunWriter) -> Fits:
    """Fit the wanted palettes to one image, label and write it.

    Raises
    ------
    ImageError : it cannot be read, or has no pixel that can be clustered.
    """
    pixels = weighed(decode_piece(piece, wanted.transparency.convert))
    with ColorCounter() as counter:
        counter.add(pixels.rgb, pixels.unclustered)
        colors = counter.colors()
    if not len(colors):
        raise ImageError("transparent", "every pixel is transparent; none can be clustered")
    results = {}
    weighted = Colors.empty()
    if pixels.weights is not None:
        weighted = Colors.weighted(pixels.rgb, pixels.weights)
    for k, palette in wanted.fit_all(colors, weighted).items():
        with ColorLabels.borrowed(colors, palette.labels) as label_of:
            labels = label_of(pixels.rgb)
        near = fidelity_of(piece, pixels.rgb, labels, palette.palette, pixels.unclustered)
        fit, prefix = fit_of(palette, fidelity=near), wanted.prefix(k)
        marker = write_image(writer, piece, prefix, fit, labels, pixels.unclustered)
        results[k] = {**fit.record(), "unclustered": marker}
    return results


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
