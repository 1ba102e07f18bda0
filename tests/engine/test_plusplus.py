"""Greedy k-means++ against its definition, written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.engine.kernels.distances import plus_plus


def by_definition(
    rows: np.ndarray, weights: np.ndarray, k: int, random: np.random.Generator
) -> list[int]:
    def draw(shares: np.ndarray, n: int) -> np.ndarray:
        cumulated = np.cumsum(shares)
        return np.searchsorted(cumulated, random.random(n) * cumulated[-1], side="right")

    def squares(i: int) -> np.ndarray:
        return ((rows - rows[i]) ** 2).sum(axis=1)

    chosen = [int(draw(weights, 1)[0])]
    nearest = squares(chosen[0])
    while len(chosen) < k:
        drawn = np.unique(draw(weights * nearest, 2 + int(np.log(k))))
        after = [np.minimum(nearest, squares(i)) for i in drawn]
        best = int(np.argmin([weights @ each for each in after]))
        chosen.append(int(drawn[best]))
        nearest = after[best]
    return chosen


@given(st.integers(0, 2**31), st.integers(20, 300), st.integers(1, 9), st.integers(1, 20))
@settings(deadline=None, max_examples=40)
def test_chosen_rows_are_those_of_the_definition(seed: int, n: int, d: int, k: int) -> None:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(5, d)) * 30
    rows = centres[random.integers(0, 5, n)] + random.normal(size=(n, d))
    weights = random.random(n) + 0.1
    got = plus_plus(rows, weights, k, np.random.default_rng(seed))
    assert got.tolist() == by_definition(rows, weights, k, np.random.default_rng(seed))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_rows_are_never_chosen_twice(dtype: type) -> None:
    rows = np.repeat(np.arange(12, dtype=dtype).reshape(4, 3), 5, axis=0)
    chosen = plus_plus(rows, np.ones(20), 9, np.random.default_rng(0))
    assert sorted(rows[chosen][:, 0]) == [0, 3, 6, 9]
