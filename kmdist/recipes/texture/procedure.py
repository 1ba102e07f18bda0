"""What a texture job does: each image segmented on its own, or all with one set of clusters.

Each image on its own: one pass, one task a block. Shared, and images larger than a block: two
passes over the pixels, three with textons (`kmdist.recipes.texture.shared`).
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kmdist.engine.passes import Pool
from kmdist.job.job import Job
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photographs import PhotographProcedure, Photographs, open_photographs
from kmdist.job.progress import Message, Watcher, compile_kernels
from kmdist.job.recipe import Results
from kmdist.job.work import Work
from kmdist.recipes.texture.chroma import in_color
from kmdist.recipes.texture.each import texture_each
from kmdist.recipes.texture.model import DEFAULT_PRESET
from kmdist.recipes.texture.options import TextureOptions
from kmdist.recipes.texture.shared import TextureGroup
from kmdist.recipes.texture.steps import outline
from kmdist.recipes.texture.wanted import TextureWanted, preset_of, wanted_textures
from kmdist.recipes.texture.warm_up import exercise_texture_kernels


@dataclass(frozen=True, kw_only=True)
class TexturePhotographs(Photographs):
    """Photographs, and what is measured on them.

    Parameters
    ----------
    wanted : what the options ask for. colorful : whether colour decided that; None: it did not.
    """

    wanted: TextureWanted
    colorful: bool | None = None

    @property
    def notes(self) -> list[Message]:
        """What is said of photographs, and which preset was chosen."""
        if self.colorful is None:
            return super().notes
        what = "in colour" if self.colorful else "grey"
        chosen = f"the photographs are {what}: --preset {self.wanted.texture.preset}"
        return [*super().notes, Message(chosen)]


@dataclass(frozen=True)
class TextureFit(PhotographProcedure):
    """Fit textures to photographs and label them: a `kmdist.job.recipe.Procedure`.

    Raises
    ------
    UsageError : options do not go together.
    """

    options: TextureOptions
    recipe: str = "texture"

    def __post_init__(self) -> None:
        _ = wanted_textures(self.options, preset_of(self.options) or DEFAULT_PRESET)

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> TexturePhotographs:
        """Find and probe the image files, and choose what is measured on them."""
        found = open_photographs(self.inputs, options, pool, watch)
        preset, colorful = preset_of(self.options), None
        if preset is None:
            colorful = in_color(found.sources, pool)
            preset = "color+texture" if colorful else DEFAULT_PRESET
        return TexturePhotographs(
            found.sources,
            found.blocks,
            found.rejected,
            wanted=wanted_textures(self.options, preset),
            colorful=colorful,
        )

    def parameters(self, workload: TexturePhotographs, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        return workload.wanted.parameters(self.options)

    def outline(self, workload: TexturePhotographs, options: JobOptions, *, keep: bool) -> Outline:
        """Passes, what is kept, checkpoints and results."""
        o = self.options
        label = not o.fit_only
        return outline(workload.wanted, workload, shared=o.shared, label=label, keep=keep)

    def run(self, job: Job, workload: TexturePhotographs) -> Results:
        """Measure, fit, label."""
        wanted, blocks = workload.wanted, workload.blocks
        compile_kernels(lambda: exercise_texture_kernels(wanted.texture), job.watch)

        def plan_anew(lost: Container[str]) -> Sequence[Work]:
            return workload.without(lost, job.options.block_mpx).blocks

        if self.options.shared:
            group = TextureGroup(job, wanted, blocks, job.keep, plan_anew=plan_anew)
            by_k = group.run(label=not self.options.fit_only)
        else:
            by_k = texture_each(job, blocks, wanted)
        return Results(by_k)
