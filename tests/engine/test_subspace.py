"""Projections of rows: bounds that hold, and fits that do not change by a bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.engine.kernels.frame import Frame
from kmdist.engine.kernels.subspace import find_subspace, project
from kmdist.engine.lloyd import Options, iterate, last
from kmdist.engine.passes import ThreadPool
from kmdist.engine.rows import Rows, rows_of_array
from tests.support.assignment import frame_of, some_subspace


def low_rank(n: int, d: int, rank: int, seed: int, noise: float = 0.05) -> np.ndarray:
    """Rows near a subspace, float32, far from the origin."""
    random = np.random.default_rng(seed)
    inside = random.normal(size=(n, rank)) @ random.normal(size=(rank, d))
    return (inside + noise * random.normal(size=(n, d)) + 3.0).astype(np.float32)


@given(st.integers(0, 2**31), st.integers(2, 40), st.sampled_from(["f4", "f8", "u1"]))
@settings(deadline=None, max_examples=40)
def test_distances_lie_between_the_bounds_of_the_projections(seed: int, d: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    rows = (100.0 + 30.0 * random.normal(size=(50, d))).clip(0, 255).astype(kind)
    centroids = 100.0 + 30.0 * random.normal(size=(7, d))
    frame, subspace = frame_of(rows), some_subspace(random, d)
    x = project(rows, subspace, frame).astype(np.float64)
    c = project(centroids, subspace, frame).astype(np.float64)
    true = np.sqrt(((rows[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)) * frame.scale
    near = np.sqrt(((x[:, None] - c) ** 2).sum(axis=2))
    far = np.sqrt(near**2 + 4.0 * x[:, None, -1] * c[:, -1])
    lengths = np.sqrt((x**2).sum(axis=1))[:, None] + np.sqrt((c**2).sum(axis=1))
    blur = 3.0 * subspace.blur * lengths
    assert (near <= true + blur).all()
    # An error of what is left of a row counts by the root where nothing is left.
    assert (far >= true - blur - 4.0 * np.sqrt(subspace.blur) * lengths).all()


def centroids_of(rows: np.ndarray, k: int, passes: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Centroids of some iterations, and the counts of the last."""
    fit = rows_of_array(rows, None, ThreadPool(1))[0]
    states = list(iterate(fit, rows[:k].copy(), Options(max_iter=passes, tol=0, bounds="never")))
    return [state.centroids for state in states], states[-1].counts


def test_a_subspace_is_found_where_there_is_one() -> None:
    rows = low_rank(4000, 256, 12, seed=0)
    (*_, previous, centroids), counts = centroids_of(rows, 96, 4)
    found = find_subspace(rows, previous, centroids, counts, frame_of(rows))
    assert found is not None
    m = found.basis.shape[1]
    assert 7 <= m < 64
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(m), atol=1e-13)


@pytest.mark.parametrize(
    ("rows", "k"),
    [
        (np.random.default_rng(0).random((4000, 64), dtype=np.float32), 96),  # no directions
        (low_rank(100, 256, 12, seed=0), 64),  # too few rows
        (low_rank(4000, 16, 3, seed=0), 96),  # too few features
    ],
)
def test_no_subspace_where_it_would_not_pay(rows: np.ndarray, k: int) -> None:
    (*_, previous, centroids), counts = centroids_of(rows, k, 4)
    assert find_subspace(rows, previous, centroids, counts, frame_of(rows)) is None


def fit(
    rows: np.ndarray, k: int, bounds: str, *, spacious: bool = True
) -> tuple[Rows, list[bytes]]:
    made, labels = rows_of_array(rows, None, ThreadPool(2))
    made.spacious = spacious
    state = last(iterate(made, rows[:k].copy(), Options(max_iter=25, tol=0, bounds=bounds)))
    exact = [state.centroids, np.float64(state.inertia), np.asarray(state.counts), labels]
    return made, [np.asarray(value).tobytes() for value in exact]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f4", "f8", "u1"])
def test_a_fit_with_projections_has_the_same_bits(kind: str) -> None:
    rows = low_rank(9000, 384, 10, seed=1)
    if kind == "u1":
        rows = (rows * 12 + 100).clip(0, 255)
    rows = rows.astype(kind)
    made, projected = fit(rows, 80, "auto")
    assert any(block.memory.points is not None for block in made.sources)
    plain, same = fit(rows, 80, "auto", spacious=False)
    assert all(block.memory.points is None for block in plain.sources)
    assert projected == same == fit(rows, 80, "never")[1]


@pytest.mark.slow
def test_ties_go_to_the_lowest_index_in_a_projection() -> None:
    rows = low_rank(3000, 200, 6, seed=2, noise=0.0).round()
    rows = np.concatenate([rows, rows, rows])
    pairs = np.repeat(rows[:40], 2, axis=0)  # each centroid twice
    made = rows_of_array(rows, None, ThreadPool(1))[0]
    states = [
        last(iterate(made, pairs.copy(), Options(max_iter=6, tol=0, bounds=bounds)))
        for bounds in ("never", "always")
    ]
    assert np.array_equal(states[0].centroids, states[1].centroids)
    assert np.array_equal(states[0].counts, states[1].counts)


def test_projections_are_made_only_where_they_fit() -> None:
    rows = low_rank(1000, 64, 4, seed=3)
    need = 1000 * (256 + 256 // 3 + 20)
    assert rows_of_array(rows, None, ThreadPool(1, 2 * need))[0].spacious
    assert not rows_of_array(rows, None, ThreadPool(1, 2 * need - 2000))[0].spacious


def test_frames_of_shifted_rows_project_the_shifted_rows() -> None:
    rows = low_rank(500, 20, 3, seed=4) + np.float32(1000)
    frame: Frame = frame_of(rows)
    assert frame.shift.any()
    subspace = some_subspace(np.random.default_rng(0), 20)
    points = project(rows, subspace, frame)
    lengths = np.sqrt(((rows - frame.shift) ** 2).sum(axis=1)) * frame.scale
    np.testing.assert_allclose(np.sqrt((points**2.0).sum(axis=1)), lengths, rtol=1e-6)
