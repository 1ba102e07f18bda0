"""Digits: group small images of characters without labels; labels, where known, only score.

Two passes over the images (describe, make rows) and one more for what the run records. Where rows
are pixels, there is a first pass only to find damaged files, or where rows are not kept. Passes
over rows are said in `kmdist.recipes.digits.fitting`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.cluster import Compute
from kmdist.engine.passes import Pool
from kmdist.errors import UsageError
from kmdist.job.job import Job, JobOptions
from kmdist.job.memory import Slots
from kmdist.job.progress import Watcher, watch_nothing
from kmdist.job.recipe import Outline, Results
from kmdist.job.running import run_job
from kmdist.recipes.digits.centroids import FitOptions
from kmdist.recipes.digits.fitting import fit_models
from kmdist.recipes.digits.left_out import require_enough
from kmdist.recipes.digits.memory import keep_rows
from kmdist.recipes.digits.model import PRESETS, DigitModel
from kmdist.recipes.digits.opening import (
    Input,
    Opened,
    open_further,
    open_input,
    with_classes_of,
)
from kmdist.recipes.digits.plan import outline
from kmdist.recipes.digits.report import rank_clusters
from kmdist.recipes.digits.results import Clustering, label_and_write
from kmdist.recipes.digits.rows import first_pass, make_rows
from kmdist.store import Run

DEFAULT_K = 10
LANDMARK_IMAGES = 2000
"""From this many images on, landmarks are the default."""


def digits(
    images: Any,
    output: str | Path | None = None,
    *,
    k: int | Sequence[int] | None = None,
    preset: str | None = None,
    cell: tuple[int, int] | None = None,
    labels: str | Path | None = None,
    test: Any = None,
    test_labels: str | Path | None = None,
    polarity: str = "auto",
    init: str | None = None,
    n_init: int | None = None,
    max_iter: int | None = None,
    tol: float | None = None,
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
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    watch: Watcher = watch_nothing,
    command: Sequence[str] = (),
) -> Run:
    """Group images of characters.

    Parameters
    ----------
    images, cell, labels : see `kmdist.recipes.digits.stacks.open_stack`; labels only score the
        result.
    output : the run to write; None: a temporary one, removed when this process ends.
    k : clusters, default 10; several numbers share rows and landmarks (as many as the largest
        asks for).
    preset : ``raw`` pixels; ``deskew``, as OpenCV's tutorial does; ``gradient`` features of
        normalised images; ``landmark``: these, over-clustered and merged; ``refined``: the same
        with more landmarks, and labels learnt anew. None: ``landmark`` from 2,000 images on,
        else ``gradient``.
    test, test_labels : further images to label and score; a sheet has the same cell.
    polarity : ``auto``, ``light`` (ink on dark paper) or ``dark``.
    init, n_init, max_iter, tol : of plain k-means, as for `kmdist.KMeans`; default
        ``k-means++``, 1, 300, 1e-4. Landmarks take none of them.
    seed, workers, worker_kind, cluster, scheduler, client, trust, insecure, block_mpx, strict,
    resume, overwrite, watch, command : as for `kmdist.quantize`.
    keep_pixels : keep rows on the workers: ``auto``, ``always`` or ``never``.

    Returns
    -------
    Run : with ``labels`` (n,).

    Raises
    ------
    UsageError : an option or an input is not as it must be.
    KmdistError : a file is damaged, or the job cannot be done; what is finished is kept.
    """
    procedure = digits_fit(
        images,
        k=k,
        preset=preset,
        cell=cell,
        labels=labels,
        test=test,
        test_labels=test_labels,
        polarity=polarity,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        tol=tol,
        seed=seed,
    )
    options = JobOptions(
        Compute(workers, worker_kind, cluster, scheduler, client, tuple(trust), insecure),
        block_mpx=block_mpx,
        keep_pixels=keep_pixels,
        strict=strict,
        resume=resume,
        overwrite=overwrite,
        seed=seed,
    )
    return run_job(procedure, output, options, watch=watch, command=command)


def digits_fit(
    images: Any,
    *,
    k: int | Sequence[int] | None = None,
    preset: str | None = None,
    cell: tuple[int, int] | None = None,
    labels: str | Path | None = None,
    test: Any = None,
    test_labels: str | Path | None = None,
    polarity: str = "auto",
    init: str | None = None,
    n_init: int | None = None,
    max_iter: int | None = None,
    tol: float | None = None,
    seed: int = 0,
) -> "DigitsFit":
    """What a digits job does; parameters and errors as of `digits`."""
    given = Input(images, cell, labels, polarity)
    tested = None if test is None else Input(test, cell, test_labels, polarity)
    asked = {"init": init, "n_init": n_init, "max_iter": max_iter, "tol": tol}
    set_by_user = {key: value for key, value in asked.items() if value is not None}
    return DigitsFit(given, tested, k, preset, set_by_user, seed)


@dataclass(frozen=True)
class DigitsFit:
    """Group images of characters: a `kmdist.job.recipe.Procedure`.

    Parameters
    ----------
    given, tested : images to fit, and to score afterwards.
    k, preset : as asked for; the images decide what is not.
    plain : options of plain k-means that are given.
    """

    given: Input
    tested: Input | None
    k: int | Sequence[int] | None
    preset: str | None
    plain: Mapping[str, Any]
    seed: int
    recipe: str = "digits"

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Opened:
        """Open both stacks."""
        opened = open_input(self.given, options.block_mpx)
        checked_ks(self.k, opened.stack.n)
        self.options(checked_preset(self.preset, opened.stack.n))
        if self.tested is None:
            return opened
        tested = _open_test(self.tested, opened, options.block_mpx)
        return replace(opened, tested=tested, notes=[*opened.notes, *tested.notes])

    def parameters(self, workload: Opened, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        tested, name = workload.tested, checked_preset(self.preset, workload.stack.n)
        return {
            **self.given.parameters(),
            "k": list(checked_ks(self.k, workload.stack.n)),
            "preset": name,
            "test": None if tested is None else tested.fingerprint,
            "fit": None if PRESETS[name].sets else {**vars(self.options(name))},
            "seed": self.seed,
            "block_mpx": options.block_mpx,
            "dark_ink": workload.dark_ink,
        }

    def outline(self, workload: Opened, slots: Slots, options: JobOptions) -> Outline:
        """Passes, tasks, memory, checkpoints and results."""
        ks = checked_ks(self.k, workload.stack.n)
        name = checked_preset(self.preset, workload.stack.n)
        fit = self.options(name)
        return outline(workload, PRESETS[name], ks, fit, slots, options.keep_pixels)

    def options(self, preset: str) -> FitOptions:
        """Of plain k-means.

        Raises
        ------
        UsageError : the preset has none of those that are given, or they are not as they must be.
        """
        if self.plain and PRESETS[preset].sets:
            raise UsageError(
                f"{', '.join(self.plain)}: for plain k-means (raw, deskew, gradient); the preset "
                f"{preset!r} has none of them"
            )
        if self.plain.get("init") not in (None, "k-means++", "k-means||", "random"):
            raise UsageError(f"init {self.plain['init']!r}: must be k-means++, k-means|| or random")
        return FitOptions(**self.plain, seed=self.seed)

    def run(self, job: Job, workload: Opened) -> Results:
        """Make rows, fit a model for each k, number its clusters, label."""
        ks = checked_ks(self.k, workload.stack.n)
        name = checked_preset(self.preset, workload.stack.n)
        preset = PRESETS[name]
        keep = keep_rows(job, workload.items, preset, ks)
        opened, describer = first_pass(job, workload, preset, keep=keep)
        opened, rows = make_rows(job, opened, describer, keep=keep)
        require_enough(opened, ks)
        fits = fit_models(job, rows, ks, preset, self.options(name))
        with job.timed("rank"):
            ranked = rank_clusters(rows, [fit.model for fit in fits], describer.scale)
        units = np.array([describer.scale**2, describer.scale**2, 1])
        clusterings = [
            Clustering(
                DigitModel(describer, labelling, opened.size, opened.dark_ink),
                centroids,
                fit.stop_reason,
                fit.n_iter,
                fit.history / units,
                prefix=f"k{k}/" if len(ks) > 1 else "",
            )
            for k, fit, (labelling, centroids) in zip(ks, fits, ranked, strict=True)
        ]
        results, _ = label_and_write(job, opened, rows.sources, name, clusterings)
        return results


def checked_preset(preset: str | None, n: int) -> str:
    """The name of a preset, or of the one that `n` images take.

    Raises
    ------
    UsageError : no such preset.
    """
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"preset {preset!r}: must be one of {', '.join(PRESETS)}")
    return preset or ("landmark" if n >= LANDMARK_IMAGES else "gradient")


def checked_ks(k: int | Sequence[int] | str | None, n: int) -> tuple[int, ...]:
    """Numbers of clusters, ascending.

    Raises
    ------
    UsageError : not a number or several, or more than `n` images.
    """
    if isinstance(k, str):
        raise UsageError(f"k is {k!r}: of images, give a number or several to compare: 10,16,36")
    ks = (k,) if isinstance(k, int | np.integer) else tuple(k or (DEFAULT_K,))
    for one in ks:
        if not 1 <= one <= n:
            raise UsageError(f"k is {one}; {n:,} images make 1 to {n:,} clusters")
    return tuple(sorted({int(one) for one in ks}))


def _open_test(given: Input, train: Opened, block_mpx: float) -> Opened:
    if train.stack.classes is None:
        raise UsageError(
            f"--test scores by classes, and {train.stack.name} has none; give its --labels"
        )
    opened = open_further(given, block_mpx, train.size, train.dark_ink)
    if opened.stack.classes is None:
        raise UsageError(f"--test {opened.stack.name}: no classes; give its --test-labels")
    return replace(opened, stack=with_classes_of(opened.stack, train.stack.class_names))
