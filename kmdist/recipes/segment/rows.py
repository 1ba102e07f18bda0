"""Rows of images of any channels: statistics that scaling takes, and rows kept or read anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.engine.coreset import draw_uniform
from kmdist.engine.rows import MEMORY_SHARE, ROW_OVERHEAD_BYTES, Block, Loader, Rows
from kmdist.errors import ImageError
from kmdist.images import Rejection
from kmdist.job.block_pass import (
    BlockPass,
    Codec,
    LeftOut,
    Stage,
    pack_rejected,
    unpack_rejected,
)
from kmdist.job.endings import NoUsableImageError
from kmdist.job.job import Job
from kmdist.job.photographs import Photographs
from kmdist.job.work import Piece, Work, read_piece
from kmdist.recipes.segment.model import Scaling
from kmdist.recipes.segment.rasters import read_raster

SAMPLE_ROWS = 200_000
"""Rows whose quartiles stand for those of all."""


@dataclass(frozen=True)
class Counted:
    """What the first pass finds in some blocks.

    Parameters
    ----------
    valid : pixels with data, by image. marked : images with pixels without any.
    """

    valid: Mapping[str, int]
    marked: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def merge(parts: Sequence["Counted"]) -> "Counted":
        """Those of several blocks."""
        valid: dict[str, int] = {}
        for part in parts:
            for name, n in part.valid.items():
                valid[name] = valid.get(name, 0) + n
        return Counted(
            valid,
            tuple(dict.fromkeys(name for part in parts for name in part.marked)),
            tuple(one for part in parts for one in part.rejected),
        )

    def record(self) -> list[Any]:
        """As JSON, for the manifest."""
        return [dict(self.valid), list(self.marked), pack_rejected(self.rejected)]

    @staticmethod
    def of_record(record: Sequence[Any]) -> "Counted":
        """From the manifest of an interrupted run."""
        valid, marked, rows = record
        return Counted(valid, tuple(marked), unpack_rejected(rows))


def read_valid(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """Values (h, w, c) of a piece, and which pixels have data (h, w)."""
    values, valid = read_piece(piece, read_raster)
    return values, valid


def count_block(work: Work) -> Counted:
    """Count pixels with data; a task."""
    valid: dict[str, int] = {}
    marked, rejected = [], []
    for piece in work.pieces:
        name = piece.source.name
        try:
            there = read_valid(piece)[1]
        except ImageError as error:
            rejected.append(Rejection(name, error.code, error.reason))
            continue
        valid[name] = int(there.sum())
        if valid[name] < there.size:
            marked.append(name)
    return Counted(valid, tuple(marked), tuple(rejected))


COUNT = Stage(
    "count",
    count_block,
    Counted.merge,
    nothing=lambda rejected: Counted({}, (), rejected),
    noted=Codec(Counted.record, Counted.of_record),
)


def load_rows(item: tuple[Work, Scaling]) -> np.ndarray:
    """(n, c) scaled rows of the pixels of a block that have data."""
    work, scaling = item
    parts = []
    for piece in work.pieces:
        values, valid = read_valid(piece)
        parts.append(scaling.rows(values[valid]))
    return np.concatenate(parts)


def _load_block(work: Work, scaling: Scaling) -> Block:
    return Block(load_rows((work, scaling)))


def _is_there(_: Block, __: Scaling) -> LeftOut:
    """Leaf of the pass that makes rows to be kept."""
    return LeftOut()


ROWS = Stage("rows", _is_there, LeftOut.merge, LeftOut, prepare=_load_block)


def row_dtype(workload: Photographs, *, scaled: bool) -> np.dtype:
    """The type of rows: that of all images, or one in which no scaled value is rounded away."""
    common = np.result_type(*[np.dtype(source.dtype) for source in workload.sources])
    exact = common.itemsize <= 2 and common.kind in "ui"
    if scaled:
        return np.dtype(np.float32 if exact or common == np.float32 else np.float64)
    if exact or common in (np.float32, np.float64):
        return np.dtype(common)
    return np.dtype(np.float32 if common == np.float16 else np.float64)


def count_pixels(job: Job, workload: Photographs) -> tuple[list[Work], Counted]:
    """The first pass: images that cannot be read, or hold no data, are left out.

    Raises
    ------
    NoUsableImageError : no image has a pixel with data.
    """
    found: Counted = BlockPass(job, COUNT).run(workload.blocks)
    empty = [name for name, n in found.valid.items() if not n and name not in job.rejected]
    job.reject([Rejection(name, "no_data", "none of its pixels has data") for name in empty])
    return without_rejected(workload.blocks, job), found


def keeps_rows(job: Job, n_rows: int, n_channels: int, dtype: np.dtype) -> bool:
    """Whether rows are kept on the workers between passes."""
    needed = n_rows * (n_channels * dtype.itemsize + ROW_OVERHEAD_BYTES)
    asked = job.options.keep_pixels
    return asked == "always" or (asked == "auto" and needed <= MEMORY_SHARE * job.pool.memory_bytes)


def make_rows(
    job: Job, items: list[Work], scaling: Scaling, *, keep: bool
) -> tuple[list[Work], Rows]:
    """Rows of all pixels with data.

    Returns
    -------
    items : the blocks that have rows: without images that killed the workers which were to keep
        theirs.
    rows : of these.
    """
    sources: list[Any] = [Loader(load_rows, (work, scaling)) for work in items]
    while keep:
        kept: dict[int, Any] = {}
        found: LeftOut = BlockPass(job, ROWS, kept=kept).run(items, job.pool.broadcast(scaling))
        items = without_rejected(items, job)
        if not found.rejected:
            sources = [kept[work.index] for work in items]
            break
    with job.timed("rows"):
        return items, Rows(job.pool, sources, scaling.dtype, kept=keep)


def without_rejected(items: Sequence[Work], job: Job) -> list[Work]:
    """The blocks without images that were left out.

    Raises
    ------
    NoUsableImageError : none is left.
    """
    left = [work.without(job.rejected) for work in items]
    left = [work for work in left if work.pieces]
    if not left:
        listed = [f"  {r.image}: {r.reason} [{r.code}]" for r in list(job.rejected.values())[:20]]
        raise NoUsableImageError(
            "\n".join(["no image has a pixel that can be clustered:", *listed]),
            job.rejected.values(),
        )
    return left


def find_scaling(
    job: Job, items: Sequence[Work], kind: str, dtype: np.dtype, plain: np.dtype
) -> Scaling:
    """What channels are scaled by, from the pixels of all images: one pass, robust two.

    Parameters
    ----------
    dtype : of scaled rows. plain : of rows that are not.
    """
    if kind == "none":
        return Scaling(None, None, plain)
    whole = Scaling(None, None, plain)
    rows = Rows(job.pool, [Loader(load_rows, (work, whole)) for work in items], plain, kept=False)
    m = rows.moments
    if kind == "minmax":
        offset, factor = m.low.astype(np.float64), m.high.astype(np.float64) - m.low
    elif kind == "standard":
        offset, factor = m.mean, np.sqrt(m.variance)
    else:
        sample = draw_uniform(rows, min(SAMPLE_ROWS, rows.n_rows), job.options.seed)
        low, offset, high = np.percentile(sample.rows.astype(np.float64), [25, 50, 75], axis=0)
        factor = high - low
    return Scaling(
        np.asarray(offset, np.float64), np.where(factor > 0, factor, 1.0).astype(np.float64), dtype
    )
