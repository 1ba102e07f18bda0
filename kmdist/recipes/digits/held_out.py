"""Images that are labelled after the fit, to be scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from kmdist.engine.blas import one_blas_thread
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass, Codec, Stage, pack_rejected, unpack_rejected
from kmdist.job.job import Job
from kmdist.recipes.digits.blocks import Scored, classes_of
from kmdist.recipes.digits.labellers import Ranked
from kmdist.recipes.digits.model import Describer
from kmdist.recipes.digits.opening import Opened
from kmdist.recipes.digits.scores import confusion_matrix


def label_tests(
    job: Job, tested: Opened | None, describer: Describer, models: list[Ranked]
) -> list[np.ndarray | None]:
    """Clusters × classes of the test images."""
    if tested is None:
        return [None] * len(models)
    stack, ks = tested.stack, [model.k for model in models]
    n_classes = len(stack.class_names)
    blocks = [Scored(part, classes_of(stack, part), prefix=_TEST) for part in tested.items]
    stage = Stage(
        "test",
        score_block,
        Tested.merge,
        nothing=partial(Tested.nothing, ks, n_classes),
        noted=Codec(Tested.record, Tested.of_record),
    )
    job.reject([_named(one) for one in tested.rejected])
    found: Tested = BlockPass(job, stage).run(
        blocks, job.pool.broadcast(describer), job.pool.broadcast(models), n_classes
    )
    return [*found.tables]


_TEST = "--test: "
"""Before the names of test images, which may be those of fitted ones."""


def _named(rejection: Rejection) -> Rejection:
    return replace(rejection, image=f"{_TEST}{rejection.image}")


@dataclass(frozen=True)
class Tested:
    """Clusters × classes of test images, for each model, and images that cannot be used."""

    tables: list[np.ndarray]
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def nothing(ks: Sequence[int], n_classes: int, rejected: tuple[Rejection, ...]) -> "Tested":
        """Of a block without images."""
        return Tested([np.zeros((k, n_classes), np.int64) for k in ks], rejected)

    @staticmethod
    def merge(parts: Sequence["Tested"]) -> "Tested":
        """Those of several blocks."""
        tables = [np.sum(same, axis=0) for same in zip(*(p.tables for p in parts), strict=True)]
        return Tested(tables, tuple(one for part in parts for one in part.rejected))

    def record(self) -> list[Any]:
        """As JSON, for the manifest."""
        return [[table.tolist() for table in self.tables], pack_rejected(self.rejected)]

    @staticmethod
    def of_record(record: Sequence[Any]) -> "Tested":
        """From the manifest of an interrupted run."""
        tables, rejected = record
        return Tested([np.array(one, np.int64) for one in tables], unpack_rejected(rejected))


def score_block(
    item: list[Any], describer: Describer, models: list[Ranked], n_classes: int
) -> Tested:
    """Label the test images of a block; a task."""
    _, part, classes = item
    images, kept, rejected = part.usable()
    named = tuple(_named(one) for one in rejected)
    if not len(images):
        return Tested.nothing([model.k for model in models], n_classes, named)
    with one_blas_thread():
        rows = describer.rows(images)
        tables = [
            confusion_matrix(model.label(rows), classes[kept], model.k, n_classes)
            for model in models
        ]
    return Tested(tables, named)
