"""Initial centroids: from a sample, by k-means||, or random rows; the same for any chunking.

Random numbers are Philox streams (Salmon et al., SC 2011) of the seed, indexed by global row.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from kmdist.engine.block_steps import Centers
from kmdist.engine.kernels.assign import assign
from kmdist.engine.kernels.distances import squared_distances
from kmdist.engine.kernels.frame import Frame, make_frame
from kmdist.engine.kernels.moments import moments
from kmdist.engine.kernels.plusplus import plus_plus
from kmdist.engine.rows import Rows
from kmdist.engine.sampling import (
    Sample,
    generator,
    join_samples,
    row_uniforms,
    sample_rows,
    take_rows,
)

SAMPLE_ROWS = 20_000
SAMPLE_VALUES = 2_500_000
"""Of a sample: with many features fewer rows, so that it stays in the cache while it is read for
each of some 6·k candidates."""

SAMPLE_PER_CLUSTER = 50
SAMPLE_BYTES = 64 << 20
SAMPLE_ITERATIONS = 10

INITS = ("k-means++", "k-means||", "random")


def sample_size(k: int, n_features: int, itemsize: int) -> int:
    """Rows of the seeding sample.

    20,000, or as many as hold 2.5 million values if that is less, but 50 a cluster at the least
    and 64 MiB at the most.
    """
    wanted = max(min(SAMPLE_ROWS, SAMPLE_VALUES // n_features), SAMPLE_PER_CLUSTER * k)
    return max(min(wanted, SAMPLE_BYTES // (n_features * itemsize)), 4 * k)


def seed_centroids(
    rows: Rows, k: int, init: str | np.ndarray | Callable[..., Any], seed: int, attempt: int = 0
) -> np.ndarray:
    """Initial centroids.

    Parameters
    ----------
    rows : what to cluster.
    k : centroids wanted.
    init : ``'k-means++'``: greedy k-means++ on a sample and, unless the sample is everything,
        ten Lloyd iterations on it; ``'k-means||'``: five rounds over all rows (Bahmani et al.,
        VLDB 2012); ``'random'``: distinct rows; an array (k, d).
    seed : of the random streams.
    attempt : number of the restart, which has streams of its own.

    Returns
    -------
    (k, d) centroids, all distinct where the data have k distinct rows of positive weight. Where
    they have fewer, the last ones repeat the first.
    """
    if isinstance(init, np.ndarray):
        return init
    stream = 16 * attempt
    if init == "k-means||":
        centroids = _parallel(rows, k, seed, stream)
    else:
        size = sample_size(k, rows.n_features, rows.centroid_dtype.itemsize)
        sample = sample_rows(rows, size, seed, stream)
        if init == "random":
            centroids = _random_rows(sample, k, generator(seed, stream + 1))
        else:
            centroids = seed_from_sample(
                sample, k, generator(seed, stream + 1), refine=size < rows.n_rows
            )
    if len(centroids) < k:
        centroids = _complete(rows, centroids, k)
    if len(centroids) < k:
        centroids = np.resize(centroids, (k, rows.n_features))
    return np.asarray(centroids, dtype=rows.centroid_dtype)


def _random_rows(sample: Sample, k: int, random: np.random.Generator) -> np.ndarray:
    """Distinct rows of the sample, drawn by weight (Efraimidis and Spirakis, 2006)."""
    keep = np.flatnonzero(sample.weights > 0)
    order = keep[np.argsort(random.exponential(size=len(keep)) / sample.weights[keep])]
    seen: set[bytes] = set()
    chosen = []
    for i in order:
        key = (sample.rows[i] + 0.0).tobytes()  # −0.0 equals 0.0
        if key not in seen:
            seen.add(key)
            chosen.append(i)
            if len(chosen) == k:
                break
    return sample.rows[np.array(chosen, dtype=np.int64)]


def seed_from_sample(
    sample: Sample, k: int, random: np.random.Generator, *, refine: bool
) -> np.ndarray:
    """Greedy k-means++ on rows in memory, and a few Lloyd iterations on them.

    Returns
    -------
    (m, d), distinct; m < k only where the sample has fewer distinct rows.
    """
    statistics = moments(sample.rows, sample.weights)
    centred = (sample.rows - statistics.mean).astype(sample.rows.dtype)
    chosen = plus_plus(centred, sample.weights, k, random)
    centroids = sample.rows[chosen]
    if not refine or len(chosen) < k:
        return centroids
    frame = make_frame(
        statistics.low,
        statistics.high,
        statistics.mean,
        statistics.variance,
        1.01 * statistics.weight,
    )
    for _ in range(SAMPLE_ITERATIONS):
        sums = assign(sample.rows, sample.weights, centroids, frame)
        filled = sums.counts > 0
        moved = centroids.astype(np.float64)
        moved[filled] = frame.shift + sums.sums[filled] / sums.counts[filled, None]
        moved = moved.astype(centroids.dtype)
        if len(np.unique(moved, axis=0)) < k:
            break
        centroids = moved
    return centroids


def _parallel(rows: Rows, k: int, seed: int, stream: int, rounds: int = 5) -> np.ndarray:
    """k-means||: 2k candidates a round, weighted by what is nearest to them, then reduced to k."""
    factor = 2.0 * k
    first = sample_rows(rows, min(rows.n_rows, max(64, k)), seed, stream)
    candidates = _random_rows(first, 1, generator(seed, stream + 1))
    firsts = [int(first) for first in rows.starts[:-1]]
    for turn in range(rounds):
        centers = rows.pool.broadcast(Centers(candidates))
        cost = rows.run(_cost, centers, rows.frame_future, merge=sum_costs)
        if not cost > 0:
            break
        found: Sample = rows.run(
            _draw_candidates,
            centers,
            rows.frame_future,
            (factor / cost, seed, stream + 2 + turn, rows.centroid_dtype),
            each=firsts,
            merge=join_samples,
        )
        candidates = np.unique(np.concatenate([candidates, found.rows]), axis=0)
    centers = rows.pool.broadcast(Centers(candidates))
    weights = rows.run(_weigh, centers, rows.frame_future, merge=sum_costs)
    sample = Sample(candidates, weights)
    return seed_from_sample(sample, k, generator(seed, stream + 15), refine=True)


def _cost(source: Any, centers: Centers, frame: Frame) -> float:
    distances, weights, _ = _distances(source, centers, frame)
    return float(distances.sum() if weights is None else distances @ weights)


def _distances(source: Any, centers: Centers, frame: Frame) -> tuple[np.ndarray, Any, Any]:
    block = source.open()
    labels = np.empty(len(block.rows), np.int32)
    assign(block.rows, block.weights, centers.centroids, frame, labels, summed=False)
    return squared_distances(block.rows, centers.centroids, labels), block.weights, block


def _draw_candidates(
    item: list[Any], centers: Centers, frame: Frame, draw: tuple[float, int, int, Any]
) -> Sample:
    source, first = item
    factor, seed, stream, dtype = draw
    distances, weights, block = _distances(source, centers, frame)
    chance = factor * (distances if weights is None else distances * weights)
    chosen = np.flatnonzero(row_uniforms(seed, stream, first, len(distances)) < chance)
    return Sample(block.rows[chosen].astype(dtype), np.ones(len(chosen)))


def _weigh(source: Any, centers: Centers, frame: Frame) -> np.ndarray:
    block = source.open()
    labels = np.empty(len(block.rows), np.int32)
    return assign(block.rows, block.weights, centers.centroids, frame, labels).counts


def sum_costs(parts: list[Any]) -> Any:
    """Sum in the order of the blocks."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _complete(rows: Rows, centroids: np.ndarray, k: int) -> np.ndarray:
    """Add distinct rows, the first of the data that are not among the centroids; one pass."""
    known = rows.pool.broadcast(np.asarray(centroids, rows.centroid_dtype))
    wanted = k - len(centroids)
    found = rows.run(_distinct, known, wanted, merge=partial(_join_distinct, wanted))
    return np.concatenate([centroids, found])


def _distinct(source: Any, known: np.ndarray, wanted: int) -> np.ndarray:
    block = source.open()
    rows = block.rows if block.weights is None else block.rows[block.weights > 0]
    return _first_distinct(rows, known, wanted)


def _first_distinct(rows: np.ndarray, known: np.ndarray, wanted: int) -> np.ndarray:
    seen = {(row + 0.0).tobytes() for row in known}
    chosen = []
    for row in rows:
        row = row.astype(known.dtype) + 0.0
        if row.tobytes() not in seen:
            seen.add(row.tobytes())
            chosen.append(row)
            if len(chosen) == wanted:
                break
    return np.array(chosen, known.dtype).reshape(len(chosen), known.shape[1])


def _join_distinct(wanted: int, parts: list[np.ndarray]) -> np.ndarray:
    rows = np.concatenate(parts)
    return _first_distinct(rows, rows[:0], wanted)


__all__ = [
    "INITS",
    "Sample",
    "generator",
    "join_samples",
    "row_uniforms",
    "sample_rows",
    "sample_size",
    "seed_centroids",
    "seed_from_sample",
    "sum_costs",
    "take_rows",
]
