"""Texture: segment photographs by texture, each on its own or all with one set of clusters.

Each image on its own: one pass, one task a block. Shared, and images larger than a block: two
passes over the pixels, three with textons (`kmdist.recipes.texture.shared`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from kmdist.engine.passes import Pool
from kmdist.errors import UsageError
from kmdist.job.compiling import compile_kernels
from kmdist.job.job import Job
from kmdist.job.labelling import LabelPhotographs
from kmdist.job.memory import Slots
from kmdist.job.options import JobOptions
from kmdist.job.photographs import Inputs, Photographs, open_photographs
from kmdist.job.progress import Message, Watcher, watch_nothing
from kmdist.job.recipe import Outline, Recipe, Results
from kmdist.job.running import run_job
from kmdist.options import with_keywords
from kmdist.recipes.texture.each import texture_each
from kmdist.recipes.texture.field_labels import PixelLabels
from kmdist.recipes.texture.memory import texture_projection
from kmdist.recipes.texture.model import TextureModel
from kmdist.recipes.texture.options import TextureOptions
from kmdist.recipes.texture.plan import outline
from kmdist.recipes.texture.predict import label_photographs
from kmdist.recipes.texture.shared import TextureGroup
from kmdist.recipes.texture.wanted import TextureWanted, wanted_textures
from kmdist.recipes.texture.warm_up import exercise_texture_kernels
from kmdist.store import Run


@with_keywords(TextureOptions)
def texture(
    inputs: Inputs,
    output: str | Path | None = None,
    *,
    options: TextureOptions,
    watch: Watcher = watch_nothing,
    command: Sequence[str] = (),
) -> Run:
    """Segment photographs by texture: k-means on pooled responses of a filter bank.

    Parameters
    ----------
    inputs : folders, globs, files, text files that list files, or ``sample:photos``.
    output : the run to write; None: a temporary one, removed when this process ends.
    watch : called with progress.
    command : the command line, to say how to resume.

    Returns
    -------
    Run : the published run. Its palette holds the mean colour of each cluster's pixels, its
        counts pixels, its inertia Σ‖x − c‖² over all positions.

    Raises
    ------
    UsageError : an option or an input is not as it must be.
    KmdistError : no image can be used, or the job cannot be done; what is finished is kept.
    """
    return run_job(RECIPE.fit(inputs, options), output, options, watch=watch, command=command)


@dataclass(frozen=True)
class TextureFit:
    """Fit textures to photographs and label them: a `kmdist.job.recipe.Procedure`.

    Parameters
    ----------
    wanted : what `options` ask for.
    """

    inputs: Inputs
    options: TextureOptions
    wanted: TextureWanted
    recipe: str = "texture"

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Photographs:
        """Find and probe the image files."""
        return open_photographs(self.inputs, options, pool, watch)

    def parameters(self, workload: Photographs, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        return self.wanted.parameters(self.options)

    def outline(self, workload: Photographs, slots: Slots, options: JobOptions) -> Outline:
        """Passes, tasks, memory, checkpoints and results."""
        return outline(self.wanted, self.options.shared, workload, slots, options.keep_pixels)

    def run(self, job: Job, workload: Photographs) -> Results:
        """Measure, fit, label."""
        wanted, blocks = self.wanted, workload.blocks
        compile_kernels(lambda: exercise_texture_kernels(wanted.texture), job.watch)
        passes, keep_pixels = 2 if self.options.shared else 1, job.options.keep_pixels
        plan = texture_projection(
            workload, job.pool, wanted, keep_pixels=keep_pixels, passes=passes
        )
        job.require(plan)
        if any(source.dtype != "uint8" for source in workload.sources):
            job.watch(Message("textures are measured on 8 bits a channel"))
        if self.options.shared:
            group = TextureGroup(job, wanted, blocks, keep=plan.keep_pixels)
            by_k = group.run(label=not self.options.fit_only)
        else:
            by_k = texture_each(job, blocks, wanted)
        return Results(by_k, {"pixels": workload.pixels})


class Textures(Recipe):
    """Photographs segmented by texture."""

    name = "texture"
    options = TextureOptions
    model_options: ClassVar[Mapping[str, Any]] = {"shared": True, "fit_only": True}

    def fit(self, inputs: Inputs, options: TextureOptions) -> TextureFit:
        """Fit textures, and label with them."""
        return TextureFit(inputs, options, wanted_textures(options))

    def label(self, run: Run, inputs: Inputs, options: JobOptions) -> LabelPhotographs:
        """Label with the textures of a run."""
        model = TextureModel.of_run(run)
        if run.palette is None:
            raise UsageError(f"{run.path} has no colours of its clusters")
        label = partial(label_photographs, model=model, palette=run.palette)
        return LabelPhotographs(run, inputs, label)

    def model_of(self, run: Run) -> PixelLabels:
        """The textures of a run."""
        return PixelLabels(TextureModel.of_run(run))


RECIPE = Textures()
