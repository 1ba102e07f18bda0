"""What is asked of every pixel, against plain NumPy."""

from fractions import Fraction

import numpy as np
import pytest

from kmdist.recipes.segment.kernels import any_channel
from kmdist.recipes.segment.labels import label_pixels
from kmdist.recipes.segment.model import Scaling, SegmentModel, cluster_colors


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 13, 8), (5, 4, 1), (2, 3, 48)])
@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_any_channel(dtype: str, shape: tuple[int, int, int], share: float) -> None:
    rng = np.random.default_rng(0)
    marks, others = rng.random(shape) < share, rng.integers(2, 99, shape)
    for wanted in (1, *([np.nan, np.inf, -np.inf] if dtype[0] == "f" else [])):
        values = np.where(marks, wanted, others).astype(dtype)
        found = any_channel(values, values.dtype.type(wanted))
        np.testing.assert_array_equal(found, marks.any(axis=2))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_totals_are_those_of_the_pixels_of_each_cluster(dtype: str) -> None:
    rng = np.random.default_rng(0)
    high = np.iinfo(dtype).max if dtype[0] in "ui" else 1000
    values = rng.integers(0, high, (90, 70, 5), endpoint=True).astype(dtype)
    valid = rng.random((90, 70)) < 0.9
    centroids = np.array([[0.0] * 5, [high / 2] * 5, [high] * 5, [1e12] * 5])
    names = tuple("12345")
    kind = np.dtype(dtype if dtype[1] <= "2" else np.float64)
    model = SegmentModel(centroids, cluster_colors(4), Scaling(None, None, kind), names)
    labels, totals = label_pixels(values, valid, model)
    rows = values[valid].astype(np.float64)
    distances = ((rows[:, None] - centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(labels[valid], distances.argmin(axis=1))
    assert not labels[~valid].any()
    assert totals.total_inertia == pytest.approx(distances.min(axis=1).sum(), rel=1e-13)
    mean, sd = totals.mean_and_sd()
    for cluster in range(4):
        own = rows[labels[valid] == cluster]
        assert totals.counts[cluster] == len(own)
        expected = (own.mean(axis=0), own.std(axis=0)) if len(own) else (0, 0)
        np.testing.assert_allclose(mean[cluster], expected[0], rtol=1e-13)
        np.testing.assert_allclose(sd[cluster], expected[1], rtol=1e-9)
        if dtype[0] in "ui" and dtype[1] <= "2":
            high, low = totals.squares[:, cluster].astype(object)
            exact = [sum(int(x) ** 2 for x in column) for column in own.T]
            assert [int(a) + int(b) for a, b in zip(high, low, strict=True)] == exact


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize("size", [0.0, 1e-9, 100.0, 1e6])
def test_inertia_of_whole_numbers_is_rounded_once(dtype: str, size: float) -> None:
    rng = np.random.default_rng(0)
    ends = np.iinfo(dtype)
    values = rng.integers(ends.min, ends.max, (9, 20, 3), endpoint=True).astype(dtype)
    centroids = rng.normal(0, size, (4, 3))
    scaling = Scaling(None, None, np.dtype(dtype))
    model = SegmentModel(centroids, cluster_colors(4), scaling, tuple("123"))
    labels, totals = label_pixels(values, np.ones((9, 20), bool), model)
    pairs = zip(values.reshape(-1, 3).tolist(), centroids[labels.ravel()].tolist(), strict=True)
    squares = [
        (Fraction(x) - Fraction(c)) ** 2 for a, b in pairs for x, c in zip(a, b, strict=True)
    ]
    assert totals.total_inertia == float(sum(squares))
