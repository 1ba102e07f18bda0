"""What a quantize job does: a palette shared by the collection, or one an image.

Passes over the files: ``--shared`` decodes each block twice (count, label), or once where the
pixels are kept on the workers; ``--per-image`` decodes each image once, but an image larger than
a block as ``--shared`` does. Tasks: per block one to count (two where pixels are kept: decode,
count) and one to label; ⌈n/4⌉ + ⌈n/16⌉ + … to merge; for images larger than a block, one a pyramid
window of at most 8,192². Bytes that reach this process: the merged histogram, 12 a distinct colour,
at most 201 MB; that leave it: 16.8 MB of label table per k, once a worker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.engine.passes import Pool
from kmdist.errors import ImageError, UsageError, quantity
from kmdist.images import Piece, Rejection
from kmdist.job.block_pass import BlockPass
from kmdist.job.image_fits import FitResult, FittedImage, SharedFit, fit_each, record_of_images
from kmdist.job.job import Job
from kmdist.job.label_maps import Layer, label_blocks, label_items, open_sink
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photographs import PhotographProcedure, Photographs, fingerprint
from kmdist.job.pixels import decode_piece
from kmdist.job.progress import Message, Watcher, compile_kernels
from kmdist.job.recipe import Results
from kmdist.recipes.quantize.blocks import COUNT, LABEL, PHOTOGRAPHIC, Counted, decode_block
from kmdist.recipes.quantize.fidelity import Fidelity, fidelity_of, write_fidelity
from kmdist.recipes.quantize.kernels.histogram import ColorCounter, Colors
from kmdist.recipes.quantize.kernels.label_table import ColorLabels
from kmdist.recipes.quantize.options import QuantizeOptions
from kmdist.recipes.quantize.palette import Palette
from kmdist.recipes.quantize.steps import each_steps, shared_steps
from kmdist.recipes.quantize.wanted import Wanted
from kmdist.recipes.quantize.weights import masks_of, weighed, with_masks
from kmdist.store import RunWriter, unclustered_value

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


class PaletteGroup(SharedFit):
    """Images that share palettes: colours are counted block by block, and fitted once."""

    wanted: Wanted

    def run(self) -> dict[int, dict[str, Any]]:
        """Count, fit, label and write."""
        job, wanted = self.job, self.wanted
        kept: dict[int, Any] = {}
        count = replace(COUNT, prepare=decode_block) if self.keep else COUNT
        counting = BlockPass(job, count, group=self.name, kept=kept)
        counted: Counted = counting.run(self.work, wanted.transparency)
        if not len(counted.colors):
            raise job.no_pixel("clustered")
        palettes = self._fit(counted)
        by_layer: Sequence[Mapping[str, Fidelity]] = [{} for _ in palettes]
        if self.label:
            by_layer = self._label(counted, kept, palettes)
        fits = {}
        for (k, palette), fidelity in zip(palettes.items(), by_layer, strict=True):
            figures: dict[str, Any] = (
                {"fidelity": fidelity.get(self.image)}
                if self.at_image
                else write_fidelity(job.writer, wanted.prefix(k), fidelity)
            )
            marker = unclustered_value(palette.k, bool(counted.marked))
            shown = wanted.transparency.record()
            fits[k] = fit_of(palette, **shown, **figures, unclustered=marker)
        self.write(fits)
        return {k: fit.record() for k, fit in fits.items()}

    def _fit(self, counted: Counted) -> dict[int, Palette]:
        job, choices = self.job, self.wanted.choices
        if choices:
            job.watch(Message(f"trying k = {choices[0]} … {choices[-1]}"))
        try:
            with job.timed("fit"):
                return self.wanted.fit_all(
                    counted.colors, counted.weighted, self.threads, job.say_state
                )
        except ImageError as error:  # not as good as is asked for, with --strict
            if not self.at_image:
                raise UsageError(error.reason) from error
            job.reject([Rejection(self.image, error.code, error.reason)])
            raise

    def _label(
        self, counted: Counted, kept: dict[int, Any], palettes: Mapping[int, Palette]
    ) -> list[Mapping[str, Fidelity]]:
        """Label and write; fidelity by name, one a palette."""
        job = self.job
        items = label_items(self.work, job.rejected, kept)
        layers = [Layer(self.wanted.prefix(k), p.k, p.palette) for k, p in palettes.items()]
        sink = open_sink(job, items, layers, frozenset(counted.marked))
        tables = [ColorLabels.of(counted.colors, one.labels) for one in palettes.values()]
        shared = job.pool.broadcast(tables), self.wanted.transparency
        found = label_blocks(job, LABEL, items, sink, *shared, group=self.name, kept=kept)
        return [
            {name: one for name, one in layer.items() if name not in job.rejected}
            for layer in found.fidelity or [{} for _ in palettes]
        ]


def fit_of(palette: Palette, **further: Any) -> FitResult:
    """A palette as a run holds it.

    Parameters
    ----------
    further : what the run's record says besides.
    """
    state = palette.state
    locked = {"locked": list(palette.locked)} if palette.locked else {}
    return FitResult(
        {"centroids": (state.centroids.astype(np.float32), ("cluster", "channel"))},
        palette.palette,
        state.counts.astype(np.int64),
        palette.history,
        palette.space,
        state.inertia,
        state.iteration,
        state.stop_reason,
        palette.warning,
        palette.selection,
        {**locked, **further},
    )


def quantize_each(job: Job, workload: Photographs, wanted: Wanted) -> dict[int, dict[str, Any]]:
    """Fit the wanted palettes to every image on its own and label it.

    Returns
    -------
    dict : attributes of the run, by the number of colours asked for.
    """
    attributes = {}
    fits = fit_each(job, "quantize", quantize_image, PaletteGroup, wanted, workload.blocks)
    for k, of_k in fits.items():
        fidelity = {name: Fidelity(*fit["fidelity"]) for name, fit in of_k.items()}
        figures = write_fidelity(job.writer, wanted.prefix(k), fidelity)
        attributes[k] = record_of_images(of_k, **wanted.transparency.record(), **figures)
    return attributes


def quantize_image(piece: Piece, wanted: Wanted, _: RunWriter) -> FittedImage:
    """Fit the wanted palettes to one image and label it.

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
    weighted = Colors.empty()
    if pixels.weights is not None:
        weighted = Colors.weighted(pixels.rgb, pixels.weights)
    for k, palette in wanted.fit_all(colors, weighted).items():
        with ColorLabels.borrowed(colors, palette.labels) as label_of:
            labels = label_of(pixels.rgb)
        near = fidelity_of(piece, pixels.rgb, labels, palette.palette, pixels.unclustered)
        yield k, fit_of(palette, fidelity=near), labels, pixels.unclustered


def exercise_palette_kernels(space: str) -> None:
    """Use every kernel of a quantize job once."""
    from kmdist.recipes.quantize.kernels.fidelity import (
        CHUNK,
        NOTHING_SKIPPED,
        squared_error,
        ssim_sum,
    )
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
        ssim_sum(pixels, labels, fit.palette, skip, 0, 0, 1, CHUNK)
