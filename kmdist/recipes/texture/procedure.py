"""What a texture job does: each image segmented on its own, or all with one set of clusters.

Each image on its own: one pass, one task a block. Shared, and images larger than a block: two
passes over the pixels, three with textons (`kmdist.recipes.texture.shared`).
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kmdist.job.compiling import compile_kernels
from kmdist.job.job import Job
from kmdist.job.memory import Slots
from kmdist.job.options import JobOptions
from kmdist.job.photographs import PhotographProcedure, Photographs
from kmdist.job.recipe import Outline, Results
from kmdist.job.work import Work
from kmdist.recipes.texture.each import texture_each
from kmdist.recipes.texture.memory import texture_projection
from kmdist.recipes.texture.options import TextureOptions
from kmdist.recipes.texture.plan import outline
from kmdist.recipes.texture.shared import TextureGroup
from kmdist.recipes.texture.wanted import TextureWanted
from kmdist.recipes.texture.warm_up import exercise_texture_kernels


@dataclass(frozen=True)
class TextureFit(PhotographProcedure):
    """Fit textures to photographs and label them: a `kmdist.job.recipe.Procedure`.

    Parameters
    ----------
    wanted : what `options` ask for.
    """

    options: TextureOptions
    wanted: TextureWanted
    recipe: str = "texture"

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

        def plan_anew(lost: Container[str]) -> Sequence[Work]:
            return workload.without(lost, job.options.block_mpx).blocks

        if self.options.shared:
            group = TextureGroup(job, wanted, blocks, plan.keep_pixels, plan_anew=plan_anew)
            by_k = group.run(label=not self.options.fit_only)
        else:
            by_k = texture_each(job, blocks, wanted)
        return Results(by_k)
