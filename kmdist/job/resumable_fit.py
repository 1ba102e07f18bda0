"""Rows of the blocks of a job, and plain k-means of them, which a resume goes on with."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from kmdist.engine.fits import FitOptions
from kmdist.engine.lloyd import Options, State, iterate
from kmdist.engine.rows import Block, Rows
from kmdist.engine.seeding import seed_centroids
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass, Item, LeftOut, Stage
from kmdist.job.job import Job

CHECKPOINT_S = 10.0
"""Seconds of iterations that a killed fit loses at most."""
SEEDING_PASSES = 8
"""Of `fit_centroids` from k-means++, about."""

Part = TypeVar("Part", bound=Item)


def kept_rows(
    job: Job,
    items: Sequence[Part],
    without: Callable[[Sequence[Part], Sequence[Rejection]], Sequence[Part]],
    load: Callable[[tuple[Part, Any]], np.ndarray],
    how: Any,
    group: str = "",
) -> tuple[Sequence[Part], list[Any]]:
    """Rows of blocks, made once and kept where they were made.

    Parameters
    ----------
    without : the blocks that are left without images that killed the workers which were to keep
        their rows.
    load : called with a block and `how`, as a tuple; importable. It returns (n, d) rows.
    group : tells the passes of several groups of images apart.

    Returns
    -------
    items : the blocks that have rows.
    sources : futures of them, for `kmdist.engine.rows.Rows`.
    """
    while True:
        kept: dict[int, Any] = {}
        passing = BlockPass(job, ROWS, group=group, kept=kept)
        found: LeftOut = passing.run(items, load, job.pool.broadcast(how))
        if not found.rejected:
            return items, [kept[item.index] for item in items]
        items = without(items, found.rejected)


def _load_block(item: Any, load: Callable[[tuple[Any, Any]], np.ndarray], how: Any) -> Block:
    return Block(load((item, how)))


def _is_there(*_: Any) -> LeftOut:
    """Leaf of the pass that makes rows to be kept."""
    return LeftOut()


ROWS = Stage("rows", _is_there, LeftOut.merge, LeftOut, prepare=_load_block)


def fit_centroids(
    job: Job, rows: Rows, k: int, options: FitOptions, name: str
) -> tuple[State, np.ndarray]:
    """Plain k-means: the restart of least inertia, going on from its last checkpoint.

    Returns
    -------
    state : final State.
    history : (iterations, 3) float64.
    """
    fits = (
        _one_fit(job, rows, k, options, attempt, f"{name}-{attempt}")
        for attempt in range(options.n_init)
    )
    return min(fits, key=lambda fit: fit[0].inertia)


def _one_fit(
    job: Job, rows: Rows, k: int, options: FitOptions, attempt: int, name: str
) -> tuple[State, np.ndarray]:
    saved = job.writer.load_state(name)
    history = [] if saved is None else [tuple(row) for row in saved["history"].tolist()]
    start = None if saved is None else _state_of(saved)
    if start is None:
        centroids = seed_centroids(rows, k, options.init, options.seed, attempt)
    elif start.stop_reason is None:
        centroids = start.centroids
    else:
        return start, np.array(history)
    state, saved_s = start, time.monotonic()
    lloyd = Options(max_iter=options.max_iter, tol=options.tol)
    for state in iterate(rows, centroids, lloyd, start=start):
        history.append((state.inertia, state.shift, float(state.n_repaired)))
        job.say_state(state)
        if state.stop_reason is not None or time.monotonic() - saved_s > CHECKPOINT_S:
            job.writer.save_state(name, _arrays_of(state, history))
            saved_s = time.monotonic()
    assert state is not None
    return state, np.array(history)


def _arrays_of(state: State, history: Sequence[tuple[float, ...]]) -> dict[str, np.ndarray]:
    return {
        "centroids": state.centroids,
        "counts": state.counts,
        "numbers": np.array([state.inertia, state.iteration, state.shift, state.n_repaired]),
        "stop_reason": np.array([state.stop_reason or ""]),
        "history": np.array(history),
    }


def _state_of(saved: Mapping[str, np.ndarray]) -> State:
    inertia, iteration, shift, n_repaired = saved["numbers"].tolist()
    reason = str(saved["stop_reason"][0]) or None
    return State(
        saved["centroids"], saved["counts"], inertia, int(iteration), reason, shift, int(n_repaired)
    )
