"""Digits: group small images of characters without labels; labels, where known, only score.

Two passes over the images (describe, make rows) and one more for what the run records. Where rows
are pixels, there is a first pass only to find damaged files, or where rows are not kept. Passes
over rows are said in `kmdist.recipes.digits.fitting`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.cluster import Compute
from kmdist.errors import UsageError
from kmdist.job.endings import temporary_output
from kmdist.job.job import Job, JobOptions
from kmdist.job.progress import Message, Watcher, watch_nothing
from kmdist.recipes.digits.centroids import FitOptions
from kmdist.recipes.digits.fitting import fit_models
from kmdist.recipes.digits.held_out import label_tests
from kmdist.recipes.digits.labels import report_all
from kmdist.recipes.digits.left_out import require_enough
from kmdist.recipes.digits.memory import keep_rows
from kmdist.recipes.digits.model import PRESETS, DigitModel
from kmdist.recipes.digits.opening import (
    Input,
    Opened,
    open_digit_job,
    open_further,
    open_input,
    with_classes_of,
)
from kmdist.recipes.digits.report import Target, rank_clusters
from kmdist.recipes.digits.results import (
    create_labels,
    publish_digits,
    record_of,
    scores_by,
    write_model,
    write_names,
    write_results,
)
from kmdist.recipes.digits.rows import first_pass, make_rows
from kmdist.store import Run, open_run, run_location

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
    options = JobOptions(
        Compute(workers, worker_kind, cluster, scheduler, client, tuple(trust), insecure),
        block_mpx=block_mpx,
        keep_pixels=keep_pixels,
        strict=strict,
        resume=resume,
        overwrite=overwrite,
        seed=seed,
    )
    given = Input(images, cell, labels, polarity)
    opened = open_input(given, block_mpx)
    ks = checked_ks(k, opened.stack.n)
    name = checked_preset(preset, opened.stack.n)
    fit = _fit_options(name, init, n_init, max_iter, tol, seed)
    tested = None
    if test is not None:
        tested = _open_test(Input(test, cell, test_labels, polarity), opened, block_mpx)
        opened = replace(opened, messages=[*opened.messages, *tested.messages])
    parameters = {
        **given.parameters(),
        "k": list(ks),
        "preset": name,
        "test": None if tested is None else tested.stack.fingerprint(),
        "fit": None if PRESETS[name].sets else {**vars(fit)},
        "seed": seed,
        "block_mpx": block_mpx,
        "dark_ink": opened.dark_ink,
    }
    target = run_location(output) if output is not None else temporary_output()
    with open_digit_job(
        "digits", opened, target, parameters, options, watch=watch, command=command
    ) as job:
        if job.writer.already_complete:
            watch(Message(f"{target} is complete already"))
        else:
            _fit_and_write(job, opened, tested, ks, name, fit)
    return open_run(target)


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


def _fit_options(
    preset: str,
    init: str | None,
    n_init: int | None,
    max_iter: int | None,
    tol: float | None,
    seed: int,
) -> FitOptions:
    asked = {"init": init, "n_init": n_init, "max_iter": max_iter, "tol": tol}
    given = {key: value for key, value in asked.items() if value is not None}
    if given and PRESETS[preset].sets:
        raise UsageError(
            f"{', '.join(given)}: for plain k-means (raw, deskew, gradient); the preset "
            f"{preset!r} has none of them"
        )
    if init not in (None, "k-means++", "k-means||", "random"):
        raise UsageError(f"init {init!r}: must be k-means++, k-means|| or random")
    defaults: dict[str, Any] = {"init": "k-means++", "n_init": 1, "max_iter": 300, "tol": 1e-4}
    return FitOptions(**{**defaults, **given}, seed=seed)


def _open_test(given: Input, train: Opened, block_mpx: float) -> Opened:
    if train.stack.classes is None:
        raise UsageError(
            f"--test scores by classes, and {train.stack.name} has none; give its --labels"
        )
    size = (train.stack.width, train.stack.height)
    opened = open_further(given, block_mpx, size, train.dark_ink)
    if opened.stack.classes is None:
        raise UsageError(f"--test {opened.stack.name}: no classes; give its --test-labels")
    return replace(opened, stack=with_classes_of(opened.stack, train.stack.class_names))


def _fit_and_write(
    job: Job,
    opened: Opened,
    tested: Opened | None,
    ks: tuple[int, ...],
    name: str,
    options: FitOptions,
) -> None:
    keep = keep_rows(job, opened.items, PRESETS[name], ks)
    opened, describer = first_pass(job, opened, PRESETS[name], keep=keep)
    opened, rows = make_rows(job, opened, describer, keep=keep)
    require_enough(opened, ks)
    fits = fit_models(job, rows, ks, PRESETS[name], options)
    with job.timed("rank"):
        ranked = rank_clusters(rows, [fit.model for fit in fits], describer.scale)
    prefixes = [f"k{k}/" if len(ks) > 1 else "" for k in ks]
    targets = [
        Target(model, centroids, create_labels(job, opened, k, prefix))
        for k, prefix, (model, centroids) in zip(ks, prefixes, ranked, strict=True)
    ]
    opened, reports = report_all(job, rows.sources, opened, targets, describer)
    tables = label_tests(job, tested, describer, [model for model, _ in ranked])
    results = {}
    size = (opened.stack.width, opened.stack.height)
    for k, prefix, fit, target, report, table in zip(
        ks, prefixes, fits, targets, reports, tables, strict=True
    ):
        model = DigitModel(describer, target.model, size, opened.dark_ink)
        write_results(job, prefix, target, report)
        write_model(job, prefix, model)
        write_names(job, prefix, opened)
        if len(fit.history):
            history = fit.history / np.array([describer.scale**2, describer.scale**2, 1])
            job.writer.write_array(f"{prefix}history", history, ("iteration", "quantity"))
        results[k] = {
            **record_of(report, n_iter=fit.n_iter, stop_reason=fit.stop_reason),
            **scores_by(report.table),
        }
        if table is not None:
            job.writer.write_array(f"{prefix}confusion_test", table, ("cluster", "class"))
            results[k]["scores_test"] = scores_by(table, results[k]["maps"])["scores"]
    publish_digits(job, opened, name, model, results)
