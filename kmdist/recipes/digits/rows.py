"""From images to rows: components of their features, and the rows, kept where they fit.

One pass over the images finds components, one makes rows. Pixels need no components: where they
are kept, it is the pass that makes them that finds images that cannot be used, else one of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.engine.components import FeatureSums, Projection, feature_sums, fit_projection
from kmdist.engine.components import merge_feature_sums as merge_moments
from kmdist.engine.passes import one_blas_thread
from kmdist.engine.rows import Loader, Rows
from kmdist.errors import quantity
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass, Stage
from kmdist.job.block_results import LeftOut, of_arrays, to_arrays
from kmdist.job.job import Job, NothingToFitError
from kmdist.job.progress import Message
from kmdist.job.resumable_fit import kept_rows
from kmdist.recipes.digits.blocks import Range
from kmdist.recipes.digits.model import WHITENING, Describer, Preset
from kmdist.recipes.digits.opening import Opened, check_images, leave_out


@dataclass(frozen=True)
class Described:
    """What the first pass finds: moments of the features, images without ink, unusable ones."""

    sums: FeatureSums
    n_blank: int = 0
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def nothing(rejected: tuple[Rejection, ...]) -> "Described":
        """Of a block without images."""
        return Described(FeatureSums(0, np.empty(0), np.empty((0, 0))), 0, rejected)

    @staticmethod
    def merge(parts: list["Described"]) -> "Described":
        """Add up several blocks."""
        return Described(
            merge_moments([p.sums for p in parts]),
            sum(p.n_blank for p in parts),
            tuple(one for part in parts for one in part.rejected),
        )


def describe_block(part: Range, describer: Describer) -> Described:
    """Leaf of the first pass."""
    images, _, rejected = part.usable()
    if not len(images):
        return Described.nothing(rejected)
    with one_blas_thread():
        features = describer.features(images)
        n_blank = int((~images.any(axis=(1, 2))).sum())
        return Described(feature_sums(features), n_blank, rejected)


DESCRIBE = Stage(
    "describe",
    describe_block,
    Described.merge,
    Described.nothing,
    saved=Described,
)


@dataclass(frozen=True)
class Components:
    """What a resume knows of the first pass once it is over."""

    projection: Projection
    rejected: tuple[Rejection, ...]


def find_components(job: Job, opened: Opened, preset: Preset) -> tuple[Opened, Describer]:
    """The first pass over the images, and the components of their features.

    Returns
    -------
    opened : the images that can be used.
    describer : makes their rows.
    """
    describer = Describer(preset, opened.items[0].source.dtype)
    components = of_arrays(Components, job.writer.load_state("components"))
    if components is None:
        found: Described = BlockPass(job, DESCRIBE).run(opened.items, describer)
        opened = leave_out(job, opened, found.rejected)
        if found.n_blank:
            job.watch(Message(f"blank, with no ink to go by: {quantity(found.n_blank, 'image')}"))
        with one_blas_thread():
            try:
                projection = fit_projection(found.sums, preset.components, WHITENING)
            except ValueError as error:
                raise NothingToFitError(f"the images cannot be told apart: {error}") from error
        components = Components(projection, found.rejected)
        job.writer.save_state("components", to_arrays(components))
    else:
        opened = leave_out(job, opened, components.rejected)
    return opened, Describer(preset, describer.dtype, components.projection)


def first_pass(job: Job, opened: Opened, preset: Preset) -> tuple[Opened, Describer]:
    """What there is to know of all images before there are rows.

    Returns
    -------
    opened : the images that can be used.
    describer : makes their rows.
    """
    if preset.components:
        return find_components(job, opened, preset)
    if opened.stack.names or not job.keep:
        opened = check_images(job, opened)
    return opened, Describer(preset, opened.items[0].source.dtype)


def load_rows(item: tuple[Range, Describer]) -> np.ndarray:
    """Rows of some images."""
    part, describer = item
    with one_blas_thread():
        return describer.rows(part.images())


def make_rows(job: Job, opened: Opened, describer: Describer) -> tuple[Opened, Rows]:
    """Rows of all images, kept on the workers or made anew in every pass.

    Returns
    -------
    opened : the images that have rows; without a block whose rows killed the workers that were to
        keep them.
    rows : of these.
    """
    sources: list[Any] = [Loader(load_rows, (part, describer)) for part in opened.items]
    if job.keep:
        opened, sources = _kept_rows(job, opened, describer)
    with job.timed("rows"):
        return opened, Rows(job.pool, sources, describer.row_dtype, kept=job.keep)


def _kept_rows(job: Job, opened: Opened, describer: Describer) -> tuple[Opened, list[Any]]:
    left_out = of_arrays(LeftOut, job.writer.load_state("left-out")) or LeftOut()
    opened = leave_out(job, opened, left_out.rejected)

    def without(_: Sequence[Range], rejected: Sequence[Rejection]) -> list[Range]:
        nonlocal opened, left_out
        left_out = LeftOut((*left_out.rejected, *rejected))
        job.writer.save_state("left-out", to_arrays(left_out))
        opened = leave_out(job, opened, rejected)
        return opened.items

    _, sources = kept_rows(job, opened.items, without, load_rows, describer)
    return opened, sources
