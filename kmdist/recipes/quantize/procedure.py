"""What a quantize job does: a palette shared by the collection, or one an image.

Passes over the files: ``--shared`` decodes each block twice (count, label), or once where the
pixels are kept on the workers; ``--per-image`` decodes each image once, but an image larger than
a block as ``--shared`` does. Tasks: blocks × passes, plus the merge tree of the counting pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kmdist.engine.passes import Pool
from kmdist.errors import quantity
from kmdist.job.job import Job
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photographs import PhotographProcedure, Photographs, fingerprint
from kmdist.job.progress import Message, Watcher, compile_kernels
from kmdist.job.recipe import Results
from kmdist.recipes.quantize.blocks import PHOTOGRAPHIC
from kmdist.recipes.quantize.each import quantize_each
from kmdist.recipes.quantize.options import QuantizeOptions
from kmdist.recipes.quantize.shared import quantize_shared
from kmdist.recipes.quantize.steps import each_steps, shared_steps
from kmdist.recipes.quantize.wanted import Wanted
from kmdist.recipes.quantize.warm_up import exercise_palette_kernels
from kmdist.recipes.quantize.weights import masks_of, with_masks

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
        if self.options.shared:
            by_k = quantize_shared(job, workload, self.wanted, label=not self.options.fit_only)
        else:
            by_k = quantize_each(job, workload, self.wanted)
        return Results(by_k)

    def _say_transparency(self, job: Job, workload: Photographs) -> None:
        n = sum(1 for source in workload.sources if source.channels == 4)
        if n and not self.options.alpha:
            over = f"partly transparent pixels show {self.options.background} (--background)"
            job.watch(Message(f"alpha in {quantity(n, 'image')}: {over}; --alpha keeps it"))
