"""Images that are labelled after the fit, to be scored."""

from typing import NamedTuple

import numpy as np

from kmdist.engine.blas import one_blas_thread
from kmdist.engine.passes import run_pass
from kmdist.images import Rejection
from kmdist.job.job import Job
from kmdist.recipes.digits.blocks import Range, classes_of
from kmdist.recipes.digits.labellers import Ranked
from kmdist.recipes.digits.left_out import LeftOut, lost_images, merge_left_out
from kmdist.recipes.digits.model import Describer
from kmdist.recipes.digits.opening import Opened
from kmdist.recipes.digits.scores import confusion_matrix


def label_tests(
    job: Job, tested: Opened | None, describer: Describer, models: list[Ranked]
) -> list[np.ndarray | None]:
    """Clusters × classes of the test images."""
    if tested is None:
        return [None] * len(models)
    stack = tested.stack
    items = [(part, classes_of(stack, part)) for part in tested.items]

    def set_aside(index: int, error: BaseException) -> Tested:
        empty = [np.zeros((model.k, len(stack.class_names)), np.int64) for model in models]
        return Tested(empty, lost_images(tested, tested.items[index], error))

    with job.timed("test"):
        found: Tested = run_pass(
            job.pool,
            _test_block,
            items,
            job.pool.broadcast(describer),
            job.pool.broadcast(models),
            len(stack.class_names),
            merge=_merge_tested,
            on_failure=set_aside,
            alone=items.__getitem__,
        )
    job.reject(
        [
            Rejection(f"{_TEST}{one.image}", one.code, one.reason)
            for one in (*tested.rejected, *found.left_out.rejected)
        ]
    )
    return [*found.tables]


_TEST = "--test: "
"""Before the names of test images, which may be those of fitted ones."""


class Tested(NamedTuple):
    """Clusters × classes of test images, for each model, and images that cannot be used."""

    tables: list[np.ndarray]
    left_out: LeftOut


def _test_block(
    item: tuple[Range, np.ndarray], describer: Describer, models: list[Ranked], n_classes: int
) -> Tested:
    part, classes = item
    images, kept, rejected = part.usable()
    if not len(images):
        tables = [np.zeros((model.k, n_classes), np.int64) for model in models]
        return Tested(tables, LeftOut(rejected))
    with one_blas_thread():
        rows = describer.rows(images)
        tables = [
            confusion_matrix(model.label(rows), classes[kept], model.k, n_classes)
            for model in models
        ]
    return Tested(tables, LeftOut(rejected))


def _merge_tested(parts: list[Tested]) -> Tested:
    tables = [np.sum(same, axis=0) for same in zip(*(part.tables for part in parts), strict=True)]
    return Tested(tables, merge_left_out([part.left_out for part in parts]))
