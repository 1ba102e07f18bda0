"""Random numbers of rows, against those of NumPy."""

import tracemalloc

import numpy as np
import pytest

from kmdist.engine.kernels.uniforms import uniforms_below
from kmdist.engine.rows import row_uniforms


@pytest.mark.parametrize("limit", [0.0, 1e-3, 0.4, 1.0, 7.0])
@pytest.mark.parametrize("key", [(0, 0), (2**64 - 1, 1 << 20)])
def test_small_numbers_are_those_of_numpy(limit: float, key: tuple[int, int]) -> None:
    starts, lengths = np.array([0, 3, 9, 2**40 + 1, 2**40 + 3002]), np.array([2, 5, 0, 3000, 1])
    whole = []
    for start, n in zip(starts.tolist(), lengths.tolist(), strict=True):
        bits = np.random.Philox(key=np.array(key, np.uint64))
        bits.advance(start // 4)
        whole.append(np.random.Generator(bits).random(start % 4 + n)[start % 4 :])
    expected = np.concatenate(whole)
    positions, numbers = uniforms_below(key, starts, lengths, limit)
    np.testing.assert_array_equal(positions, np.flatnonzero(expected < limit))
    np.testing.assert_array_equal(numbers, expected[expected < limit])


def test_all_numbers_are_held_once() -> None:
    row_uniforms(0, 1, 0, 8)  # the kernel is compiled
    tracemalloc.start()
    try:
        numbers = row_uniforms(0, 1, 5, 1 << 18)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2.2 * numbers.nbytes  # with the positions that go with them
