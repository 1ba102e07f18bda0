"""`kmdist predict`: label new images with the clusters of an earlier run."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.cluster import Compute
from kmdist.errors import UsageError
from kmdist.job.endings import temporary_output
from kmdist.job.job import Job, JobOptions, open_job, publish
from kmdist.job.progress import Message, Watcher, watch_nothing
from kmdist.recipes.quantize.model import Model
from kmdist.recipes.quantize.predict import label_job
from kmdist.store import Run, open_run, run_location
from kmdist.store.reader import single_k


def predict(
    model: Run | str | Path,
    inputs: Any,
    output: str | Path | None = None,
    *,
    cell: tuple[int, int] | None = None,
    labels: str | Path | None = None,
    polarity: str = "auto",
    workers: int | None = None,
    worker_kind: str = "auto",
    cluster: str | None = None,
    scheduler: str | None = None,
    client: Any = None,
    trust: Sequence[str] = (),
    insecure: bool = False,
    block_mpx: float = 16.0,
    max_pixels: int = 200_000_000,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    watch: Watcher = watch_nothing,
    command: Sequence[str] = (),
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
    cell, labels, polarity : for `digits` alone, as there; polarity is that of the model's images
        where it is ``auto``.
    output, and where and how to run : as for `kmdist.quantize`.
    command : the command line, to say how to resume.

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
    run = single_k(model if isinstance(model, Run) else open_run(model), "predict")
    options = JobOptions(
        Compute(workers, worker_kind, cluster, scheduler, client, tuple(trust), insecure),
        block_mpx=block_mpx,
        keep_pixels="never",
        max_pixels=max_pixels,
        strict=strict,
        resume=resume,
        overwrite=overwrite,
        seed=int(run.attributes.get("seed") or 0),
    )
    listed = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    target = run_location(output) if output is not None else temporary_output()
    command = command or ("kmdist", "predict", str(run.path), *map(str, listed), "-o", str(target))
    if run.recipe == "digits":
        from kmdist.recipes.digits.opening import Input
        from kmdist.recipes.digits.predict import predict_digits

        given = Input(inputs, cell, labels, polarity)
        predict_digits(run, given, target, options, watch=watch, command=command)
        return open_run(target)
    if (cell, labels, polarity) != (None, None, "auto"):
        raise UsageError(
            f"cell, labels and polarity are for runs of digits; {run.path} is one of {run.recipe}"
        )
    learnt = _model_of(run)
    parameters = {
        "k": [len(learnt.centroids)],
        "space": learnt.space,
        "model": {
            "path": str(run.path),
            "fingerprint": run.attributes.get("fingerprint"),
            "centroids_sha256": hashlib.sha256(learnt.centroids.tobytes()).hexdigest(),
        },
        "block_mpx": block_mpx,
        "max_pixels": max_pixels,
    }
    with open_job(
        run.recipe, listed, target, parameters, options, watch=watch, command=command
    ) as job:
        if job.writer.already_complete:
            watch(Message(f"{target} is complete already"))
        elif isinstance(learnt, Model):
            publish(job, {0: label_job(job, learnt)})
        else:
            publish(job, {0: learnt.label(job)})
    return open_run(target)


@dataclass(frozen=True)
class _Textures:
    """The clusters of a texture run."""

    run: Run

    @cached_property
    def model(self) -> Any:
        from kmdist.recipes.texture.model import TextureModel

        return TextureModel.of_run(self.run)

    space = "texture"

    @property
    def centroids(self) -> np.ndarray:
        centroids: np.ndarray = self.model.centroids
        return centroids

    def label(self, job: Job) -> dict[str, Any]:
        from kmdist.recipes.texture.predict import predict_textures

        palette = self.run.palette
        if palette is None:
            raise UsageError(f"{self.run.path} has no colours of its clusters")
        return predict_textures(job, self.model, palette)


def _model_of(run: Run) -> "Model | _Textures":
    """What new photographs are labelled with.

    Raises
    ------
    UsageError : the run has nothing that new photographs could be labelled with.
    """
    if run.recipe == "texture":
        textures = _Textures(run)
        _ = textures.model
        return textures
    if run.recipe != "quantize":
        raise UsageError(
            f"{run.path} is a run of {run.recipe}; predict labels with the clusters of a run of "
            "quantize, texture or digits"
        )
    centroids, palette = run.centroids, run.palette
    if centroids is None or palette is None:
        raise UsageError(
            f"{run.path} has a palette for each image and none for new ones; make the model "
            "without --per-image"
        )
    return Model(centroids, palette, str(run.attributes.get("space") or "rgb"))
