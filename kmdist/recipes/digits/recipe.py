"""The recipe digits: images of single characters, grouped. Light to import."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdist.errors import quantity
from kmdist.job.options import job_function
from kmdist.job.recipe import Procedure, Recipe
from kmdist.recipes.digits.options import DigitsOptions

if TYPE_CHECKING:
    from kmdist.job.exhibits import Exhibit
    from kmdist.recipes.digits.model import DigitModel
    from kmdist.store import Run


@job_function(DigitsOptions)
def digits(
    inputs: Any,
    output: str | Path | None = None,
    *,
    options: DigitsOptions,
    **how: Any,
) -> "Run":
    """Group images of characters.

    Several k share rows and landmarks (as many as the largest asks for). The presets: ``raw``
    pixels; ``deskew``, as OpenCV's tutorial does; ``gradient`` features of normalised images;
    ``landmark``: these, over-clustered and merged; ``refined``: the same with more landmarks, and
    labels learnt anew. Landmarks take none of `init`, `n_init`, `max_iter` and `tol`.

    Parameters
    ----------
    inputs : see `kmdist.recipes.digits.stacks.open_stack`; labels only score the result.

    Returns
    -------
    Run : with ``labels`` (n,).

    Raises
    ------
    UsageError : an option or an input is not as it must be.
    KmdistError : a file is damaged, or the job cannot be done; what is finished is kept.
    """
    from kmdist.job.running import run_job

    return run_job(RECIPE.fit(inputs, options), output, options, **how)


class Digits(Recipe):
    """Images of single characters, grouped."""

    name = "digits"
    options = DigitsOptions
    reads = ("cell", "labels", "polarity")
    pictures = ("centroids", "members", "confusion", "sweep", "normalised")
    exported = ()

    def fit(self, inputs: Any, options: DigitsOptions) -> Procedure[Any]:
        """Fit clusters, and label with them."""
        from kmdist.recipes.digits.opening import Input
        from kmdist.recipes.digits.procedure import DigitsFit

        given = Input(inputs, options.cell, options.labels, options.polarity, options.choice)
        tested = Input(options.test, options.cell, options.test_labels, options.polarity)
        return DigitsFit(options, given, None if options.test is None else tested)

    def label(self, run: "Run", inputs: Any, options: Any) -> Procedure[Any]:
        """Label with the clusters of a run."""
        from kmdist.recipes.digits.opening import Input
        from kmdist.recipes.digits.procedure import DigitLabels

        given = Input(inputs, options.cell, options.labels, options.polarity, options.choice)
        return DigitLabels(run, self.model_of(run), given)

    def model_of(self, run: "Run") -> "DigitModel":
        """The clusters of a run."""
        from kmdist.recipes.digits.model import DigitModel

        return DigitModel.of_run(run)

    def predict(self, run: "Run", images: Any) -> Any:
        """Label a stack of images in memory, or one that is named."""
        from kmdist.recipes.digits.model import label_stack

        return label_stack(self.model_of(run), images)

    def least_files(self, options: DigitsOptions) -> int:
        """One for each cluster."""
        return max(options.ks)

    def name_in_run(self, name: str) -> str:
        """Without line breaks: a run lists the names of its images, a line each."""
        from kmdist.store import image_key

        return image_key(name) if "\n" in name else name

    def summary(self, run: "Run") -> list[str]:
        """How many images, of what size, and by which preset."""
        record = run.attributes
        width, height = record["image_size"]
        images = quantity(int(record["n_images"]), "image")
        return [f"{images} of {width} × {height} px, preset {record['preset']}"]

    def figure(self, run: "Run", what: str | None) -> Any:
        """Centroids, members, confusion, sweep or normalised images."""
        from kmdist.recipes.digits.pictures import figure

        return figure(run, what)

    def exhibits(self, run: "Run") -> "Sequence[Exhibit]":
        """Scores, clusters with their members, and what classes they hold."""
        from kmdist.recipes.digits.pictures import exhibits

        return exhibits(run)


RECIPE = Digits()
