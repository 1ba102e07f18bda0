"""The recipe texture: photographs segmented by texture. Light to import."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kmdist.errors import UsageError
from kmdist.job.options import job_function
from kmdist.job.photograph_recipe import PhotographRecipe
from kmdist.job.recipe import Inputs, Procedure
from kmdist.recipes.texture.options import TextureOptions

if TYPE_CHECKING:
    from kmdist.job.exhibits import Exhibit
    from kmdist.job.job import Job
    from kmdist.job.memory import Step
    from kmdist.recipes.texture.measuring import PixelLabels
    from kmdist.store import Run
    from kmdist.store.run_arrays import Fit

MOST_COMPONENTS = 16
SHOWN_IMAGES = 6
"""Of a report."""


@job_function(TextureOptions)
def texture(
    inputs: Inputs,
    output: str | Path | None = None,
    *,
    options: TextureOptions,
    **how: Any,
) -> "Run":
    """Segment photographs by texture: k-means on pooled responses of a filter bank.

    Parameters
    ----------
    inputs : folders, globs, files, text files that list files, or ``sample:photos``.

    Returns
    -------
    Run : the published run. Its palette holds the mean colour of each cluster's pixels, its
        counts pixels, its inertia Σ‖x − c‖² over all positions.

    Raises
    ------
    UsageError : an option or an input is not as it must be.
    KmdistError : no image can be used, or the job cannot be done; what is finished is kept.
    """
    from kmdist.job.running import run_job

    return run_job(RECIPE.fit(inputs, options), output, options, **how)


class Textures(PhotographRecipe):
    """Photographs segmented by texture."""

    name = "texture"
    options = TextureOptions
    model_options: ClassVar[Mapping[str, Any]] = {"shared": True, "fit_only": True}

    def fit(self, inputs: Inputs, options: TextureOptions) -> Procedure[Any]:
        """Fit textures, and label with them."""
        from kmdist.recipes.texture.procedure import TextureFit

        return TextureFit(inputs, options)

    def label_photographs(self, job: "Job", workload: Any, model: "PixelLabels") -> dict[str, Any]:
        """Label with textures."""
        from kmdist.recipes.texture.labels import label_photographs

        return label_photographs(job, workload, model.model, model.palette)

    def predict(self, run: "Run", images: Any) -> Any:
        """Label images in memory, in their own precision."""
        from kmdist.images import to_rgb
        from kmdist.job.pixels import label_images

        return label_images(self.model_of(run), images, to_rgb)

    def label_steps(self, workload: Any, model: "PixelLabels") -> "Sequence[Step]":
        """What that does."""
        from kmdist.recipes.texture.steps import predict_steps

        return predict_steps(workload.blocks, model.model.texture, model.k)

    def model_of(self, run: "Run") -> "PixelLabels":
        """The textures of a run."""
        from kmdist.recipes.texture.measuring import PixelLabels
        from kmdist.recipes.texture.model import TextureModel

        model = TextureModel.of_run(run)
        if run.palette is None:
            raise UsageError(f"{run.path} has no colours of its clusters")
        return PixelLabels(model, run.palette)

    def exhibits(self, run: "Run") -> "Sequence[Exhibit]":
        """Signatures of the clusters, of the first images where each has its own; the bank."""
        from kmdist.job.exhibits import Gallery, signatures, signed_levels
        from kmdist.recipes.texture.model import Texture

        if run.runs:  # each k shows its own
            return ()
        shown: list[Exhibit] = []
        names = [] if run.centroids is not None else list(run.images)[:SHOWN_IMAGES]
        fits: dict[str, Fit] = {f" of {name}": run.images[name] for name in names} or {"": run}
        for whose, fit in fits.items():
            if fit.centroids is not None:
                rows = fit.centroids[:, :MOST_COMPONENTS]
                columns = [f"c{i}" for i in range(rows.shape[1])]
                note = "centroids in the first components of the features"
                shown.append(signatures(f"Cluster signatures{whose}", rows, columns, note))
        texture = Texture.of_record(run.attributes["features"])
        if not texture.is_tutorial:
            drawn = map(signed_levels, texture.bank.kernels)
            pictures = list(zip(texture.bank.names, drawn, strict=True))
            shown.append(Gallery("Filter bank", pictures, "grey is 0; each to its own magnitude"))
        return shown


RECIPE = Textures()
