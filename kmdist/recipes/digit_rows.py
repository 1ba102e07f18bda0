"""From images to rows: components of their features, and the rows, kept where they fit.

One pass over the images finds components (none for pixels), one makes rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kmdist.blas import one_blas_thread
from kmdist.digit_model import WHITENING, Describer, Preset
from kmdist.errors import KmdistError
from kmdist.projection import FeatureSums, Projection, feature_sums, fit_projection
from kmdist.projection import merge_feature_sums as merge_moments
from kmdist.recipes.digit_blocks import Range
from kmdist.recipes.job import Job
from kmdist.recipes.progress import Message
from kmdist.recipes.resumable import Codec, resumable_pass
from kmdist.rows import Block, Loader, Rows


@dataclass(frozen=True)
class Described:
    """What the first pass finds: moments of the features, and images without ink."""

    sums: FeatureSums
    n_blank: int


def describe_block(part: Range, describer: Describer) -> Described:
    """Leaf of the first pass."""
    images = part.images()
    with one_blas_thread():
        features = describer.features(images)
        n_blank = int((~images.any(axis=(1, 2))).sum())
        return Described(feature_sums(features), n_blank)


def merge_described(parts: list[Described]) -> Described:
    """Add up the first pass."""
    return Described(merge_moments([p.sums for p in parts]), sum(p.n_blank for p in parts))


def _pack_described(found: Described) -> dict[str, np.ndarray]:
    n, mean, scatter = found.sums
    return {"n": np.array([n, found.n_blank]), "mean": mean, "scatter": scatter}


def _unpack_described(saved: Mapping[str, np.ndarray]) -> Described:
    n, n_blank = saved["n"].tolist()
    return Described(FeatureSums(n, saved["mean"], saved["scatter"]), n_blank)


def find_components(job: Job, items: Sequence[Range], preset: Preset) -> Describer:
    """The first pass over the images, and the components of their features."""
    describer = Describer(preset, items[0].source.dtype)
    if not preset.components:
        return describer
    saved = job.writer.load_state("components")
    if saved is None:
        found = resumable_pass(
            job,
            "describe",
            describe_block,
            items,
            describer,
            codec=Codec(_pack_described, _unpack_described),
            pixels=[part.pixels for part in items],
            merge=merge_described,
        )
        if found.n_blank:
            job.watch(Message(f"{found.n_blank:,} images are blank: they have no ink to go by"))
        with one_blas_thread():
            try:
                projection = fit_projection(found.sums, preset.components, WHITENING)
            except ValueError as error:
                raise KmdistError(f"the images cannot be told apart: {error}") from error
        saved = {"mean": projection.mean, "matrix": projection.matrix}
        job.writer.save_state("components", saved)
    projection = Projection(saved["mean"], saved["matrix"])
    return Describer(preset, describer.dtype, projection)


def load_rows(item: tuple[Range, Describer]) -> np.ndarray:
    """Rows of some images."""
    part, describer = item
    with one_blas_thread():
        return describer.rows(part.images())


def _load_block(part: Range, describer: Describer) -> Block:
    return Block(load_rows((part, describer)))


def make_rows(job: Job, items: Sequence[Range], describer: Describer, *, keep: bool) -> Rows:
    """Rows of all images, kept on the workers or made anew in every pass."""
    with job.timed("rows"):
        if keep:
            future = job.pool.broadcast(describer)
            sources = [job.pool.submit(_load_block, part, future) for part in items]
        else:
            sources = [Loader(load_rows, (part, describer)) for part in items]
        return Rows(job.pool, sources, describer.row_dtype, kept=keep)
