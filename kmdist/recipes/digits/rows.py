"""From images to rows: components of their features, and the rows, kept where they fit.

One pass over the images finds components, one makes rows. Pixels need no components: where they
are kept, it is the pass that makes them that finds images that cannot be used, else one of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from kmdist.engine.blas import one_blas_thread
from kmdist.engine.components import FeatureSums, Projection, feature_sums, fit_projection
from kmdist.engine.components import merge_feature_sums as merge_moments
from kmdist.engine.passes import Pool, run_pass
from kmdist.engine.rows import Block, Loader, Rows
from kmdist.job.block_pass import Codec, resumable_pass
from kmdist.job.endings import NothingToFitError
from kmdist.job.job import Job
from kmdist.job.progress import Message
from kmdist.recipes.digits.blocks import Range
from kmdist.recipes.digits.left_out import (
    LeftOut,
    check_images,
    leave_out,
    lost_images,
    merge_left_out,
)
from kmdist.recipes.digits.model import WHITENING, Describer, Preset
from kmdist.recipes.digits.opening import Opened


@dataclass(frozen=True)
class Described:
    """What the first pass finds: moments of the features, images without ink, unusable ones."""

    sums: FeatureSums
    n_blank: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)


def describe_block(part: Range, describer: Describer) -> Described:
    """Leaf of the first pass."""
    images, _, rejected = part.usable()
    if not len(images):
        return Described(_NO_SUMS, 0, LeftOut(rejected))
    with one_blas_thread():
        features = describer.features(images)
        n_blank = int((~images.any(axis=(1, 2))).sum())
        return Described(feature_sums(features), n_blank, LeftOut(rejected))


_NO_SUMS = FeatureSums(0, np.empty(0), np.empty((0, 0)))


def merge_described(parts: list[Described]) -> Described:
    """Add up the first pass."""
    return Described(
        merge_moments([p.sums for p in parts]),
        sum(p.n_blank for p in parts),
        merge_left_out([p.left_out for p in parts]),
    )


def _pack_described(found: Described) -> dict[str, np.ndarray]:
    n, mean, scatter = found.sums
    sums = {"n": np.array([n, found.n_blank]), "mean": mean, "scatter": scatter}
    return {**sums, **found.left_out.arrays()}


def _unpack_described(saved: Mapping[str, np.ndarray]) -> Described:
    n, n_blank = saved["n"].tolist()
    sums = FeatureSums(n, saved["mean"], saved["scatter"])
    return Described(sums, n_blank, LeftOut.of_arrays(saved))


def find_components(job: Job, opened: Opened, preset: Preset) -> tuple[Opened, Describer]:
    """The first pass over the images, and the components of their features.

    Returns
    -------
    opened : the images that can be used.
    describer : makes their rows.
    """
    describer = Describer(preset, opened.items[0].source.dtype)
    saved = job.writer.load_state("components")
    if saved is None:
        found = _describe(job, opened, describer)
        opened = leave_out(job, opened, found.left_out)
        if found.n_blank:
            job.watch(Message(f"{found.n_blank:,} images are blank: they have no ink to go by"))
        with one_blas_thread():
            try:
                projection = fit_projection(found.sums, preset.components, WHITENING)
            except ValueError as error:
                raise NothingToFitError(f"the images cannot be told apart: {error}") from error
        saved = {"mean": projection.mean, "matrix": projection.matrix, **found.left_out.arrays()}
        job.writer.save_state("components", saved)
    else:
        opened = leave_out(job, opened, LeftOut.of_arrays(saved))
    projection = Projection(saved["mean"], saved["matrix"])
    return opened, Describer(preset, describer.dtype, projection)


def _describe(job: Job, opened: Opened, describer: Describer) -> Described:
    def set_aside(index: int, error: BaseException) -> Described:
        return Described(_NO_SUMS, 0, lost_images(opened, opened.items[index], error))

    found: Described = resumable_pass(
        job,
        "describe",
        describe_block,
        opened.items,
        describer,
        codec=Codec(_pack_described, _unpack_described),
        pixels=[part.pixels for part in opened.items],
        merge=merge_described,
        on_failure=set_aside,
    )
    return found


def first_pass(job: Job, opened: Opened, preset: Preset, *, keep: bool) -> tuple[Opened, Describer]:
    """What there is to know of all images before there are rows.

    Parameters
    ----------
    keep : whether rows are going to be kept.

    Returns
    -------
    opened : the images that can be used.
    describer : makes their rows.
    """
    if preset.components:
        return find_components(job, opened, preset)
    if opened.stack.names or not keep:
        opened = check_images(job, opened)
    return opened, Describer(preset, opened.items[0].source.dtype)


def load_rows(item: tuple[Range, Describer]) -> np.ndarray:
    """Rows of some images."""
    part, describer = item
    with one_blas_thread():
        return describer.rows(part.images())


def _load_block(part: Range, describer: Describer) -> Block:
    return Block(load_rows((part, describer)))


def make_rows(job: Job, opened: Opened, describer: Describer, *, keep: bool) -> tuple[Opened, Rows]:
    """Rows of all images, kept on the workers or made anew in every pass.

    Returns
    -------
    opened : the images that have rows; without a block whose rows killed the workers that were to
        keep them.
    rows : of these.
    """
    with job.timed("rows"):
        if keep:
            opened, sources = _kept_rows(job, opened, describer)
        else:
            sources = [Loader(load_rows, (part, describer)) for part in opened.items]
        return opened, Rows(job.pool, sources, describer.row_dtype, kept=keep)


def _kept_rows(job: Job, opened: Opened, describer: Describer) -> tuple[Opened, list[Any]]:
    saved = job.writer.load_state("left-out")
    left_out = LeftOut() if saved is None else LeftOut.of_arrays(saved)
    opened = leave_out(job, opened, left_out)
    future = job.pool.broadcast(describer)
    while True:
        sources = [job.pool.submit(_load_block, part, future) for part in opened.items]
        lost: list[LeftOut] = []
        run_pass(
            job.pool,
            _is_there,
            sources,
            on_failure=partial(_set_aside, opened, lost),
            alone=partial(_load_anew, job.pool, opened, future, sources),
        )
        if not lost:
            return opened, sources
        sources.clear()
        left_out = merge_left_out([left_out, *lost])
        job.writer.save_state("left-out", left_out.arrays())
        opened = leave_out(job, opened, merge_left_out(lost))


def _load_anew(pool: Pool, opened: Opened, describer: Any, sources: list[Any], index: int) -> Any:
    sources[index] = pool.submit(_load_block, opened.items[index], describer)
    return sources[index]


def _set_aside(opened: Opened, lost: list[LeftOut], index: int, error: BaseException) -> None:
    lost.append(lost_images(opened, opened.items[index], error))


def _is_there(_: Block) -> None:
    """Leaf of the pass that waits for kept rows."""
