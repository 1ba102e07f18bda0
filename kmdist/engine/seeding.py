"""Initial centroids: from a sample, by k-means||, or random rows; the same for any chunking.

Random numbers are Philox streams (Salmon et al., SC 2011) of the seed, indexed by global row.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kmdist.engine.block_steps import Centers
from kmdist.engine.kernels.assign import assign
from kmdist.engine.kernels.distances import exchange_centres, plus_plus, squared_distances
from kmdist.engine.kernels.frame import Frame, make_frame, moments, spread_scale
from kmdist.engine.kernels.sums import cluster_means, merge_bins, totals_of, weighted_bins
from kmdist.engine.lloyd import run_step
from kmdist.engine.rows import (
    Block,
    Places,
    Rows,
    Sample,
    generator,
    join_samples,
    place_uniforms,
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

EXCHANGES = 25
"""Exchanges at the least: fewer leave large groups untried where there are few centres."""

_ROWS_AT_ONCE = 1 << 16
"""Of a block whose distances, random numbers and places are looked at."""

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
    init : ``'k-means++'``: see `seed_each`; ``'k-means||'``: five rounds over all rows
        (Bahmani et al., VLDB 2012); ``'random'``: distinct rows; an array (k, d).
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
    elif init == "random":
        size = sample_size(k, rows.n_features, rows.centroid_dtype.itemsize)
        sample = sample_rows(rows, size, seed, stream)
        centroids = _random_rows(sample, k, generator(seed, stream + 1))
    else:
        centroids = seed_each(rows, [k], seed, stream)[1][0]
    return complete(rows, centroids, k)


def complete(rows: Rows, centroids: np.ndarray, k: int) -> np.ndarray:
    """k centroids: distinct rows are added, or the first ones repeated where there are none."""
    if len(centroids) < k:
        centroids = _add_distinct(rows, centroids, k)
    if len(centroids) < k:
        centroids = np.resize(centroids, (k, rows.n_features))
    return np.asarray(centroids, dtype=rows.centroid_dtype)


def seed_each(
    rows: Rows, ks: list[int], seed: int, stream: int = 0
) -> tuple[Sample, list[np.ndarray]]:
    """Initial centroids for several k from one sample and one look at all rows.

    Greedy k-means++ on a uniform sample places the centres. Unless the sample is everything, a
    pass over all rows then draws some in proportion to their squared distances from these, so that
    groups which the sample missed are found; on both together centres are exchanged
    (`kmdist.engine.kernels.distances.exchange_centres`) and ten Lloyd iterations done.

    Parameters
    ----------
    ks : ascending. seed, stream : of the random numbers.

    Returns
    -------
    The sample, and (m, d) distinct centroids for each k; m < k only where fewer distinct rows were
    seen.
    """
    size = sample_size(ks[-1], rows.n_features, rows.centroid_dtype.itemsize)
    sample = sample_rows(rows, size, seed, stream)
    placed = [_place(sample, k, generator(seed, stream + 1)) for k in ks]
    if len(sample.rows) == rows.n_counted:
        return sample, placed
    sizes = [_far_rows(k) + 1 for k in ks]
    sketches: list[Sketch] = rows.run(
        _sketch,
        rows.pool.broadcast(placed),
        rows.frame_future,
        sizes,
        (seed, stream + 2, spread_scale(rows.moments)),
        each=rows.counted_places,
        merge=partial(_join_sketches, sizes),
    )
    seeds = [
        _improve(rows, sample, found, k, sketch, generator(seed, stream + 3))
        for found, k, sketch in zip(placed, ks, sketches, strict=True)
    ]
    return sample, seeds


def _place(sample: Sample, k: int, random: np.random.Generator) -> np.ndarray:
    """Rows chosen by greedy k-means++; (m, d), distinct."""
    statistics = moments(sample.rows, sample.weights)
    scale = spread_scale(statistics)
    dtype = sample.rows.dtype if scale == 1.0 else np.float64
    centred = ((sample.rows - statistics.mean) * scale).astype(dtype)
    return sample.rows[plus_plus(centred, sample.weights, k, random)]


class Sketch(NamedTuple):
    """Rows drawn in proportion to w·d²: those of least E/(w·d²), E exponentially distributed.

    The weighted sample without replacement of Efraimidis and Spirakis (2006), whose probabilities
    are known once the next key is (Cohen and Kaplan, *Summarizing data using bottom-k sketches*,
    2007).

    Parameters
    ----------
    keys : (m,) float64, ascending. rows : (m,) int64, global index among rows that count.
    """

    keys: np.ndarray
    rows: np.ndarray


def _far_rows(k: int) -> int:
    """Rows of a sketch: so many that each of k groups that were missed is likely among them."""
    return max(256, 4 * k)


def _sketch(
    item: list[Any],
    placed: list[np.ndarray],
    frame: Frame,
    sizes: list[int],
    draw: tuple[int, int, float],
) -> list[Sketch]:
    """Leaf of the pass that looks at all rows."""
    seed, stream, scale = draw
    sketches = [Sketch(np.empty(0), np.empty(0, np.int64)) for _ in sizes]
    for rows, weights, places in _slices(item):
        waits = -np.log1p(-place_uniforms(seed, stream, places))
        found = []
        for centroids in placed:
            chances = weights * _distances(rows, centroids, frame, scale)
            far = np.flatnonzero(chances > 0)
            found.append(Sketch(waits[far] / chances[far], places.of(far)))
        sketches = _join_sketches(sizes, [sketches, found])
    return sketches


def _slices(item: list[Any]) -> Iterator[tuple[np.ndarray, np.ndarray, Places]]:
    """Rows of a block that count, their weights and places; few at once: much is made of each."""
    source, places = item
    block = source.open().counting()
    for first in range(0, len(block) or 1, _ROWS_AT_ONCE):
        here = slice(first, first + _ROWS_AT_ONCE)
        some = Block(block.rows[here], None if block.weights is None else block.weights[here])
        yield *some.counted(), places.part(here)


def _least(sketch: Sketch, size: int) -> Sketch:
    if len(sketch.keys) > size:
        near = np.flatnonzero(sketch.keys <= np.partition(sketch.keys, size - 1)[size - 1])
        sketch = Sketch(sketch.keys[near], sketch.rows[near])
    order = np.lexsort((sketch.rows, sketch.keys))[:size]
    return Sketch(sketch.keys[order], sketch.rows[order])


def _join_sketches(sizes: list[int], parts: list[list[Sketch]]) -> list[Sketch]:
    joined = [
        Sketch(*(np.concatenate(arrays) for arrays in zip(*same, strict=True)))
        for same in zip(*parts, strict=True)
    ]
    return [_least(sketch, size) for sketch, size in zip(joined, sizes, strict=True)]


def _improve(
    rows: Rows,
    sample: Sample,
    placed: np.ndarray,
    k: int,
    sketch: Sketch,
    random: np.random.Generator,
) -> np.ndarray:
    """Centroids from those of the sample, once rows far from them are known."""
    both = _weighted_union(rows, sample, placed, sketch, _far_rows(k))
    frame = make_frame(moments(both.rows, both.weights))
    dtype = both.rows.dtype if frame.scale == 1.0 else np.float64

    def local(points: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(((points - frame.shift) * frame.scale).astype(dtype))

    points, centres = local(both.rows), local(placed)
    if len(centres) < k:
        labels = np.empty(len(points), np.int32)
        assign(both.rows, None, placed, frame, labels, summed=False)
        known = squared_distances(points, centres, labels)
        more = plus_plus(points, both.weights, k - len(centres), random, known)
        centres = np.concatenate([centres, points[more]])
    centres = exchange_centres(points, both.weights, centres, max(k, EXCHANGES), random)
    return _settle(both, (centres / frame.scale + frame.shift).astype(both.rows.dtype), frame)


def _weighted_union(
    rows: Rows, sample: Sample, placed: np.ndarray, sketch: Sketch, size: int
) -> Sample:
    """Sample and drawn rows, weighted by one over the chance that either has them."""
    limit = sketch.keys[size] if len(sketch.keys) > size else np.inf
    far = take_rows(rows, np.sort(sketch.rows[:size]))
    both = join_samples([sample, far])
    scale = spread_scale(rows.moments)
    chances = both.weights * _distances(both.rows, placed, rows.frame, scale)
    with np.errstate(invalid="ignore"):
        drawn = np.where(chances > 0, -np.expm1(-limit * chances), 0.0)
    return Sample(both.rows, both.weights / (len(sample.rows) / rows.n_counted + drawn))


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


def seed_from_sample(sample: Sample, k: int, random: np.random.Generator) -> np.ndarray:
    """Greedy k-means++ on rows in memory, and a few Lloyd iterations on them.

    Returns
    -------
    (m, d), distinct; m < k only where the sample has fewer distinct rows.
    """
    placed = _place(sample, k, random)
    return _settle(sample, placed, make_frame(moments(sample.rows, sample.weights)))


def _settle(sample: Sample, centroids: np.ndarray, frame: Frame) -> np.ndarray:
    """Centroids after a few Lloyd iterations on a sample, as long as they stay distinct."""
    for _ in range(SAMPLE_ITERATIONS):
        sums = assign(sample.rows, sample.weights, centroids, frame)
        moved = cluster_means(sums, centroids).astype(centroids.dtype)
        if len(np.unique(moved, axis=0)) < len(moved):
            break
        centroids = moved
    return centroids


def _parallel(rows: Rows, k: int, seed: int, stream: int, rounds: int = 5) -> np.ndarray:
    """k-means||: 2k candidates a round, weighted by what is nearest to them, then reduced to k."""
    factor = 2.0 * k
    first = sample_rows(rows, min(rows.n_counted, max(64, k)), seed, stream)
    candidates = _random_rows(first, 1, generator(seed, stream + 1))
    scale = spread_scale(rows.moments)
    for turn in range(rounds):
        centers = rows.pool.broadcast(Centers(candidates))
        bins = rows.run(_cost, centers, rows.frame_future, scale, merge=merge_bins)
        cost = float(totals_of(bins)[0])
        if not cost > 0:
            break
        found: Sample = rows.run(
            _draw_candidates,
            centers,
            rows.frame_future,
            (factor / cost, scale, seed, stream + 2 + turn, rows.centroid_dtype),
            each=rows.counted_places,
            merge=join_samples,
        )
        candidates = np.unique(np.concatenate([candidates, found.rows]), axis=0)
    weights = run_step(rows, candidates).weights
    return seed_from_sample(Sample(candidates, weights), k, generator(seed, stream + 15))


def _distances(rows: np.ndarray, centroids: np.ndarray, frame: Frame, scale: float) -> np.ndarray:
    """(n,) float64, squared distances to the nearest centroids, in a scale of their own."""
    labels = np.empty(len(rows), np.int32)
    assign(rows, None, centroids, frame, labels, summed=False)
    if scale == 1.0:
        return squared_distances(rows, centroids, labels)
    gaps = (rows - centroids.astype(np.float64)[labels]) * scale
    return squared_distances(gaps, np.zeros((1, gaps.shape[1])), np.zeros_like(labels))


def _cost(source: Any, centers: Centers, frame: Frame, scale: float) -> np.ndarray:
    rows, weights = source.open().counted()
    return weighted_bins(_distances(rows, centers.centroids, frame, scale), weights)


def _draw_candidates(
    item: list[Any], centers: Centers, frame: Frame, draw: tuple[float, float, int, int, Any]
) -> Sample:
    factor, scale, seed, stream, dtype = draw
    parts = []
    for rows, weights, places in _slices(item):
        chance = factor * _distances(rows, centers.centroids, frame, scale) * weights
        chosen = np.flatnonzero(place_uniforms(seed, stream, places) < chance)
        parts.append(Sample(rows[chosen].astype(dtype), np.ones(len(chosen))))
    return join_samples(parts)


def _add_distinct(rows: Rows, centroids: np.ndarray, k: int) -> np.ndarray:
    """Add distinct rows, the first of the data that are not among the centroids; one pass."""
    known = rows.pool.broadcast(np.asarray(centroids, rows.centroid_dtype))
    wanted = k - len(centroids)
    found = rows.run(_distinct, known, wanted, merge=partial(_join_distinct, wanted))
    return np.concatenate([centroids, found])


def _distinct(source: Any, known: np.ndarray, wanted: int) -> np.ndarray:
    return _first_distinct(source.open().counting().rows, known, wanted)


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
