"""The last pass of a digits run: labels, and what it records of them.

A block that kills its workers here, after it was fitted, gets no labels: its images are counted in
the clusters' centroids and in nothing else.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kmdist.engine.passes import LostBlockError
from kmdist.engine.rows import Loader
from kmdist.job.block_pass import Codec, resumable_pass
from kmdist.job.endings import NoUsableImageError
from kmdist.job.job import Job
from kmdist.job.progress import Message
from kmdist.recipes.digits.blocks import Range, classes_of
from kmdist.recipes.digits.left_out import LeftOut, lost_images, merge_left_out
from kmdist.recipes.digits.model import Describer
from kmdist.recipes.digits.opening import Opened
from kmdist.recipes.digits.report import (
    Report,
    Target,
    merge_reports,
    no_reports,
    pack_reports,
    report_block,
    unpack_reports,
)
from kmdist.recipes.digits.rows import load_rows

_STATE = "left-out-labels"


def report_all(
    job: Job,
    sources: Sequence[Any],
    opened: Opened,
    targets: Sequence[Target],
    describer: Describer,
) -> tuple[Opened, list[Report]]:
    """The last pass over rows and images.

    Parameters
    ----------
    sources : of the rows, one an item; see `kmdist.engine.rows.Rows`.

    Returns
    -------
    opened : with blocks that killed their workers here among those that are lost.
    reports : one a target.
    """
    saved = job.writer.load_state(_STATE)
    lost = LeftOut() if saved is None else LeftOut.of_arrays(saved)
    n_classes = 0 if opened.stack.classes is None else len(opened.stack.class_names)
    height, width = describer.side(opened.stack.height, opened.stack.width)

    def set_aside(index: int, error: BaseException) -> list[Report]:
        nonlocal lost
        part = opened.items[index]
        found = lost_images(opened, part, error)
        if not all(has_room(target) for target in targets):
            raise LostBlockError(f"{found.rejected[0].image}: {error.args[0]}")
        lost = merge_left_out([lost, replace(found, firsts=(part.first,))])
        job.writer.save_state(_STATE, lost.arrays())
        return no_reports(targets, n_classes, (height, width))

    classes = [classes_of(opened.stack, part) for part in opened.items]
    loaders = [Loader(load_rows, (part, describer)) for part in opened.items]
    reports: list[Report] = resumable_pass(
        job,
        "label",
        report_block,
        [list(item) for item in zip(sources, opened.items, classes, strict=True)],
        job.pool.broadcast(list(targets)),
        job.pool.broadcast(describer),
        job.writer,
        job.options.seed,
        n_classes,
        codec=Codec(pack_reports, unpack_reports),
        pixels=[part.pixels for part in opened.items],
        merge=merge_reports,
        # Where images were left out, blocks are others than before.
        name=f"label-without-{len(job.rejected)}" if job.rejected else "label",
        on_failure=set_aside,
        alone=[list(item) for item in zip(loaders, opened.items, classes, strict=True)],
    )
    opened = _without_labels(job, opened, lost)
    _mark(job, opened.lost, targets)
    return opened, reports


def has_room(target: Target) -> bool:
    """Whether the type of the labels has a value that is no cluster."""
    return target.spec is None or np.iinfo(target.spec.dtype).max >= target.model.k


def _without_labels(job: Job, opened: Opened, lost: LeftOut) -> Opened:
    if not lost.rejected:
        return opened
    job.reject(lost.rejected)
    parts = tuple(part for part in opened.items if part.first in lost.firsts)
    n_lost = sum(part.n for part in parts)
    job.watch(Message(f"{n_lost:,} images were fitted and cannot be read any more", warning=True))
    items = [part for part in opened.items if part.first not in lost.firsts]
    if not items:
        raise NoUsableImageError(
            f"{opened.stack.name}: no image can be labelled: {lost.rejected[0].reason}",
            job.rejected.values(),
        )
    return replace(opened, items=items, lost=(*opened.lost, *parts))


def _mark(job: Job, lost: Sequence[Range], targets: Sequence[Target]) -> None:
    """Write the label of images that have none; a killed worker may have written others."""
    for target in targets:
        if target.spec is None:
            continue
        dtype = np.dtype(target.spec.dtype)
        for part in lost:
            marked = np.full(part.n, np.iinfo(dtype).max, dtype)
            job.writer.write_region(target.spec, (part.first,), marked)
