"""`kmdist predict`: label new photographs with the palette of an earlier run."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmdist.cluster import Compute
from kmdist.errors import UsageError
from kmdist.images import Found
from kmdist.recipes.borrowed_palette import Model, label_job
from kmdist.recipes.job import JobOptions, open_job
from kmdist.recipes.progress import Message, Watcher, watch_nothing
from kmdist.recipes.quantize import publish, temporary_output
from kmdist.recipes.run_images import single_k
from kmdist.store import Run, open_run, run_location


def predict(
    model: Run | str | Path,
    inputs: str | Path | Sequence[str | Path | Found],
    output: str | Path | None = None,
    *,
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
    """Label photographs with the palette of a run: each pixel with its nearest centroid.

    Parameters
    ----------
    model : a run of `quantize` with one shared palette, or one k of several (``RUN.zarr/k8``).
    inputs, output, and where and how to run : as for `kmdist.quantize`.
    command : the command line, to say how to resume.

    Returns
    -------
    Run : an ordinary run with the model's centroids and palette, in the model's order, and the
        counts and exact inertia of the new photographs. Its parameters name the model.

    Raises
    ------
    UsageError : the model has no single palette, or an input is not as it must be.
    KmdistError : no image can be used, or the job cannot be done; what is finished is kept.
    """
    run = single_k(model if isinstance(model, Run) else open_run(model), "predict")
    palette = _palette_model(run)
    parameters = {
        "k": [len(palette.centroids)],
        "space": palette.space,
        "model": {
            "path": str(run.path),
            "fingerprint": run.attributes.get("fingerprint"),
            "centroids_sha256": hashlib.sha256(palette.centroids.tobytes()).hexdigest(),
        },
        "block_mpx": block_mpx,
        "max_pixels": max_pixels,
    }
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
    listed = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    target = run_location(output) if output is not None else temporary_output()
    command = command or ("kmdist", "predict", str(run.path), *map(str, listed), "-o", str(target))
    with open_job(
        "quantize", listed, target, parameters, options, watch=watch, command=command
    ) as job:
        if job.writer.already_complete:
            watch(Message(f"{target} is complete already"))
        else:
            publish(job, {0: label_job(job, palette)})
    return open_run(target)


def _palette_model(run: Run) -> Model:
    """The palette of a run.

    Raises
    ------
    UsageError : it has none that new photographs could be labelled with.
    """
    if run.recipe != "quantize":
        raise UsageError(
            f"{run.path} is a run of {run.recipe}; predict labels photographs with the palette of "
            "a run of quantize"
        )
    centroids, palette = run.centroids, run.palette
    if centroids is None or palette is None:
        raise UsageError(
            f"{run.path} has a palette for each image and none for new ones; make the model "
            "without --per-image"
        )
    return Model(centroids, palette, str(run.attributes.get("space") or "rgb"))
