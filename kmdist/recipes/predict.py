"""`kmdist predict`: label new images with the clusters of an earlier run."""

from pathlib import Path
from typing import Any

import msgspec

from kmdist.errors import UsageError
from kmdist.job.job import temporary_output
from kmdist.job.options import JobOptions, job_function
from kmdist.job.running import run_job
from kmdist.options import declared
from kmdist.recipes.options import PredictOptions
from kmdist.recipes.registry import recipe_named
from kmdist.store import Run, run_location
from kmdist.store.reader import interpreting, single_k


@job_function(PredictOptions)
def predict(
    model: Run | str | Path,
    inputs: Any,
    output: str | Path | None = None,
    *,
    options: PredictOptions,
    **how: Any,
) -> Run:
    """Label new images with the clusters of a run.

    Each pixel of photographs gets its nearest colour or texture, each image of characters the
    cluster that the run's own would get.

    Parameters
    ----------
    model : a run of `quantize` or `texture` with one shared set of clusters, a run of `digits`,
        or one k of several (``RUN.zarr/k8``).
    inputs : as for the recipe of `model`: files, folders, `kmdist.images.Found`; for `digits` one
        stack, or a list of folders and image files, which are brought to the size of its images.

    Returns
    -------
    Run : an ordinary run with the model's centroids and palette, in the model's order, and the
        counts and exact inertia of the new images. Its parameters name the model. Of `digits`,
        known classes are scored with the model's maps.

    Raises
    ------
    UsageError : the model has no single set of clusters, or an input is not as it must be.
    KmdistError : no image can be used, or the job cannot be done; what is finished is kept.
    """
    run = single_k(model, "predict")
    options = msgspec.structs.replace(options, seed=int(run.attributes.get("seed") or 0))
    listed = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    target = run_location(output) if output is not None else temporary_output()
    typed = ("kmdist", "predict", str(run.path), *map(str, listed), "-o", str(target))
    recipe = recipe_named(run.recipe)
    for name, option in declared(PredictOptions).items():
        foreign = name not in declared(JobOptions) and name not in recipe.reads
        if foreign and getattr(options, option.attribute) != option.default:
            raise UsageError(f"{run.path} is a run of {run.recipe}, which has none", option=name)
    with interpreting(run):
        procedure = recipe.label(run, inputs, options)
    return run_job(procedure, target, options, **{**how, "command": how.get("command") or typed})
