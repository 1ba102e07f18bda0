"""The recipe quantize: photographs to a palette of k colours. Light to import."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kmdist.job.options import job_function
from kmdist.job.photograph_recipe import PhotographRecipe, max_pixels_of
from kmdist.job.recipe import Inputs, Original, Procedure
from kmdist.recipes.quantize.options import QuantizeOptions

if TYPE_CHECKING:
    from kmdist.job.exhibits import Exhibit
    from kmdist.job.job import Job
    from kmdist.job.memory import Step
    from kmdist.recipes.quantize.model import Model
    from kmdist.store import Run, RunImage


@job_function(QuantizeOptions)
def quantize(
    inputs: Inputs,
    output: str | Path | None = None,
    *,
    options: QuantizeOptions,
    **how: Any,
) -> "Run":
    """Reduce photographs to palettes, by exact k-means on their colour histogram.

    Parameters
    ----------
    inputs : folders, globs, files, text files that list files, or ``sample:photos``.

    Returns
    -------
    Run : the published run.

    Raises
    ------
    UsageError : an option or an input is not as it must be.
    KmdistError : no image can be used, or the job cannot be done; what is finished is kept.
    """
    from kmdist.job.running import run_job

    return run_job(RECIPE.fit(inputs, options), output, options, **how)


class Quantize(PhotographRecipe):
    """Photographs to palettes."""

    name = "quantize"
    options = QuantizeOptions
    model_options: ClassVar[Mapping[str, Any]] = {"fit_only": True}
    recolors = True

    def fit(self, inputs: Inputs, options: QuantizeOptions) -> Procedure[Any]:
        """Fit palettes, and label with them."""
        from kmdist.recipes.quantize.procedure import QuantizeFit
        from kmdist.recipes.quantize.wanted import wanted_palettes

        return QuantizeFit(inputs, options, wanted_palettes(options))

    def label_photographs(self, job: "Job", workload: Any, model: "Model") -> dict[str, Any]:
        """Label with a palette."""
        from kmdist.recipes.quantize.model import label_photographs

        return label_photographs(job, workload, model)

    def predict(self, run: "Run", images: Any) -> Any:
        """Label images in memory."""
        from kmdist.job.pixels import label_images

        model = self.model_of(run)
        return label_images(model, images, model.transparency.convert)

    def original(self, run: "Run", image: "RunImage") -> Original:
        """The photograph as it was clustered: RGB over the background, or RGBA."""
        from kmdist.job.pixels import Photograph
        from kmdist.recipes.quantize.transparency import Transparency

        convert = Transparency.of_record(run.attributes).convert
        return Photograph(image, max_pixels_of(run), convert)

    def label_steps(self, workload: Any, model: "Model") -> "Sequence[Step]":
        """What that does."""
        from kmdist.recipes.quantize.steps import predict_steps

        return predict_steps(workload, model.k)

    def model_of(self, run: "Run") -> "Model":
        """The palette of a run."""
        from kmdist.recipes.quantize.model import Model

        return Model.of_run(run)

    def summary(self, run: "Run") -> list[str]:
        """The images, and the colours that were locked."""
        from kmdist.images.color import hex_color

        locked = ", ".join(map(hex_color, run.parameters.get("lock") or ()))
        return [*super().summary(run), *([f"locked       {locked}"] if locked else [])]

    def exhibits(self, run: "Run") -> "Sequence[Exhibit]":
        """Quality against k."""
        from kmdist.recipes.quantize.fidelity import quality_by_k

        return quality_by_k(run)


RECIPE = Quantize()
