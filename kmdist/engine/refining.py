"""Move badly used centroids to where they are missed, beyond the optimum Lloyd's algorithm ends in.

Breathing k-means (Fritzke, *The breathing k-means algorithm*, 2020): a few centroids are added next
to those of the largest errors, Lloyd's algorithm is run, as many of the least utility are taken
away, it is run again, and the result is kept if it is better. The utility of a centroid is what its
rows would add to the inertia if they went to the next one.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from kmdist.engine.block_steps import Centers
from kmdist.engine.coreset import steady
from kmdist.engine.kernels.distances import utility_bins
from kmdist.engine.kernels.frame import Frame, make_frame
from kmdist.engine.kernels.sums import merge_bins, totals_of
from kmdist.engine.lloyd import Options, State, broadcast_centers, finish, iterate, last
from kmdist.engine.rows import Rows, generator

BREATH = 10
"""Centroids that are added and taken away at first; one less after each time in vain."""

_STREAM = 1 << 32
"""Of random numbers that no start has (`kmdist.engine.seeding`)."""

_OFFSET = 0.01
"""Distance of an added centroid from its neighbour, in root mean squared distances of rows."""

_LEAST_GAIN = 1e-4
"""Of the inertia; less is not worth another breath."""


def breathe(rows: Rows, state: State, options: Options, seed: int) -> Iterator[State]:
    """Improve a fit until adding and taking away even one centroid is in vain.

    Parameters
    ----------
    rows : what is clustered.
    state : the last of `kmdist.engine.lloyd.iterate` for these rows.
    options : of that call; each run of Lloyd's algorithm has its `max_iter` and `tol`.
    seed : of the directions in which centroids are added.

    Yields
    ------
    State : each better one, with the iterations done in all. Kept rows hold the labels of the last
        once the generator has ended.
    """
    k, breath = len(state.centroids), 0
    size = min(BREATH, k)
    options = replace(options, bounds="auto")
    while size > 0 and state.inertia > 0 and rows.n_counted >= k + size:
        grown = _inhaled(rows, state, size, generator(seed, _STREAM + breath))
        inhaled = last(iterate(rows, grown, options))
        exhaled = last(iterate(rows, _exhaled(rows, inhaled, size), options))
        n_iter = state.iteration + inhaled.iteration + exhaled.iteration
        better = exhaled.inertia < state.inertia * (1.0 - _LEAST_GAIN)
        state = replace(exhaled if better else state, iteration=n_iter)
        breath += 1
        if better:
            yield state
        else:
            size -= 1
    finish(rows, state.centroids)
    yield state


def _inhaled(rows: Rows, state: State, size: int, random: np.random.Generator) -> np.ndarray:
    """Centroids and one more next to each of those with the largest errors."""
    centroids = state.centroids
    errors = totals_of(finish(rows, centroids).inertia)
    worst = np.argsort(-errors, kind="stable")[:size]
    ways = random.normal(size=(len(worst), centroids.shape[1]))
    ways /= np.sqrt((ways * ways).sum(axis=1, keepdims=True))
    step = _OFFSET * np.sqrt(state.inertia / steady(rows.moments.weight))
    return np.concatenate([centroids, (centroids[worst] + step * ways).astype(centroids.dtype)])


def _exhaled(rows: Rows, state: State, size: int) -> np.ndarray:
    """Centroids without those of the least utility, of which no two are neighbours.

    For each that goes, as many of its neighbours stay as centroids go; where that leaves too few
    that may go, neighbours go after all.
    """
    counted = np.stack([rows.moments.low, rows.moments.high])
    frame = rows.pool.broadcast(make_frame(replace(rows.moments, reach=counted)))
    centers = broadcast_centers(rows, state.centroids)
    utilities = totals_of(rows.run(_utilities, centers, frame, merge=merge_bins))
    gaps = cdist(state.centroids, state.centroids)
    gone, stays = np.zeros(len(gaps), bool), np.zeros(len(gaps), bool)
    order = np.argsort(utilities, kind="stable")
    for j in order:
        if gone.sum() < size and not stays[j]:
            near = np.argsort(gaps[j], kind="stable")[: size + 1]
            stays[near[: max(0, len(gaps) - 2 * size)]] = True
            gone[j] = True
    for j in order:
        gone[j] |= gone.sum() < size
    return state.centroids[~gone]


def _utilities(source: Any, centers: Centers, frame: Frame) -> np.ndarray:
    rows, weights = source.open().counted()
    return utility_bins(rows, weights, centers.centroids, frame)
