"""Digits: group small images of characters without labels; labels, where known, only score.

Two passes over the images (describe, make rows), one where rows are pixels, and one more for what
the run records; passes over rows are said in `kmdist.recipes.digit_fit`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.cluster import Compute
from kmdist.errors import UsageError
from kmdist.passes import run_pass
from kmdist.recipes.digit_fit import (
    FitOptions,
    Fitted,
    find_components,
    fit_models,
    make_rows,
)
from kmdist.recipes.digit_job import Input, Opened, open_digit_job, open_input
from kmdist.recipes.digit_model import PRESETS, Describer, Range, Ranked, arrays_of
from kmdist.recipes.digit_report import (
    Report,
    Target,
    classes_of,
    rank_clusters,
    report_all,
    scores_of,
    scores_on,
)
from kmdist.recipes.job import Job, JobOptions
from kmdist.recipes.progress import Message, Watcher, watch_nothing
from kmdist.recipes.quantize import temporary_output
from kmdist.scores import confusion_matrix, hungarian_map, majority_map
from kmdist.stacks import Stack
from kmdist.stacks.stack import full_scale
from kmdist.store import Run, label_dtype, open_run

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
    images, cell, labels : see `kmdist.stacks.open_stack`; labels only score the result.
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
    ks = _checked_ks(k, opened.stack.n)
    name = preset or ("landmark" if opened.stack.n >= LANDMARK_IMAGES else "gradient")
    fit = _fit_options(name, init, n_init, max_iter, tol, seed)
    tested = None
    if test is not None:
        tested = _open_test(Input(test, cell, test_labels, polarity), opened, block_mpx)
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
    target = Path(output) if output is not None else temporary_output()
    with open_digit_job(
        "digits", opened, target, parameters, options, watch=watch, command=command
    ) as job:
        if job.writer.already_complete:
            watch(Message(f"{target} is complete already"))
        else:
            _fit_and_write(job, opened, tested, ks, name, fit)
    return open_run(target)


def _checked_ks(k: int | Sequence[int] | None, n: int) -> tuple[int, ...]:
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
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r}: must be one of {', '.join(PRESETS)}")
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
    polarity = "dark" if train.dark_ink else "light"
    if given.polarity == "auto":
        given = Input(given.images, given.cell, given.labels, polarity)
    opened = open_input(given, block_mpx)
    ours, theirs = train.stack, opened.stack
    if (ours.height, ours.width) != (theirs.height, theirs.width):
        raise UsageError(
            f"{theirs.name}: images of {theirs.width} × {theirs.height} px; the fitted ones have "
            f"{ours.width} × {ours.height}"
        )
    return opened


def _fit_and_write(
    job: Job,
    opened: Opened,
    tested: Opened | None,
    ks: tuple[int, ...],
    name: str,
    options: FitOptions,
) -> None:
    preset = PRESETS[name]
    describer = find_components(job, opened.items, preset)
    rows = make_rows(job, opened.items, describer)
    fits = fit_models(job, rows, ks, preset, options)
    with job.timed("rank"):
        ranked = rank_clusters(rows, [fit.model for fit in fits])
    targets = [
        Target(model, centroids, _labels_array(job, opened, k, _prefix(ks, k)))
        for k, (model, centroids) in zip(ks, ranked, strict=True)
    ]
    reports = report_all(job, rows, opened.items, opened.stack, targets, describer)
    if describer.projection is not None:
        job.writer.write_group("model")
        job.writer.write_array("model/mean", describer.projection.mean, ("feature",))
        job.writer.write_array(
            "model/matrix", describer.projection.matrix, ("feature", "component")
        )
    tables = _test_tables(job, tested, describer, [model for model, _ in ranked], opened.stack)
    results = {}
    for k, fit, target, report, table in zip(ks, fits, targets, reports, tables, strict=True):
        scale = full_scale(str(rows.dtype))
        _write_fit(job, _prefix(ks, k), fit, target, report, scale)
        results[k] = _attributes(fit, report, table, opened.stack)
        if table is not None:
            job.writer.write_array(f"{_prefix(ks, k)}confusion_test", table, ("cluster", "class"))
    _publish(job, opened, name, results)


def _prefix(ks: Sequence[int], k: int) -> str:
    return f"k{k}/" if len(ks) > 1 else ""


def _labels_array(job: Job, opened: Opened, k: int, prefix: str) -> Any:
    """One array for all images; a block is a chunk, so that no two tasks write one."""
    return job.writer.create_array(
        f"{prefix}labels",
        (opened.stack.n,),
        label_dtype(k, False),
        chunks=(opened.block_images,),
        dimension_names=("image",),
    )


def _write_fit(
    job: Job, prefix: str, fit: Fitted, target: Target, report: Report, scale: float
) -> None:
    write = job.writer.write_array
    write(
        f"{prefix}centroids",
        (target.centroids / scale).astype(np.float32),
        ("cluster", "feature"),
    )
    write(f"{prefix}counts", report.counts.astype(np.int64), ("cluster",))
    if len(fit.history):
        history = fit.history * np.array([1 / scale**2, 1 / scale**2, 1])
        write(f"{prefix}history", history, ("iteration", "quantity"))
    means = report.pictures / np.maximum(report.counts, 1)[:, None, None]
    write(f"{prefix}means", means.astype(np.float32), ("cluster", "row", "column"))
    job.writer.write_group(f"{prefix}members")
    write(f"{prefix}members/nearest", report.nearest.numbers, ("cluster", "member"))
    write(f"{prefix}members/drawn", report.drawn.numbers, ("cluster", "member"))
    if report.table.size:
        write(f"{prefix}confusion", report.table, ("cluster", "class"))
    job.writer.write_group(f"{prefix}labelling")
    model = target.model
    if isinstance(model, Ranked):
        for key, values in arrays_of(model).items():
            write(f"{prefix}labelling/{key}", values, tuple(f"axis{i}" for i in range(values.ndim)))


def _attributes(
    fit: Fitted, report: Report, table: np.ndarray | None, stack: Stack
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "k": len(report.counts),
        "inertia": report.inertia,
        "n_iter": fit.n_iter,
        "stop_reason": fit.stop_reason,
    }
    if stack.classes is not None:
        found["scores"] = scores_of(report.table)
        found["maps"] = {
            "majority": majority_map(report.table).tolist(),
            "hungarian": hungarian_map(report.table).tolist(),
        }
    if table is not None:
        found["scores_test"] = scores_on(table, report.table)
    return found


def _test_tables(
    job: Job,
    tested: Opened | None,
    describer: Describer,
    models: list[Ranked],
    stack: Stack,
) -> list[np.ndarray | None]:
    """Clusters × classes of the test images, the classes in the order of the fitted ones."""
    if tested is None:
        return [None] * len(models)
    if tested.stack.classes is None or stack.classes is None:
        raise UsageError("--test scores by classes: both the images and the test need labels")
    names = {name: i for i, name in enumerate(stack.class_names)}
    unknown = [name for name in tested.stack.class_names if name not in names]
    if unknown:
        raise UsageError(
            f"{tested.stack.name}: classes {', '.join(unknown[:5])} do not occur in the fitted "
            f"images: {', '.join(stack.class_names[:20])}"
        )
    number = np.array([names[name] for name in tested.stack.class_names])
    items = [(part, number[classes_of(tested.stack, part)]) for part in tested.items]
    with job.timed("test"):
        tables: list[np.ndarray | None] = run_pass(
            job.pool,
            _test_block,
            items,
            job.pool.broadcast(describer),
            job.pool.broadcast(models),
            len(names),
            merge=_merge_tables,
        )
    return tables


def _test_block(
    item: tuple[Range, np.ndarray], describer: Describer, models: list[Ranked], n_classes: int
) -> list[np.ndarray]:
    from kmdist.blas import one_blas_thread

    part, classes = item
    with one_blas_thread():
        rows = describer.rows(part.images())
        return [
            confusion_matrix(model.label(rows), classes, model.k, n_classes) for model in models
        ]


def _merge_tables(parts: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.sum(same, axis=0) for same in zip(*parts, strict=True)]


def _publish(job: Job, opened: Opened, preset: str, results: dict[int, dict[str, Any]]) -> None:
    stack = opened.stack
    common = {
        "seed": job.options.seed,
        "preset": preset,
        "n_images": stack.n,
        "image_size": [stack.width, stack.height],
        "dark_ink": opened.dark_ink,
        "class_names": list(stack.class_names),
        "rejected": [
            {"image": r.image, "code": r.code, "reason": r.reason} for r in opened.rejected
        ],
        "timings": {stage: round(seconds, 3) for stage, seconds in job.timings.items()},
    }
    if len(results) == 1:
        (single,) = results.values()
        job.writer.publish({**common, **single})
    else:
        job.writer.publish(common, runs=results)
