"""Texture: segment photographs by texture, each on its own or all with one set of clusters.

Each image on its own: one pass, one task a block. Shared, and images larger than a block: two
passes over the pixels, three with textons (`kmdist.recipes.texture.shared`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kmdist.cluster import Compute
from kmdist.engine.fits import FitOptions
from kmdist.errors import UsageError
from kmdist.images import Found
from kmdist.job.compiling import compile_kernels
from kmdist.job.endings import temporary_output
from kmdist.job.job import Job, JobOptions, open_job, publish
from kmdist.job.progress import Message, Watcher, watch_nothing
from kmdist.recipes.texture.each import texture_each
from kmdist.recipes.texture.memory import texture_projection
from kmdist.recipes.texture.model import DEFAULT_PRESET
from kmdist.recipes.texture.shared import texture_shared
from kmdist.recipes.texture.wanted import TextureWanted, texture_of, texture_wanted
from kmdist.recipes.texture.warm_up import exercise_texture_kernels
from kmdist.store import Run, open_run, run_location


def texture(
    inputs: str | Path | Sequence[str | Path | Found],
    output: str | Path | None = None,
    *,
    k: int | str | Sequence[int] | None = None,
    preset: str = DEFAULT_PRESET,
    shared: bool = False,
    sample: float | None = None,
    scales: str = "linear",
    pool_px: float | None = None,
    whiten: int | None = None,
    textons: int | None = None,
    color_weight: float | None = None,
    keep_responses: bool = False,
    init: str = "k-means++",
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    seed: int = 0,
    workers: int | None = None,
    worker_kind: str = "auto",
    cluster: str | None = None,
    scheduler: str | None = None,
    client: Any = None,
    trust: Sequence[str] = (),
    insecure: bool = False,
    block_mpx: float = 4.0,
    keep_pixels: str = "auto",
    max_pixels: int = 200_000_000,
    fit_only: bool = False,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    watch: Watcher = watch_nothing,
    command: Sequence[str] = (),
) -> Run:
    """Segment photographs by texture: k-means on pooled responses of a filter bank.

    Parameters
    ----------
    inputs : folders, globs, files, text files that list files, or ``sample:photos``.
    output : the run to write; None: a temporary one, removed when this process ends.
    k : clusters, default 6; several numbers share the passes. ``auto`` (2 to 32) and ``A..B``
        choose one, of shared clusters, by `kmdist.estimators.selection`.
    preset : ``textons``, ``gabor``, ``lm``, ``color+texture`` or ``tutorial``; see
        `kmdist.filters.features`.
    shared : one set of clusters (and textons) for all images; False: each image its own.
    sample : share of the positions that a fit takes; None: all, up to 131,072.
    scales : of the preset ``lm``: ``linear`` or ``published``.
    pool_px, whiten, textons, color_weight : change these numbers of the preset; see
        `kmdist.filters.features.TextureFeatures`.
    keep_responses : write the bank's responses to ``images/NAME/responses``.
    init, n_init, max_iter, tol, seed : as in `kmdist.KMeans`.
    workers, worker_kind, cluster, scheduler, client, trust, insecure : where to run; see
        `kmdist.cluster.Compute`.
    fit_only : fit shared clusters and write no label maps; the run is a model for `kmdist.predict`.
    block_mpx, max_pixels, strict, resume, overwrite : see `kmdist.job.job.JobOptions`. Blocks
        are smaller than those of quantize: 4 Mpx take about a second.
    keep_pixels : keep features between fit and labelling: ``auto``, ``always``, ``never``.
    watch : called with progress.
    command : the command line, to say how to resume.

    Returns
    -------
    Run : the published run. Its palette holds the mean colour of each cluster's pixels, its
        counts pixels, its inertia Σ‖x − c‖² over all positions.

    Raises
    ------
    UsageError : an option or an input is not as it must be.
    KmdistError : no image can be used, or the job cannot be done; what is finished is kept.
    """
    if fit_only and (not shared or keep_responses):
        raise UsageError(
            "fit_only makes clusters to label with later: it needs shared=True and keeps no "
            "responses"
        )
    measured = texture_of(
        preset,
        scales,
        pool_px=pool_px,
        whiten=whiten,
        textons=textons,
        color_weight=color_weight,
    )
    fit = FitOptions(init, n_init, max_iter, tol, seed)
    wanted = texture_wanted(k, shared, measured, sample, fit, keep_responses)
    parameters = {
        "k": list(wanted.choices or wanted.ks),
        "choose": bool(wanted.choices),
        "shared": shared,
        "features": wanted.texture.record(),
        "sample": sample,
        "keep_responses": keep_responses,
        "init": init,
        "n_init": n_init,
        "max_iter": max_iter,
        "tol": tol,
        "seed": seed,
        "block_mpx": block_mpx,
        "max_pixels": max_pixels,
        **({"fit_only": True} if fit_only else {}),
    }
    options = JobOptions(
        Compute(workers, worker_kind, cluster, scheduler, client, tuple(trust), insecure),
        block_mpx=block_mpx,
        keep_pixels=keep_pixels,
        max_pixels=max_pixels,
        strict=strict,
        resume=resume,
        overwrite=overwrite,
        seed=seed,
    )
    compile_kernels(lambda: exercise_texture_kernels(wanted.texture), watch)
    listed = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    target = run_location(output) if output is not None else temporary_output()
    with open_job(
        "texture", listed, target, parameters, options, watch=watch, command=command
    ) as job:
        if job.writer.already_complete:
            watch(Message(f"{target} is complete already"))
        else:
            publish(job, _segment(job, wanted, shared=shared, fit_only=fit_only))
    return open_run(target)


def _segment(
    job: Job, wanted: TextureWanted, *, shared: bool, fit_only: bool
) -> Mapping[int, Mapping[str, Any]]:
    """Project the memory, and run the passes."""
    plan = texture_projection(job, wanted, passes=2 if shared else 1)
    job.watch(Message(str(plan)))
    plan.require()
    if any(source.dtype != "uint8" for source in job.sources):
        job.watch(Message("textures are measured on 8 bits a channel"))
    if shared:
        return texture_shared(job, wanted, keep=plan.keep_pixels, label=not fit_only)
    return texture_each(job, wanted)
