"""Quantize: photographs to a palette of k colours, shared by the collection or one an image.

Passes over the files: ``--shared`` decodes each block twice (count, label), or once where the
pixels are kept on the workers; ``--per-image`` decodes each image once, but an image larger than
a block as ``--shared`` does. Tasks: blocks × passes, plus the merge tree of the counting pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.cluster import Compute
from kmdist.engine.passes import Pool, tree_shape
from kmdist.errors import UsageError
from kmdist.job.choices import k_choices
from kmdist.job.compiling import compile_kernels
from kmdist.job.job import Job, JobOptions
from kmdist.job.memory import Slots
from kmdist.job.photographs import Inputs, Photographs, open_photographs
from kmdist.job.progress import Watcher, watch_nothing
from kmdist.job.recipe import Outline, Results
from kmdist.job.running import run_job
from kmdist.recipes.quantize.each import quantize_each
from kmdist.recipes.quantize.memory import (
    CHECKPOINT_BYTES,
    COUNT_FAN_IN,
    PHOTOGRAPHIC,
    projection,
)
from kmdist.recipes.quantize.palette import PaletteOptions
from kmdist.recipes.quantize.palette_files import read_palette
from kmdist.recipes.quantize.shared import quantize_shared
from kmdist.recipes.quantize.wanted import Wanted
from kmdist.recipes.quantize.warm_up import exercise_palette_kernels
from kmdist.store import Run

DEFAULT_K = 16
MAX_K = 256


def quantize(
    inputs: Inputs,
    output: str | Path | None = None,
    *,
    k: int | str | Sequence[int] | None = None,
    psnr: float | None = None,
    shared: bool = True,
    space: str = "rgb",
    init: str | Path | np.ndarray = "k-means++",
    metric: str = "euclidean",
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
    block_mpx: float = 16.0,
    keep_pixels: str = "auto",
    max_pixels: int = 200_000_000,
    fit_only: bool = False,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    watch: Watcher = watch_nothing,
    command: Sequence[str] = (),
) -> Run:
    """Reduce photographs to palettes, by exact k-means on their colour histogram.

    Parameters
    ----------
    inputs : folders, globs, files, text files that list files, or ``sample:photos``.
    output : the run to write; None: a temporary one, removed when this process ends.
    k : colours of the palette, 1 to 256, default 16; several numbers share the passes.
        ``auto`` (2 to 32) and ``A..B`` choose one from a range, by `kmdist.estimators.selection`.
    psnr : instead of `k`, a quality in dB to reach with the fewest colours found.
    shared : one palette for the collection; False: one an image.
    space : ``rgb``, ``lab``, ``oklab`` or ``hsv``.
    init : ``k-means++``, ``random``, (k, 3) sRGB colours, or a file that holds them.
    metric : ``euclidean`` (k-means) or ``manhattan`` (k-medians, `rgb` only).
    n_init, max_iter, tol, seed : as in `kmdist.recipes.quantize.palette.PaletteOptions`.
    workers, worker_kind, cluster, scheduler, client, trust, insecure : where to run; see
        `kmdist.cluster.Compute`.
    fit_only : write the palette and no label maps; the run is a model for `kmdist.predict`.
    block_mpx, keep_pixels, max_pixels, strict, resume, overwrite : see
        `kmdist.job.job.JobOptions`.
    watch : called with progress.
    command : the command line, to say how to resume.

    Returns
    -------
    Run : the published run.

    Raises
    ------
    UsageError : an option or an input is not as it must be.
    KmdistError : no image can be used, or the job cannot be done; what is finished is kept.
    """
    procedure = quantize_fit(
        inputs,
        k=k,
        psnr=psnr,
        shared=shared,
        space=space,
        init=init,
        metric=metric,
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


def quantize_fit(
    inputs: Inputs,
    *,
    k: int | str | Sequence[int] | None = None,
    psnr: float | None = None,
    shared: bool = True,
    space: str = "rgb",
    init: str | Path | np.ndarray = "k-means++",
    metric: str = "euclidean",
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    seed: int = 0,
    fit_only: bool = False,
) -> "QuantizeFit":
    """What a quantize job does; parameters and errors as of `quantize`."""
    fit = PaletteOptions(_initial(init), n_init, max_iter, tol, seed, metric)
    wanted = _wanted(k, psnr, space, fit)
    if wanted.choices and not shared:
        raise UsageError(f"k = {k} chooses one k for the collection; give a number of colours")
    asked = {
        "k": list(wanted.choices or wanted.ks) if psnr is None else None,
        "choose": bool(wanted.choices),
        "metric": metric,
        "psnr": psnr,
        "shared": shared,
        "space": space,
        "init": _describe(wanted.fit.init),
        "n_init": n_init,
        "max_iter": max_iter,
        "tol": tol,
        "seed": seed,
        **({"fit_only": True} if fit_only else {}),
    }
    if fit_only and not shared:
        raise UsageError("fit_only makes one palette to label with later; it needs shared=True")
    return QuantizeFit(inputs, wanted, asked, shared, fit_only)


@dataclass(frozen=True)
class QuantizeFit:
    """Fit palettes to photographs and label them: a `kmdist.job.recipe.Procedure`.

    Parameters
    ----------
    asked : the options, as a run records them.
    """

    inputs: Inputs
    wanted: Wanted
    asked: Mapping[str, Any]
    shared: bool
    fit_only: bool
    recipe: str = "quantize"

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Photographs:
        """Find and probe the image files."""
        return open_photographs(self.inputs, options, pool, watch)

    def parameters(self, workload: Photographs, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        how = {"block_mpx": options.block_mpx, "max_pixels": options.max_pixels}
        return {**self.asked, **how}

    def outline(self, workload: Photographs, slots: Slots, options: JobOptions) -> Outline:
        """Passes, tasks, memory and checkpoints."""
        n_fits, blocks = len(self.wanted.ks), len(workload.blocks)
        results = workload.label_bytes(n_fits)
        if not self.shared:
            memory = projection(workload, slots, n_fits, passes=1)
            return Outline(1, blocks, memory, result_bytes=results)
        memory = projection(workload, slots, n_fits, keep_pixels=options.keep_pixels)
        decodes = blocks if memory.keep_pixels else 0
        tasks = decodes + 2 * blocks + sum(tree_shape(blocks, COUNT_FAN_IN)[1:])
        checkpoints = int(CHECKPOINT_BYTES * PHOTOGRAPHIC * workload.pixels)
        return Outline(1 if memory.keep_pixels else 2, tasks, memory, checkpoints, results)

    def run(self, job: Job, workload: Photographs) -> Results:
        """Count colours, fit, label."""
        compile_kernels(lambda: exercise_palette_kernels(self.wanted.space), job.watch)
        if self.shared:
            by_k = quantize_shared(job, workload, self.wanted, label=not self.fit_only)
        else:
            by_k = quantize_each(job, workload, self.wanted)
        return Results(by_k, {"pixels": workload.pixels})


def _initial(init: str | Path | np.ndarray) -> str | np.ndarray:
    if isinstance(init, Path) or (isinstance(init, str) and init not in ("k-means++", "random")):
        return read_palette(init)
    return init


def _wanted(
    k: int | str | Sequence[int] | None, psnr: float | None, space: str, fit: PaletteOptions
) -> Wanted:
    if k is not None and psnr is not None:
        raise UsageError("k and psnr both decide the number of colours: give one of them")
    choices = k_choices(k) if isinstance(k, str) else ()
    if k is None or isinstance(k, str):
        ks: tuple[int, ...] = choices or (DEFAULT_K,)
    else:
        ks = (k,) if isinstance(k, int | np.integer) else tuple(k)
    ks = tuple(sorted({int(one) for one in ks}))
    for one in ks:
        if not 1 <= one <= MAX_K:
            raise UsageError(f"k is {one}; palettes have 1 to {MAX_K} colours")
    if choices or psnr is not None:
        ks = (0,)
    if not isinstance(fit.init, str) and (len(ks) > 1 or len(fit.init) != ks[0]):
        raise UsageError(
            f"the initial palette has {len(fit.init)} colours; give -k {len(fit.init)} alone"
        )
    return Wanted(ks, choices, psnr, space, fit)


def _describe(init: str | np.ndarray) -> Any:
    return init if isinstance(init, str) else np.asarray(init).tolist()
