"""Label new images of characters with the clusters of an earlier run.

One pass over the images, and one before to find files that are damaged.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.engine.rows import Loader
from kmdist.job.job import Job, JobOptions
from kmdist.job.progress import Message, Watcher
from kmdist.recipes.digits.labels import report_all
from kmdist.recipes.digits.left_out import check_images
from kmdist.recipes.digits.memory import keep_rows
from kmdist.recipes.digits.model import DigitModel
from kmdist.recipes.digits.opening import (
    Input,
    Opened,
    open_digit_job,
    open_further,
    with_classes_of,
)
from kmdist.recipes.digits.report import Target
from kmdist.recipes.digits.results import (
    create_labels,
    publish_digits,
    record_of,
    scores_by,
    write_model,
    write_names,
    write_results,
)
from kmdist.recipes.digits.rows import load_rows
from kmdist.store import Run


def predict_digits(
    run: Run,
    given: Input,
    target: str | Path,
    options: JobOptions,
    *,
    watch: Watcher,
    command: Sequence[str] = (),
) -> None:
    """Label new images and write them as a run with the clusters, numbers and maps of the model.

    Parameters
    ----------
    run : of digits, with one k.
    given : the new images. Classes that are known score, by the model's maps.

    Raises
    ------
    UsageError : the images are not as the model's are.
    """
    model = DigitModel.of_run(run)
    opened = open_further(given, options.block_mpx, model.size, model.dark_ink)
    opened = _scored_as(run, opened)
    labelling = model.labelling
    parameters = {
        **given.parameters(),
        "k": [labelling.k],
        "preset": run.attributes["preset"],
        "model": {
            "path": str(run.path),
            "fingerprint": run.attributes.get("fingerprint"),
            "centroids_sha256": hashlib.sha256(np.asarray(run.centroids).tobytes()).hexdigest(),
        },
        "block_mpx": options.block_mpx,
        "dark_ink": opened.dark_ink,
    }
    with open_digit_job(
        "digits", opened, target, parameters, options, watch=watch, command=command
    ) as job:
        if job.writer.already_complete:
            watch(Message(f"{target} is complete already"))
        else:
            _label(job, run, replace(model, dark_ink=opened.dark_ink), opened)


def _scored_as(run: Run, opened: Opened) -> Opened:
    """The images with their classes numbered as the model's, if both have some."""
    names = run.attributes.get("class_names") or []
    stack = opened.stack
    if stack.classes is None or names:
        return replace(opened, stack=with_classes_of(stack, names))
    return opened


def _label(job: Job, run: Run, model: DigitModel, opened: Opened) -> None:
    describer, k = model.describer, model.labelling.k
    keep_rows(job, opened.items, describer.preset, (k,))
    if opened.stack.names:  # one of which may be damaged; else a block that is lost has no labels
        opened = check_images(job, opened)
    sources = [Loader(load_rows, (part, describer)) for part in opened.items]
    spec = create_labels(job, opened, k, "")
    goal = Target(model.labelling, np.asarray(run.centroids), spec)
    opened, (report,) = report_all(job, sources, opened, [goal], describer)
    write_results(job, "", goal, report)
    write_model(job, "", model)
    write_names(job, "", opened)
    record: dict[str, Any] = record_of(report, n_iter=0, stop_reason="predicted")
    record |= scores_by(report.table, run.attributes.get("maps"))
    publish_digits(job, opened, str(run.attributes["preset"]), model, {k: record})
