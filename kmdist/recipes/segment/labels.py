"""The labelling pass of segment: the nearest centroid of every pixel with data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kmdist.engine.kernels.distances import squared_distances
from kmdist.errors import ImageError
from kmdist.images import Rejection
from kmdist.job.block_pass import Codec, Stage, pack_rejected, unpack_rejected
from kmdist.job.job import Job
from kmdist.job.label_maps import LabelSink, Layer, label_blocks, label_items, open_sink
from kmdist.job.work import Work
from kmdist.recipes.segment.model import SegmentModel
from kmdist.recipes.segment.rows import read_valid


@dataclass(frozen=True)
class Totals:
    """Of the pixels of each cluster of one set.

    Parameters
    ----------
    counts : (k,) int64. sums, squares : (k, c) float64 of the values in the units of the input,
        and of their squares, a term a block.
    inertia : Σ‖x − c‖² of scaled rows, a term a block; added exactly.
    """

    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    inertia: tuple[float, ...] = ()

    @staticmethod
    def none(k: int, n_channels: int) -> "Totals":
        """Of no pixel."""
        return Totals(np.zeros(k, np.int64), *np.zeros((2, k, n_channels)))

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.counts + other.counts,
            self.sums + other.sums,
            self.squares + other.squares,
            self.inertia + other.inertia,
        )

    @property
    def total_inertia(self) -> float:
        """Exactly rounded, so that it does not depend on how the pixels were shared out."""
        return math.fsum(self.inertia)

    def mean_and_sd(self) -> tuple[np.ndarray, np.ndarray]:
        """(k, c) of the values of each cluster; zero for one without pixels."""
        n = np.maximum(self.counts, 1)[:, None]
        mean = self.sums / n
        return mean, np.sqrt(np.maximum(self.squares / n - mean**2, 0.0))


@dataclass(frozen=True)
class Labelled:
    """What tasks say of their pixels: totals, one a layer."""

    totals: tuple[Totals, ...]
    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def merge(parts: Sequence["Labelled"]) -> "Labelled":
        """Those of several blocks."""
        totals = list(parts[0].totals)
        for part in parts[1:]:
            totals = [a + b for a, b in zip(totals, part.totals, strict=True)]
        return Labelled(tuple(totals), tuple(one for part in parts for one in part.rejected))

    def record(self) -> list[Any]:
        """As JSON, for the manifest."""
        rows = [
            [one.counts.tolist(), one.sums.tolist(), one.squares.tolist(), list(one.inertia)]
            for one in self.totals
        ]
        return [rows, pack_rejected(self.rejected)]

    @staticmethod
    def of_record(record: Sequence[Any]) -> "Labelled":
        """From the manifest of an interrupted run."""
        rows, rejected = record
        totals = tuple(
            Totals(np.array(counts, np.int64), np.array(sums), np.array(squares), tuple(inertia))
            for counts, sums, squares, inertia in rows
        )
        return Labelled(totals, unpack_rejected(rejected))


def label_block(work: Work, sink: LabelSink | None, models: Sequence[SegmentModel]) -> Labelled:
    """Label whole images, one tile, or the tiles of a shard, and write them; a task."""
    labels = sink.open(work.pieces) if sink is not None else None
    totals = [Totals.none(*model.centroids.shape) for model in models]
    rejected: list[Rejection] = []
    for piece in work.pieces:
        try:
            values, valid = read_valid(piece)
        except ImageError as error:
            rejected.append(Rejection(piece.source.name, error.code, error.reason))
            continue
        missing = None if valid.all() else ~valid
        there = values[valid]
        for position, model in enumerate(models):
            found, total = _label(there, model)
            totals[position] += total
            if labels is not None:
                picture = np.zeros(valid.shape, np.int32)
                picture[valid] = found
                labels.put(piece, position, picture, missing)
    if rejected and work.tile_of is not None:
        return _nothing([model.centroids.shape for model in models], tuple(rejected))
    if labels is not None:
        labels.close()
    return Labelled(tuple(totals), tuple(rejected))


def _label(values: np.ndarray, model: SegmentModel) -> tuple[np.ndarray, Totals]:
    """Labels of (n, c) values, and what they add to each cluster."""
    rows = model.scaling.rows(values)
    labels = model.label_rows(rows)
    k, n_channels = model.centroids.shape
    counts = np.bincount(labels, minlength=k)
    sums, squares = np.empty((2, k, n_channels))
    for channel in range(n_channels):
        column = values[:, channel].astype(np.float64)
        sums[:, channel] = np.bincount(labels, column, minlength=k)
        squares[:, channel] = np.bincount(labels, column**2, minlength=k)
    inertia = float(squared_distances(rows, model.scaled, labels).sum()) if len(rows) else 0.0
    return labels, Totals(counts.astype(np.int64), sums, squares, (inertia,))


def _nothing(shapes: Sequence[tuple[int, ...]], rejected: tuple[Rejection, ...]) -> Labelled:
    return Labelled(tuple(Totals.none(k, c) for k, c in shapes), rejected)


def label_all(
    job: Job,
    items: Sequence[Work],
    models: Sequence[tuple[str, SegmentModel]],
    marked: frozenset[str],
    *,
    write: bool = True,
    counted: str = "its pixels count in the fit",
) -> list[Totals]:
    """Label all images with every model, and write label maps.

    Parameters
    ----------
    models : with the group of the run for each.
    marked : images with pixels without data.
    write : False: only count.
    """
    layers = [Layer(prefix, model.k, model.palette) for prefix, model in models]
    blocks = label_items(items, job.rejected)
    sink = open_sink(job, blocks, layers, marked) if write else None
    shapes = [model.centroids.shape for _, model in models]
    stage = Stage(
        "label",
        label_block,
        Labelled.merge,
        partial(_nothing, shapes),
        noted=Codec(Labelled.record, Labelled.of_record),
        counted=counted,
    )
    learnt = job.pool.broadcast([model for _, model in models])
    found: Labelled = label_blocks(job, stage, blocks, sink, learnt)
    return list(found.totals)
