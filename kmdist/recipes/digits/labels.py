"""The last pass of a digits run: labels, and what it records of them.

A block that kills its workers here, after it was fitted, gets no labels: its images are counted in
the clusters' centroids and in nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.engine.passes import LostBlockError
from kmdist.engine.rows import Loader
from kmdist.errors import quantity
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass, Codec, Stage, rejected_arrays, unpack_rejected
from kmdist.job.job import Job, NoUsableImageError
from kmdist.job.progress import Message
from kmdist.recipes.digits.blocks import Range, Scored, classes_of
from kmdist.recipes.digits.left_out import without_blocks
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


@dataclass(frozen=True)
class Reported:
    """Reports of some blocks, one a target, and images that could not be labelled."""

    reports: list[Report]
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def merge(parts: list["Reported"]) -> "Reported":
        """Those of several blocks."""
        return Reported(
            merge_reports([part.reports for part in parts]),
            tuple(one for part in parts for one in part.rejected),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """As a checkpoint has them."""
        return {**pack_reports(self.reports), **rejected_arrays(self.rejected)}

    @staticmethod
    def of_arrays(saved: Mapping[str, np.ndarray]) -> "Reported":
        """From a checkpoint."""
        arrays = dict(saved)
        rejected = unpack_rejected(arrays.pop("rejected"))
        return Reported(unpack_reports(arrays), rejected)


def label_block(*arguments: Any) -> Reported:
    """Leaf of the last pass; see `report_block`."""
    return Reported(report_block(*arguments))


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
    n_classes = 0 if opened.stack.classes is None else len(opened.stack.class_names)
    side = describer.side(opened.stack.height, opened.stack.width)

    def nothing(rejected: tuple[Rejection, ...]) -> Reported:
        if not all(has_room(target) for target in targets):
            raise LostBlockError(f"{rejected[0].image}: {rejected[0].reason}")
        return Reported(no_reports(targets, n_classes, side), rejected)

    codec = Codec(Reported.arrays, Reported.of_arrays)
    stage = Stage("label", label_block, Reported.merge, nothing, saved=codec)
    # Where images were left out, blocks are others than before.
    group = f"-without-{len(job.rejected)}" if job.rejected else ""
    kept = {part.index: source for part, source in zip(opened.items, sources, strict=True)}
    blocks = [
        Scored(part, classes_of(opened.stack, part), Loader(load_rows, (part, describer)))
        for part in opened.items
    ]
    found: Reported = BlockPass(job, stage, group=group, kept=kept).run(
        blocks,
        job.pool.broadcast(list(targets)),
        job.pool.broadcast(describer),
        job.writer,
        job.options.seed,
        n_classes,
    )
    opened = _without_labels(job, opened, found.rejected)
    _mark(job, opened.lost, targets)
    return opened, found.reports


def has_room(target: Target) -> bool:
    """Whether the type of the labels has a value that is no cluster."""
    return target.spec is None or np.iinfo(target.spec.dtype).max >= target.model.k


def _without_labels(job: Job, opened: Opened, rejected: Sequence[Rejection]) -> Opened:
    if not rejected:
        return opened
    before = opened.n_usable
    opened = without_blocks(opened, {one.image for one in rejected})
    n_lost = before - opened.n_usable
    job.watch(
        Message(f"fitted, and cannot be read any more: {quantity(n_lost, 'image')}", warning=True)
    )
    if not opened.items:
        raise NoUsableImageError(
            f"{opened.stack.name}: no image can be labelled: {rejected[0].reason}",
            job.rejected.values(),
        )
    return opened


def _mark(job: Job, lost: Sequence[Range], targets: Sequence[Target]) -> None:
    """Write the label of images that have none; a killed worker may have written others."""
    for target in targets:
        if target.spec is None:
            continue
        dtype = np.dtype(target.spec.dtype)
        for part in lost:
            marked = np.full(part.n, np.iinfo(dtype).max, dtype)
            job.writer.write_region(target.spec, (part.first,), marked)
