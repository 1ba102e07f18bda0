"""Rows drawn by counter-based random numbers, whatever the chunks."""

import itertools
from typing import Any, NamedTuple

import numpy as np

from kmdist.engine.rows import Places, Rows


class Sample(NamedTuple):
    """Some of the rows, on the driver.

    Parameters
    ----------
    rows : (m, d) float32 or float64.
    weights : (m,) float64.
    """

    rows: np.ndarray
    weights: np.ndarray


def generator(seed: int, stream: int) -> np.random.Generator:
    """A stream of random numbers of its own for each purpose."""
    return np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), stream]))


def row_uniforms(seed: int, stream: int, first: int, n: int) -> np.ndarray:
    """Random numbers of rows ``first … first + n − 1`` of those that count.

    Returns
    -------
    (n,) float64 in [0, 1).
    """
    bits = np.random.Philox(key=[seed & (2**64 - 1), stream])
    bits.advance(first // 4)  # a counter gives four numbers
    skip = first % 4
    raw = bits.random_raw(skip + n)[skip:]
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53)


def place_uniforms(seed: int, stream: int, places: Places) -> np.ndarray:
    """Random numbers of the rows of a block: (n,) float64 in [0, 1)."""
    runs = zip(places.starts.tolist(), places.lengths.tolist(), strict=True)
    parts = [row_uniforms(seed, stream, start, length) for start, length in runs]
    return np.concatenate([np.empty(0), *parts])


def sample_rows(rows: Rows, size: int, seed: int, stream: int = 0) -> Sample:
    """Rows drawn uniformly without replacement, in row order; one pass over the blocks they are in.

    Returns
    -------
    Sample : all rows that count where `size` is not less than their number.
    """
    n = rows.n_counted
    if size >= n:
        chosen = np.arange(n)
    else:
        chosen = np.sort(generator(seed, stream).choice(n, size, replace=False, shuffle=False))
    return take_rows(rows, chosen)


def take_rows(rows: Rows, chosen: np.ndarray) -> Sample:
    """Rows by their global index among those that count (ascending)."""
    places = rows.counted_places
    starts = np.concatenate([one.starts for one in places])
    firsts = np.concatenate([one.firsts for one in places])
    owners = np.repeat(np.arange(len(places)), [len(one.starts) for one in places])
    order = np.argsort(starts, kind="stable")
    run = order[np.searchsorted(starts[order], chosen, side="right") - 1]
    by_block = np.argsort(owners[run], kind="stable")
    edges = np.searchsorted(owners[run][by_block], np.arange(len(places) + 1))
    inside = (firsts[run] + chosen - starts[run])[by_block]
    each = [inside[a:b] for a, b in itertools.pairwise(edges)]
    only = [i for i, part in enumerate(each) if len(part)]
    found: Sample = rows.run(_take, rows.centroid_dtype, each=each, only=only, merge=join_samples)
    return ordered(found, by_block)


def ordered(sample: Sample, places: np.ndarray) -> Sample:
    """A sample in the order of the places of its rows."""
    order = np.argsort(places, kind="stable")
    return Sample(sample.rows[order], sample.weights[order])


def _take(item: list[Any], dtype: Any) -> Sample:
    source, index = item
    rows, weights = source.open().counted()
    return Sample(rows[index].astype(dtype), weights[index])


def join_samples(parts: list[Sample]) -> Sample:
    """Samples of neighbouring blocks, one after the other."""
    return Sample(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
