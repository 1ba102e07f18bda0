"""The recipe segment: pixels of any number of channels, clustered as they are. Light to import."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kmdist.job.options import job_function
from kmdist.job.photograph_recipe import PhotographRecipe
from kmdist.job.recipe import Inputs, Original, Procedure
from kmdist.recipes.segment.options import SegmentOptions

if TYPE_CHECKING:
    from kmdist.job.exhibits import Exhibit
    from kmdist.recipes.segment.model import SegmentModel
    from kmdist.store import Run, RunImage


@job_function(SegmentOptions)
def segment(
    inputs: Any,
    output: str | Path | None = None,
    *,
    options: SegmentOptions,
    **how: Any,
) -> "Run":
    """Cluster pixels of any number of channels by exact k-means, in their own precision.

    Parameters
    ----------
    inputs : folders, globs, files; a run of texture with kept responses; or an array (y, x, c) or
        (c, y, x) of NumPy, Dask or xarray, whose named dimensions say which is which.

    Returns
    -------
    Run : the published run; its centroids are in the units of the input.

    Raises
    ------
    UsageError : an option or an input is not as it must be.
    KmdistError : no image can be used, or the job cannot be done; what is finished is kept.
    """
    from kmdist.job.running import run_job
    from kmdist.recipes.segment.procedure import stored

    with stored(inputs) as listed:
        return run_job(RECIPE.fit(listed, options), output, options, **how)


class Segment(PhotographRecipe):
    """Pixels of any number of channels."""

    name = "segment"
    options = SegmentOptions
    pictures = ("signatures",)
    colors_of_images = False
    exported = (".png", ".tif", ".ome.tif")
    model_options: ClassVar[Mapping[str, Any]] = {"shared": True, "fit_only": True}

    def fit(self, inputs: Inputs, options: SegmentOptions) -> Procedure[Any]:
        """Fit centroids to all pixels, and label them."""
        from kmdist.recipes.segment.procedure import SegmentFit
        from kmdist.recipes.segment.wanted import Wanted

        return SegmentFit(inputs, options, Wanted.of(options))

    def label(self, run: "Run", inputs: Inputs, options: Any) -> Procedure[Any]:
        """Label files with the clusters of a run."""
        from kmdist.recipes.segment.procedure import SegmentLabel

        return SegmentLabel(inputs, run, self.model_of(run))

    def model_of(self, run: "Run") -> "SegmentModel":
        """The centroids of a run and how its channels were scaled."""
        from kmdist.recipes.segment.model import SegmentModel

        return SegmentModel.of_run(run)

    def predict(self, run: "Run", images: Any) -> Any:
        """Labels of arrays (y, x, c) in the units of the run's input: one, several, or by name."""
        model = self.model_of(run)
        if isinstance(images, Mapping):
            return {name: model.label(image) for name, image in images.items()}
        if isinstance(images, list | tuple):
            return [model.label(image) for image in images]
        return model.label(images)

    def original(self, run: "Run", image: "RunImage") -> Original:
        """Three channels in false colour."""
        from kmdist.recipes.segment.pictures import FalseColor

        return FalseColor(run, image)

    def figure(self, run: "Run", what: str | None) -> Any:
        """Signatures of clusters, as a figure of matplotlib."""
        from kmdist.recipes.segment.pictures import signature_figure

        return signature_figure(run)

    def export_further(self, run: "Run", folder: Path, stems: Mapping[str, str]) -> None:
        """Labels as GeoTIFF, and the table of clusters."""
        from kmdist.recipes.segment.geo import export_labels

        export_labels(run, folder, stems)

    def summary(self, run: "Run") -> list[str]:
        """Images, and the mean of each channel in each cluster."""
        from kmdist.recipes.segment.pictures import cluster_table

        one = run.fits[0]
        return [*super().summary(run), *([] if run.runs else cluster_table(one))]

    def exhibits(self, run: "Run") -> "Sequence[Exhibit]":
        """Each channel in each cluster."""
        from kmdist.recipes.segment.pictures import channel_exhibits

        return channel_exhibits(run)


RECIPE = Segment()
