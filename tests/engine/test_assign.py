"""Assignment and sums against float64, on data that is not integer, for every kernel."""

import os
import subprocess
import sys
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.engine.kernels.assign import LEAST_CENTROID_VALUES, _Spent, assign, assign_lightly
from kmdist.engine.kernels.bounds import assign_bounded, find_neighbours, lengths_of_moves
from kmdist.engine.kernels.distances import cluster_inertia, farthest_rows, two_nearest
from kmdist.engine.kernels.frame import Frame, merge_moments, moments
from kmdist.engine.kernels.projected import assign_projected, group_centroids
from kmdist.engine.kernels.subspace import make_guide, make_projected_guide, project
from kmdist.engine.kernels.sums import cluster_means, merge_sums, no_sums
from tests.support.assignment import assert_labels, draw, frame_of, naive, some_subspace

SHAPES = st.tuples(st.integers(1, 300), st.integers(1, 70), st.integers(1, 90))
DTYPES = st.sampled_from(["f4", "f8", "u1", "u2", "i4", "f2"])


@pytest.mark.slow
@given(st.integers(0, 2**31), SHAPES, DTYPES, st.booleans())
@settings(deadline=None, max_examples=60)
def test_assign_equals_float64(
    seed: int, shape: tuple[int, int, int], dtype: str, weighted: bool
) -> None:
    rows, centroids = draw(seed, shape, dtype)
    weights = np.random.default_rng(seed).random(len(rows)) if weighted else None
    frame = frame_of(rows, weights)
    labels = np.empty(len(rows), np.int32)
    got = assign(rows, weights, centroids, frame, labels)
    expected, sums, counts = naive(rows, weights, centroids)
    assert_labels(rows, centroids, labels, expected)
    if np.array_equal(labels, expected):
        np.testing.assert_allclose(got.totals, sums, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(got.weights, counts, rtol=1e-14, atol=0)


@given(st.integers(0, 2**31), SHAPES, DTYPES, st.booleans(), st.sampled_from([1.0, 2.0**-590]))
@settings(deadline=None, max_examples=40)
def test_what_does_without_kernels_gives_the_same_bits(
    seed: int, shape: tuple[int, int, int], dtype: str, weighted: bool, scale: float
) -> None:
    rows, centroids = draw(seed, shape, dtype)
    if dtype == "f8":  # squares underflow
        rows, centroids = rows * scale, centroids * scale
    random = np.random.default_rng(seed)
    weights = random.random(len(rows)) * random.integers(0, 2, len(rows)) if weighted else None
    frame = frame_of(rows, weights)
    labels, lightly = np.empty((2, len(rows)), np.int32)
    whole = assign(rows, weights, centroids, frame, labels)
    with mock.patch.object(_Spent, "work", 0):
        light = assign_lightly(rows, weights, centroids, frame, lightly)
        assert (_Spent.work > 0) == (centroids.size < LEAST_CENTROID_VALUES)
        assert np.array_equal(labels, lightly)
        assert np.array_equal(light.sums, whole.sums)
        assert np.array_equal(light.counts, whole.counts)
        moved = cluster_means(whole, centroids)
        light = assign_lightly(rows, weights, moved, frame, lightly, sums=light)
    whole = assign(rows, weights, moved, frame, labels)
    assert np.array_equal(labels, lightly)
    assert np.array_equal(light.sums, whole.sums)
    assert np.array_equal(light.counts, whole.counts)


@given(st.integers(0, 2**31), SHAPES, st.integers(1, 5), st.booleans())
@settings(deadline=None, max_examples=40)
def test_chunking_and_order_do_not_change_a_bit(
    seed: int, shape: tuple[int, int, int], parts: int, weighted: bool
) -> None:
    rows, centroids = draw(seed, shape, "f4")
    weights = np.random.default_rng(seed).random(len(rows)) if weighted else None
    frame = frame_of(rows, weights)
    whole = assign(rows, weights, centroids, frame)
    edges = np.linspace(0, len(rows), parts + 1).astype(int)
    pieces = [
        assign(rows[a:b], None if weights is None else weights[a:b], centroids, frame)
        for a, b in pairwise(edges)
    ]
    joined = merge_sums(pieces[::-1])
    assert np.array_equal(joined.sums, whole.sums)
    assert np.array_equal(joined.counts, whole.counts)


@pytest.mark.slow
@given(
    st.integers(0, 2**31),
    SHAPES,
    st.sampled_from(["f4", "f8", "u1"]),
    st.booleans(),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_bounds_and_differences_give_the_same_bits(
    seed: int,
    shape: tuple[int, int, int],
    dtype: str,
    weighted: bool,
    panels: bool,
) -> None:
    rows, centroids = draw(seed, shape, dtype)
    n = len(rows)
    random = np.random.default_rng(seed)
    weights = random.random(n) if weighted else None
    frame = frame_of(rows, weights)
    labels, moved_labels = np.zeros(n, np.int32), np.zeros(n, np.int32)
    upper, lower = np.full(n, np.inf, np.float32), np.zeros(n, np.float32)
    sums = assign(rows, weights, centroids, frame, labels)
    previous, known = centroids, None
    for _ in range(5):
        guide = make_guide(centroids, frame)
        near = find_neighbours(centroids, frame, scores=guide.scores if panels else None)
        scored = assign_bounded(
            rows,
            weights,
            centroids,
            frame,
            labels,
            upper,
            lower,
            lengths_of_moves(previous, centroids, frame),
            near,
            sums,
            guide,
        )
        plain_labels = np.empty(n, np.int32)
        plain = assign(rows, weights, centroids, frame, plain_labels)
        known = assign(rows, weights, centroids, frame, moved_labels, sums=known)
        assert 0 <= scored <= 1
        assert np.array_equal(labels, plain_labels)
        assert np.array_equal(sums.sums, plain.sums)
        assert np.array_equal(sums.counts, plain.counts)
        assert np.array_equal(known.sums, plain.sums)
        assert_bounds(rows, centroids, frame, labels, upper, lower)
        previous = centroids
        centroids = cluster_means(plain, centroids + 0.1 * random.normal(size=centroids.shape))


@pytest.mark.slow
@given(
    st.integers(0, 2**31),
    SHAPES,
    st.sampled_from(["f4", "f8", "u1"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 6),
)
@settings(deadline=None, max_examples=60)
def test_projections_give_the_same_bits(
    seed: int,
    shape: tuple[int, int, int],
    dtype: str,
    weighted: bool,
    fresh: bool,
    most: int,
) -> None:
    rows, centroids = draw(seed, shape, dtype)
    n, (k, d) = len(rows), centroids.shape
    random = np.random.default_rng(seed)
    weights = random.random(n) if weighted else None
    frame = frame_of(rows, weights)
    subspace = some_subspace(random, d)
    points = project(rows, subspace, frame)
    groups = group_centroids(project(centroids, subspace, frame), most)
    assert sorted(groups.slots[groups.slots >= 0]) == list(range(k))
    labels = np.zeros(n, np.int32)
    upper, lower = np.full(n, np.inf, np.float32), np.zeros((n, groups.number), np.float32)
    sums = assign(rows, weights, centroids + 1.0, frame, labels)
    if fresh:
        sums, labels[:] = no_sums(k, d, frame.grid), k + 7
    previous = centroids
    for turn in range(5):
        work = assign_projected(
            rows,
            weights,
            points,
            frame,
            labels,
            (upper, lower),
            lengths_of_moves(previous, centroids, frame),
            make_projected_guide(centroids, frame, subspace, groups.slots),
            groups,
            sums,
            fresh=fresh and turn == 0,
        )
        plain_labels = np.empty(n, np.int32)
        plain = assign(rows, weights, centroids, frame, plain_labels)
        assert 0 <= work.scored <= 1
        assert 0 <= work.opened <= 1
        assert np.array_equal(labels, plain_labels)
        assert np.array_equal(sums.sums, plain.sums)
        assert np.array_equal(sums.counts, plain.counts)
        assert_bounds(rows, centroids, frame, labels, upper, lower.min(axis=1))
        previous = centroids
        centroids = cluster_means(plain, centroids + 0.1 * random.normal(size=centroids.shape))


def assert_bounds(
    rows: np.ndarray,
    centroids: np.ndarray,
    frame: Frame,
    labels: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
) -> None:
    """Neither bound is on the wrong side of the distance it stands for."""
    distances = np.sqrt(((rows[:, None] - centroids) ** 2.0).sum(axis=2)) * frame.scale
    every = np.arange(len(rows))
    assert (upper >= distances[every, labels] * (1 - 1e-12)).all()
    distances[every, labels] = np.inf
    assert (lower <= distances.min(axis=1) * (1 + 1e-12)).all()


PROBE = """
import numpy as np
from tests.support.assignment import assert_labels, draw, frame_of, naive
from kmdist.engine.kernels.assign import assign
for seed, shape, dtype in [(1, (500, 48, 64), 'f4'), (2, (300, 784, 10), 'f4'),
                           (3, (400, 3, 16), 'f8'), (4, (300, 20, 90), 'f4'),
                           (5, (99, 7, 6), 'f4'), (6, (700, 8, 9), 'u2')]:
    rows, centroids = draw(seed, shape, dtype)
    labels = np.empty(len(rows), np.int32)
    assign(rows, None, centroids, frame_of(rows), labels)
    assert_labels(rows, centroids, labels, naive(rows, None, centroids)[0])
print('right')
"""


@pytest.mark.slow  # Compiles the kernels anew for each.
@pytest.mark.parametrize(
    "environment",
    [
        {"KMDIST_PLAIN_KERNELS": "1"},
        {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2"},
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
        {"NUMBA_DISABLE_JIT": "0", "NUMBA_LOOP_VECTORIZE": "0", "NUMBA_SLP_VECTORIZE": "0"},
    ],
    ids=["plain loops", "AVX2", "no SIMD beyond the baseline", "no vectorizer"],
)
def test_every_processor_gives_the_labels_of_float64(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "right", done.stderr[-2000:]


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1.0, 1e6, 1e25, 1e120])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e6])
def test_any_scale_and_offset(scale: float, offset: float) -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(5, 4)) * 8
    truth = np.arange(500) % 5
    rows = (centres[truth] + random.normal(size=(500, 4)) * 0.1 + offset) * scale
    labels = np.empty(500, np.int32)
    assign(rows, None, (centres + offset) * scale, frame_of(rows), labels)
    assert np.array_equal(labels, truth)


def test_exact_ties_go_to_the_lowest_index() -> None:
    rows = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]], np.float32)
    centroids = np.array([[9.0, 9], [1.0, 0], [1.0, 0], [0.0, 1], [2.0, 1]])
    labels = np.empty(3, np.int32)
    assign(rows, None, centroids, frame_of(rows), labels)
    assert labels.tolist() == [1, 1, 1]
    every = np.tile(np.array([[0.3, 0.7]], np.float32), (1000, 1))
    assign(every, None, np.tile(every[:1], (130, 1)), frame_of(every), np.empty(1000, np.int32))


@given(st.integers(0, 2**31), SHAPES, st.booleans())
@settings(deadline=None, max_examples=25)
def test_distances_equal_float64(seed: int, shape: tuple[int, int, int], weighted: bool) -> None:
    rows, centroids = draw(seed, shape, "f4")
    weights = np.random.default_rng(seed).random(len(rows)) if weighted else None
    labels = naive(rows, None, centroids)[0].astype(np.int32)
    every = ((rows[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)
    own = every[np.arange(len(rows)), labels]
    w = np.ones(len(rows)) if weights is None else weights
    got = cluster_inertia(rows, weights, centroids, labels)
    np.testing.assert_allclose(
        got, np.bincount(labels, weights=w * own, minlength=len(centroids)), rtol=1e-12
    )
    near, other = two_nearest(rows, centroids, labels)
    every[np.arange(len(rows)), labels] = np.inf
    np.testing.assert_allclose(near, np.sqrt(own), rtol=1e-12)
    np.testing.assert_allclose(other, np.sqrt(every.min(axis=1)), rtol=1e-12)
    far = farthest_rows(rows, weights, centroids, labels, 3, first=10)
    assert (np.diff(far.distances) <= 0).all()
    assert len(np.unique(far.rows, axis=0)) == len(far.rows)
    if len(far.distances):
        assert far.distances[0] == pytest.approx(own[w > 0].max())


def test_a_first_row_far_off_costs_the_variance_no_digits() -> None:
    rows = np.random.default_rng(0).normal(size=(10_000, 2))
    rows[0], weights = 1e9, np.ones(10_000)
    weights[0] = 1e-30
    found = moments(rows, weights)
    np.testing.assert_allclose(found.variance, rows[1:].var(axis=0), rtol=1e-9)


@given(st.integers(0, 2**31), SHAPES, st.booleans(), st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_moments_equal_numpy(
    seed: int, shape: tuple[int, int, int], weighted: bool, parts: int
) -> None:
    rows, _ = draw(seed, shape, "f4")
    weights = np.random.default_rng(seed).random(len(rows)) + 0.1 if weighted else None
    edges = np.linspace(0, len(rows), parts + 1).astype(int)
    merged = merge_moments(
        [moments(rows[a:b], None if weights is None else weights[a:b]) for a, b in pairwise(edges)]
    )
    x = rows.astype(np.float64)
    mean = np.average(x, axis=0, weights=weights)
    np.testing.assert_allclose(merged.mean, mean, rtol=1e-9)
    expected = np.average((x - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(merged.variance, expected, rtol=1e-9, atol=1e-12)
    assert np.array_equal(merged.low, x.min(axis=0))
    assert np.array_equal(merged.high, x.max(axis=0))
    assert merged.n_rows == len(rows)
