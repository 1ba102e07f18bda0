import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from kmdist import KMeans
from kmdist.engine.refining import DIRECTIONS, _Fit


@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(2, 12))
@settings(deadline=None, max_examples=30)
def test_a_fit_in_memory_is_a_fixed_point_of_lloyd(seed: int, d: int, k: int) -> None:
    random = np.random.default_rng(seed)
    points, weights = random.normal(size=(300, d)), random.random(300)
    fit = _Fit.of(points, weights, points[random.choice(300, k, replace=False)])
    grown = fit.inhaled(2, random)
    assert len(grown.centres) == k + 2
    assert grown.inertia < fit.inertia * (1 + 1e-9)
    for one in (fit, grown, grown.exhaled(2)):
        distances = cdist(one.points, one.centres, "sqeuclidean")
        np.testing.assert_allclose(one.squares, distances.min(axis=1), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            distances[np.arange(300), one.labels], one.squares, rtol=1e-9, atol=1e-12
        )
        means = [
            np.average(points[one.labels == j], axis=0, weights=weights[one.labels == j])
            for j in np.unique(one.labels)
        ]
        around = cdist(points, means, "sqeuclidean")[
            np.arange(300), np.unique(one.labels, return_inverse=True)[1]
        ]
        assert one.inertia == pytest.approx(weights @ around, rel=1e-9)
    assert len(grown.exhaled(2).centres) == k


def test_rows_of_many_features_are_refined_the_same_in_any_chunks() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(12, DIRECTIONS + 20)) * 3
    X = centres[random.integers(0, 12, 900)] + random.normal(size=(900, DIRECTIONS + 20))
    X = X.astype(np.float32)
    init = np.concatenate([centres[:6], X[:6]])
    plain = KMeans(12, init=init).fit(X)
    refined = KMeans(12, init=init, refine="breathing", random_state=0).fit(X)
    assert refined.inertia_ < 0.8 * plain.inertia_
    chunked = KMeans(12, init=init, refine="breathing", random_state=0).fit(
        da.from_array(X, chunks=(200, -1))
    )
    assert chunked.cluster_centers_.tobytes() == refined.cluster_centers_.tobytes()
    assert chunked.inertia_ == refined.inertia_
