"""What the recipes that label the pixels of image files have in common. Light to import."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kmdist.errors import quantity
from kmdist.job.options import JobOptions
from kmdist.job.recipe import Inputs, Original, Procedure, Recipe

if TYPE_CHECKING:
    from kmdist.job.job import Job
    from kmdist.job.memory import Step
    from kmdist.store import Run, RunImage


def max_pixels_of(run: "Run") -> int:
    """The most pixels that an original of a run may have: the default, of one that does not say."""
    return int(run.parameters.get("max_pixels") or JobOptions().max_pixels)


class PhotographRecipe(Recipe):
    """A recipe that labels the pixels of image files; see `kmdist.job.recipe.Recipe`."""

    def label(self, run: "Run", inputs: Inputs, options: Any) -> Procedure[Any]:
        """Label image files with the clusters of a run."""
        from kmdist.job.photographs import LabelPhotographs

        model = self.model_of(run)
        label = partial(self.label_photographs, model=model)
        return LabelPhotographs(inputs, run, label, partial(self.label_steps, model=model))

    def label_photographs(self, job: "Job", workload: Any, model: Any) -> Mapping[str, Any]:
        """Label all images of a job with a model, and write them; what the run's record says."""
        raise NotImplementedError

    def label_steps(self, workload: Any, model: Any) -> "Sequence[Step]":
        """What `label_photographs` does, pass by pass: it decodes each image, and labels it."""
        from kmdist.job.memory import DECODE_BYTES, LABEL_BYTES, Held, Step

        held = Held(pixel=DECODE_BYTES + LABEL_BYTES)
        return [Step("label", held, workload.blocks, len(workload.blocks))]

    def predict(self, run: "Run", images: Any) -> Any:
        """Label images in memory."""
        from kmdist.job.pixels import label_images

        return label_images(self.model_of(run), images)

    def original(self, run: "Run", image: "RunImage") -> Original:
        """The photograph, in 8-bit RGB."""
        from kmdist.job.pixels import Photograph

        return Photograph(image, max_pixels_of(run))

    def summary(self, run: "Run") -> list[str]:
        """How many images, how large, and whether each has clusters of its own."""
        first, pixels = run.fits[0], run.attributes.get("pixels")
        if not len(first.images):
            return []
        size = f", {pixels / 1e6:,.1f} Mpx" if pixels else ""
        how = ", each fitted on its own" if run.attributes.get("per_image") else ""
        return [f"{quantity(len(first.images), 'image')}{size}{how}"]
