"""Label all images, number clusters by size, and measure what the run records of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kmdist.engine.kernels.distances import squared_distances
from kmdist.engine.passes import one_blas_thread
from kmdist.engine.rows import Loader, Rows, row_uniforms
from kmdist.recipes.digits.labellers import CentroidLabels, Model, Ranked, ranked_anew
from kmdist.recipes.digits.model import Describer
from kmdist.recipes.digits.scores import (
    Scores,
    accuracy,
    confusion_matrix,
    score_table,
)
from kmdist.store import RunWriter

MEMBERS = 20
_MEMBER_STREAM = 1 << 23


class Totals(NamedTuple):
    """Per cluster: rows, and the sum of their rows."""

    counts: np.ndarray
    sums: np.ndarray


class Members(NamedTuple):
    """The members of each cluster that come first by some value.

    Parameters
    ----------
    values : (k, m) float64, ascending; infinity where there are fewer.
    numbers : (k, m) int64, images; −1 where there are fewer.
    """

    values: np.ndarray
    numbers: np.ndarray


class Report(NamedTuple):
    """What the last pass measures of one model.

    Parameters
    ----------
    counts : (k,) int64. inertia : Σ‖x − c‖², float64. table : (k, classes) int64.
    pictures : (k, h, w) float64, sums of the members as their rows are made from.
    nearest, drawn : members nearest to the centroid, and drawn at random.
    """

    counts: np.ndarray
    inertia: float
    table: np.ndarray
    pictures: np.ndarray
    nearest: Members
    drawn: Members


@dataclass(frozen=True)
class Target:
    """Where the labels of one model go, and what they are compared with.

    Parameters
    ----------
    centroids : (k, d) float32 as the run stores them (pixels as intensities 0 … 1), in the order
        of the labels.
    spec : array of labels, or None: not written.
    """

    model: Model
    centroids: np.ndarray
    spec: Any = None


def total_block(source: Any, models: Sequence[Model]) -> list[Totals]:
    """Leaf of the pass that finds sizes and means of clusters."""
    rows = source.open().rows
    found = []
    with one_blas_thread():
        for model in models:
            labels = model.label(rows)
            sums = np.zeros((model.k, 0))
            if not isinstance(model, CentroidLabels):  # which has centroids already
                sums = _sums_by_cluster(rows, labels, model.k)
            found.append(Totals(np.bincount(labels, minlength=model.k), sums))
    return found


def _sums_by_cluster(values: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """(k, …) float64, sums of the values of each cluster, in order of the rows."""
    sums = np.zeros((k, *values.shape[1:]))
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(k + 1))
    for cluster in range(k):
        members = order[edges[cluster] : edges[cluster + 1]]
        sums[cluster] = values[members].sum(axis=0, dtype=np.float64)
    return sums


def merge_totals(parts: list[list[Totals]]) -> list[Totals]:
    """Add totals of blocks, model by model."""
    return [
        Totals(sum(t.counts for t in same), sum(t.sums for t in same))  # type: ignore[arg-type]
        for same in zip(*parts, strict=True)
    ]


def rank_clusters(
    rows: Rows, models: Sequence[Model], scale: float
) -> list[tuple[Ranked, np.ndarray]]:
    """Number the clusters of each model by size, descending, then by centroid.

    Parameters
    ----------
    scale : what rows are divided by before they are stored as centroids.

    Returns
    -------
    list of (Ranked, centroids (k, d) float32 in the new order)
    """
    totals: list[Totals] = rows.run(
        total_block, rows.pool.broadcast(list(models)), merge=merge_totals
    )
    found = []
    for model, total in zip(models, totals, strict=True):
        if isinstance(model, CentroidLabels):
            centroids = model.centroids
        else:
            centroids = total.sums / np.maximum(total.counts, 1)[:, None]
        order = np.lexsort((*centroids.T[::-1], -total.counts))
        rank = np.empty(model.k, np.int64)
        rank[order] = np.arange(model.k)
        found.append((ranked_anew(model, rank), (centroids[order] / scale).astype(np.float32)))
    return found


def _first_members(values: np.ndarray, labels: np.ndarray, first: int, k: int) -> Members:
    best = np.full((k, MEMBERS), np.inf)
    numbers = np.full((k, MEMBERS), -1, np.int64)
    order = np.lexsort((np.arange(len(values)), values))
    for cluster in range(k):
        chosen = order[labels[order] == cluster][:MEMBERS]
        best[cluster, : len(chosen)] = values[chosen]
        numbers[cluster, : len(chosen)] = chosen + first
    return Members(best, numbers)


def _merge_members(parts: Sequence[Members]) -> Members:
    values = np.concatenate([part.values for part in parts], axis=1)
    numbers = np.concatenate([part.numbers for part in parts], axis=1)
    order = np.stack([np.lexsort((n, v))[:MEMBERS] for v, n in zip(values, numbers, strict=True)])
    return Members(np.take_along_axis(values, order, 1), np.take_along_axis(numbers, order, 1))


def report_block(
    item: list[Any],
    targets: Sequence[Target],
    describer: Describer,
    writer: RunWriter | None,
    seed: int,
    n_classes: int,
) -> list[Report]:
    """Leaf of the last pass: label, write, compare with classes, find members.

    Parameters
    ----------
    item : the rows' source, a `Range`, and classes (n,) or None.
    """
    source, part, classes = item
    chance = row_uniforms(seed, _MEMBER_STREAM, part.first, part.n)
    scale = describer.scale
    images = part.images()
    with one_blas_thread():
        again = isinstance(source, Loader)  # which would read the images once more
        rows = describer.rows(images) if again else source.open().rows
    prepared = describer.prepared(images).astype(np.float64) / scale
    reports = []
    with one_blas_thread():
        for target in targets:
            k = target.model.k
            labels = target.model.label(rows)
            if target.spec is not None and writer is not None:
                writer.write_region(target.spec, (part.first,), labels.astype(target.spec.dtype))
            centroids = target.centroids.astype(np.float64) * scale
            distances = squared_distances(rows, centroids, labels) / scale**2
            table = np.zeros((k, n_classes), np.int64)
            if classes is not None:
                table = confusion_matrix(labels, classes, k, n_classes)
            pictures = _sums_by_cluster(prepared, labels, k)
            reports.append(
                Report(
                    np.bincount(labels, minlength=k),
                    float(distances.sum()),
                    table,
                    pictures,
                    _first_members(distances, labels, part.first, k),
                    _first_members(chance, labels, part.first, k),
                )
            )
    return reports


def merge_reports(parts: list[list[Report]]) -> list[Report]:
    """Add reports of blocks, model by model."""
    merged = []
    for same in zip(*parts, strict=True):
        added = [sum(report[i] for report in same) for i in range(4)]
        members = [_merge_members([report[i] for report in same]) for i in (4, 5)]
        merged.append(Report(*added, *members))  # type: ignore[arg-type]
    return merged


def no_reports(targets: Sequence[Target], n_classes: int, side: tuple[int, ...]) -> list[Report]:
    """What the last pass finds in a block without images.

    Parameters
    ----------
    side : height and width of `Report.pictures`.
    """
    reports = []
    for k in (target.model.k for target in targets):
        none = Members(np.full((k, MEMBERS), np.inf), np.full((k, MEMBERS), -1, np.int64))
        table, pictures = np.zeros((k, n_classes), np.int64), np.zeros((k, *side))
        reports.append(Report(np.zeros(k, np.int64), 0.0, table, pictures, none, none))
    return reports


def scores_of(table: np.ndarray) -> dict[str, float]:
    """Scores as a run records them."""
    found: Scores = score_table(table)
    return {name: round(float(value), 6) for name, value in vars(found).items()}


def scores_on(table: np.ndarray, maps: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Scores of other images, with the maps of clusters to classes learnt on the fitted ones."""
    found = scores_of(table)
    for name in ("hungarian", "majority"):
        found[f"accuracy_{name}"] = round(accuracy(table, np.asarray(maps[name])), 6)
    return found
