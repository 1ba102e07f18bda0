"""Rows beyond memory: a weighted sample or mini-batches, drawn in one pass, stand for all.

Two passes over the rows whatever their number (statistics; draw), then one that labels them and
measures the exact inertia.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from kmdist.engine.kernels.assign import assign
from kmdist.engine.kernels.distances import squared_distances
from kmdist.engine.kernels.frame import Moments, make_frame, moments
from kmdist.engine.kernels.sums import cluster_means
from kmdist.engine.lloyd import Options, State, final_state, iterate
from kmdist.engine.passes import ThreadPool
from kmdist.engine.rows import (
    Rows,
    Sample,
    generator,
    join_samples,
    ordered,
    rows_of_array,
    small_uniforms,
)
from kmdist.engine.seeding import seed_centroids, seed_from_sample

CORESET_ROWS = 50_000
CORESET_PER_CLUSTER = 200
CORESET_BYTES = 256 << 20
BATCH_ROWS = 4096
BATCHES = 100

_DRAWN_AT_ONCE = 1 << 16
"""Rows that are looked at: all of a block may be, where one row is far from the others."""

_STREAM = 1 << 20
"""Streams of random numbers from here on are the coreset's; those of seeding lie below."""


def coreset_size(k: int, n_features: int, itemsize: int) -> int:
    """Rows of a coreset: 50,000, or 200 a cluster if that is more, within 256 MiB."""
    wanted = max(CORESET_ROWS, CORESET_PER_CLUSTER * k)
    return max(min(wanted, CORESET_BYTES // (n_features * itemsize)), 4 * k)


def draw_coreset(rows: Rows, size: int, seed: int) -> Sample:
    """A lightweight coreset (Bachem, Lucic, Krause, KDD 2018): one pass.

    A row is taken with probability ``min(1, size · (½ w/W + ½ w‖x − mean‖²/Σ))``, independently
    of all others (the paper draws `size` times with replacement), and weighs w divided by it.

    Parameters
    ----------
    rows : what to draw from.
    size : rows expected in the coreset.
    seed : of the random stream, indexed by global row.

    Returns
    -------
    Sample
    """
    m = rows.moments
    spread = steady(m.m2.sum())
    by_weight = (0.5 if spread > 0 else 1.0) * size / steady(m.weight)
    by_distance = 0.5 * size / spread if spread > 0 else 0.0
    mean = steady(m.mean, beside=np.sqrt(m.variance))
    return _draw(rows, _Chances(mean, float(by_weight), float(by_distance)), seed)


def steady(values: Any, bits: int = 24, *, beside: Any = 0.0) -> Any:
    """Rounded to some bits: the last ones depend on how the rows are chunked.

    Parameters
    ----------
    beside : what errors are relative to where values are less, as means are near zero.
    """
    exponents = np.frexp(np.maximum(np.abs(values), beside))[1] - bits
    return np.ldexp(np.rint(np.ldexp(values, -exponents)), exponents)


def draw_uniform(rows: Rows, size: int, seed: int) -> Sample:
    """Rows drawn in proportion to their weights, independently; one pass.

    Returns
    -------
    Sample : `size` rows are expected; their weights are theirs over their probability.
    """
    chance = float(size / steady(rows.moments.weight))
    return _draw(rows, _Chances(rows.moments.mean, chance), seed)


class _Chances(NamedTuple):
    """With which rows are drawn, per weight: `by_weight` + `by_distance` · ‖x − mean‖²."""

    mean: np.ndarray
    by_weight: float
    by_distance: float = 0.0
    most: float = 1.0

    def within(self, m: Moments) -> "_Chances":
        """With the most that any row of some statistics has."""
        reach = np.maximum(m.high - self.mean, self.mean - m.low)
        most = self.by_weight + self.by_distance * float(reach @ reach)
        return self._replace(most=most * (1 + 1e-9))  # sums of squares are rounded


def _draw(rows: Rows, chances: _Chances, seed: int) -> Sample:
    sample, places = rows.run(
        _draw_block,
        rows.pool.broadcast(chances.within(rows.moments)),
        seed,
        rows.centroid_dtype,
        each=rows.counted_places,
        merge=_join_draws,
    )
    return ordered(sample, places)


def _draw_block(
    item: list[Any], chances: _Chances, seed: int, dtype: Any
) -> tuple[Sample, np.ndarray]:
    """Leaf of the pass that draws; only rows whose random number is small enough are looked at."""
    source, places = item
    block = source.open().counting()
    found, weights = block.rows, block.weights
    heaviest = 1.0 if weights is None else float(weights.max(initial=0.0))
    near, uniforms = small_uniforms(seed, _STREAM, places, chances.most * heaviest)
    samples, chosen = [], []
    for first in range(0, len(near) or 1, _DRAWN_AT_ONCE):
        here = near[first : first + _DRAWN_AT_ONCE]
        rows, each = found[here], np.ones(len(here)) if weights is None else weights[here]
        chance = np.zeros(len(here))
        if chances.by_distance:
            own = np.zeros(len(here), np.int32)
            chance = squared_distances(rows, chances.mean[None], own)
            chance *= chances.by_distance * each
        chance += chances.by_weight * each
        taken = np.flatnonzero(uniforms[first : first + _DRAWN_AT_ONCE] < chance)
        weight = each[taken] / np.minimum(chance[taken], 1.0)
        samples.append(Sample(rows[taken].astype(dtype), weight))
        chosen.append(here[taken])
    return join_samples(samples), places.of(np.concatenate(chosen))


def _join_draws(parts: list[tuple[Sample, np.ndarray]]) -> tuple[Sample, np.ndarray]:
    samples, places = zip(*parts, strict=True)
    return join_samples(list(samples)), np.concatenate(places)


def fit_coreset(
    rows: Rows,
    k: int,
    init: Any,
    options: Options,
    seed: int,
    attempts: int = 1,
    *,
    label: bool = True,
) -> State:
    """Fit a coreset, then label all rows.

    Parameters
    ----------
    rows, k, init, seed : as in `kmdist.engine.seeding.seed_centroids`.
    options : how to iterate on the coreset.
    attempts : restarts on the coreset, of which the best there is kept.
    label : False: save the pass over all rows.

    Returns
    -------
    State : counts and inertia are exact and of all rows, or without labels those of the coreset.
    """
    size = coreset_size(k, rows.n_features, rows.centroid_dtype.itemsize)
    sample = draw_coreset(rows, size, seed)
    pool = ThreadPool(rows.pool.threads if isinstance(rows.pool, ThreadPool) else 1)
    try:
        small, _ = rows_of_array(sample.rows, sample.weights, pool)
        best = None
        for attempt in range(attempts):
            for state in iterate(small, seed_centroids(small, k, init, seed, attempt), options):
                last = state
            if best is None or last.inertia < best.inertia:
                best = last
    finally:
        pool.close()
    if best is None:
        raise ValueError(f"attempts={attempts} must be at least 1")
    return final_state(rows, best) if label else best


def fit_minibatch(rows: Rows, k: int, init: Any, options: Options, seed: int) -> State:
    """Mini-batch k-means (Sculley, WWW 2010) on random batches, then label all rows.

    All batches are drawn in one pass: 100, or `max_iter` if that is less, of 4,096 rows
    (or 10·k if that is more), within 256 MiB, in an order that depends on the seed alone. Stops
    when the centroids have moved less than ``tol`` allows in each of the last ten batches.

    Returns
    -------
    State : counts and inertia are exact and of all rows; `iteration` counts batches.
    """
    batch = max(BATCH_ROWS, 10 * k)
    width = rows.n_features * rows.centroid_dtype.itemsize
    total = max(batch, min(min(BATCHES, options.max_iter) * batch, CORESET_BYTES // width))
    drawn = draw_uniform(rows, total, seed)
    order = generator(seed, _STREAM + 1).permutation(len(drawn.rows))
    # One but for rows so heavy, or so few, that they are drawn for certain.
    sample = Sample(drawn.rows[order], drawn.weights[order] / drawn.weights.min())
    if isinstance(init, str):
        head = Sample(sample.rows[: 4 * batch], sample.weights[: 4 * batch])
        init = seed_from_sample(head, k, generator(seed, _STREAM + 2))
        if len(init) < k:
            init = seed_centroids(rows, k, "k-means++", seed)
    state = State(np.asarray(init, rows.centroid_dtype), np.zeros(k), np.inf, 0)
    tolerance = options.tol * float(rows.moments.variance.mean())
    calm, reason = 0, "max_iter"
    for part in _batches(sample, batch):
        state = minibatch_step(state, part.rows, part.weights)
        calm = calm + 1 if 0.0 < tolerance >= state.shift else 0
        if calm == 10:
            reason = "tolerance"
            break
    return final_state(rows, replace(state, stop_reason=reason))


def _batches(sample: Sample, batch: int) -> Iterator[Sample]:
    for first in range(0, len(sample.rows), batch):
        here = slice(first, first + batch)
        yield Sample(sample.rows[here], sample.weights[here])


def minibatch_step(state: State, rows: np.ndarray, weights: np.ndarray | None) -> State:
    """Move centroids to the running means of what they have been assigned (Sculley, 2010).

    Parameters
    ----------
    state : counts hold the weight each centroid has seen.
    rows : (n, d) finite real numbers. weights : (n,) float64, or None.

    Returns
    -------
    State : its inertia is that of the batch for the old centroids.
    """
    frame = make_frame(moments(rows, weights))
    labels = np.empty(len(rows), np.int32)
    sums = assign(rows, weights, state.centroids, frame, labels)
    distances = squared_distances(rows, state.centroids, labels)
    added = sums.weights
    seen = state.counts + added
    touched = added > 0
    centroids = state.centroids.astype(np.float64)
    means = cluster_means(sums, centroids)[touched]
    rate = (added[touched] / seen[touched])[:, None]
    centroids[touched] += rate * (means - centroids[touched])
    moved = centroids.astype(state.centroids.dtype)
    return State(
        moved,
        seen,
        float(distances.sum() if weights is None else distances @ weights),
        state.iteration + 1,
        None,
        float(((moved.astype(np.float64) - state.centroids) ** 2).sum()),
    )
