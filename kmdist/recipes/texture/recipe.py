"""Texture: segment photographs by texture, each on its own or all with one set of clusters.

Each image on its own: one pass, one task a block. Shared, and images larger than a block: two
passes over the pixels, three with textons (`kmdist.recipes.texture.shared`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmdist.cluster import Compute
from kmdist.engine.fits import FitOptions
from kmdist.engine.passes import Pool
from kmdist.errors import UsageError
from kmdist.job.compiling import compile_kernels
from kmdist.job.job import Job, JobOptions
from kmdist.job.memory import Slots
from kmdist.job.photographs import Inputs, Photographs, open_photographs
from kmdist.job.progress import Message, Watcher, watch_nothing
from kmdist.job.recipe import Outline, Results
from kmdist.job.running import run_job
from kmdist.recipes.texture.each import texture_each
from kmdist.recipes.texture.memory import texture_projection
from kmdist.recipes.texture.model import DEFAULT_PRESET
from kmdist.recipes.texture.plan import outline
from kmdist.recipes.texture.shared import TextureGroup
from kmdist.recipes.texture.wanted import TextureWanted, texture_of, texture_wanted
from kmdist.recipes.texture.warm_up import exercise_texture_kernels
from kmdist.store import Run


def texture(
    inputs: Inputs,
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
    procedure = texture_fit(
        inputs,
        k=k,
        preset=preset,
        shared=shared,
        sample=sample,
        scales=scales,
        pool_px=pool_px,
        whiten=whiten,
        textons=textons,
        color_weight=color_weight,
        keep_responses=keep_responses,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        tol=tol,
        seed=seed,
        fit_only=fit_only,
    )
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
    return run_job(procedure, output, options, watch=watch, command=command)


def texture_fit(
    inputs: Inputs,
    *,
    k: int | str | Sequence[int] | None = None,
    preset: str = DEFAULT_PRESET,
    shared: bool = False,
    sample: float | None = None,
    scales: str = "linear",
    keep_responses: bool = False,
    init: str = "k-means++",
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    seed: int = 0,
    fit_only: bool = False,
    **changed: float | None,
) -> "TextureFit":
    """What a texture job does; parameters and errors as of `texture`.

    Parameters
    ----------
    changed : numbers of the preset: ``pool_px``, ``whiten``, ``textons``, ``color_weight``.
    """
    if fit_only and (not shared or keep_responses):
        raise UsageError(
            "fit_only makes clusters to label with later: it needs shared=True and keeps no "
            "responses"
        )
    measured = texture_of(preset, scales, **changed)
    fit = FitOptions(init, n_init, max_iter, tol, seed)
    wanted = texture_wanted(k, shared, measured, sample, fit, keep_responses)
    asked = {
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
        **({"fit_only": True} if fit_only else {}),
    }
    return TextureFit(inputs, wanted, asked, shared, fit_only)


@dataclass(frozen=True)
class TextureFit:
    """Fit textures to photographs and label them: a `kmdist.job.recipe.Procedure`.

    Parameters
    ----------
    asked : the options, as a run records them.
    """

    inputs: Inputs
    wanted: TextureWanted
    asked: Mapping[str, Any]
    shared: bool
    fit_only: bool
    recipe: str = "texture"

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Photographs:
        """Find and probe the image files."""
        return open_photographs(self.inputs, options, pool, watch)

    def parameters(self, workload: Photographs, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        how = {"block_mpx": options.block_mpx, "max_pixels": options.max_pixels}
        return {**self.asked, **how}

    def outline(self, workload: Photographs, slots: Slots, options: JobOptions) -> Outline:
        """Passes, tasks, memory, checkpoints and results."""
        return outline(self.wanted, self.shared, workload, slots, options.keep_pixels)

    def run(self, job: Job, workload: Photographs) -> Results:
        """Measure, fit, label."""
        wanted, blocks = self.wanted, workload.blocks
        compile_kernels(lambda: exercise_texture_kernels(wanted.texture), job.watch)
        passes, keep_pixels = 2 if self.shared else 1, job.options.keep_pixels
        plan = texture_projection(
            workload, job.pool, wanted, keep_pixels=keep_pixels, passes=passes
        )
        job.require(plan)
        if any(source.dtype != "uint8" for source in workload.sources):
            job.watch(Message("textures are measured on 8 bits a channel"))
        if self.shared:
            group = TextureGroup(job, wanted, blocks, keep=plan.keep_pixels)
            by_k = group.run(label=not self.fit_only)
        else:
            by_k = texture_each(job, blocks, wanted)
        return Results(by_k, {"pixels": workload.pixels})
