"""Components, landmarks and relabelling: sums over blocks against the whole in NumPy."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.engine.components import feature_sums, fit_projection, merge_feature_sums, project
from kmdist.estimators.merging import group_by_affinity
from kmdist.recipes.digits.labellers import (
    KernelLabels,
    KernelSums,
    kernel_basis,
    kernel_sums,
    merge_kernel_sums,
    solve,
)
from kmdist.recipes.digits.landmarks import (
    Landmarks,
    affinity,
    attach,
    group_landmarks,
    landmark_count,
    merge_affinities,
    nearest_landmarks,
    vote,
)


def cuts(n: int, edges: list[int]) -> list[slice]:
    bounds = [0, *sorted({edge % n for edge in edges} - {0}), n]
    return [slice(a, b) for a, b in pairwise(bounds)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 199), max_size=5), st.integers(0, 50))
def test_moments_of_blocks_are_those_of_all(edges: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(200, 9)) * 3 + 20).astype(np.float32)
    sums = merge_feature_sums([feature_sums(x[part]) for part in cuts(200, edges)])
    exact = x.astype(np.float64)
    assert sums.n == 200
    np.testing.assert_allclose(sums.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(sums.scatter / 200, np.cov(exact.T, bias=True), atol=2e-4)


@pytest.mark.parametrize(("whitening", "power"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_projection_whitens_to_a_power(whitening: float, power: float) -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(4000, 6)) * [9, 5, 3, 2, 1, 0.5]).astype(np.float32)
    found = fit_projection(feature_sums(x), 4, whitening)
    values = np.sort(np.linalg.eigvalsh(np.cov(x.T.astype(np.float64), bias=True)))[::-1][:4]
    variances = np.cov(project(x, found).T.astype(np.float64), bias=True)
    np.testing.assert_allclose(np.diag(variances), values**power, rtol=1e-3)
    assert np.abs(variances - np.diag(np.diag(variances))).max() < 1e-3 * variances.max()
    lengths = np.linalg.norm(project(x, found, unit=True), axis=1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)


def test_fewer_components_where_there_are_no_more() -> None:
    x = np.outer(np.arange(50.0), [1.0, 2.0, 0.0]).astype(np.float32)
    assert fit_projection(feature_sums(x), 3).matrix.shape == (3, 1)
    with pytest.raises(ValueError, match="all rows are the same"):
        fit_projection(feature_sums(np.ones((5, 3), np.float32)), 2)
    with pytest.raises(ValueError, match="NaN"):
        feature_sums(np.full((5, 3), np.nan, np.float32))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 700), st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_nearest_landmarks(n: int, p: int, r: int, seed: int) -> None:
    r = min(r, p)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)).astype(np.float32)
    c = np.round(rng.normal(size=(p, 5)), 1).astype(np.float32)
    distances, numbers = nearest_landmarks(x, c, r)
    exact = ((x[:, None].astype(np.float64) - c.astype(np.float64)) ** 2).sum(axis=2)
    order = np.argsort(exact, axis=1, kind="stable")[:, :r]
    np.testing.assert_array_equal(numbers, order)
    np.testing.assert_allclose(distances, np.take_along_axis(exact, order, 1), rtol=1e-12)


def test_equal_landmarks_go_by_number() -> None:
    x = np.ones((3, 2), np.float32)
    _, numbers = nearest_landmarks(x, np.zeros((5, 2), np.float32), 3)
    np.testing.assert_array_equal(numbers, [[0, 1, 2]] * 3)


def test_affinity_is_the_product_of_the_weights() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    marks = Landmarks((x[:7].copy(), x[20:25].copy()), (2.0, 3.0), 3)
    tied = attach(x, marks)
    z = np.zeros((60, 12))
    np.add.at(z, (np.arange(60)[:, None], tied.numbers), tied.weights)
    np.testing.assert_allclose(z.sum(axis=1), 2.0)
    parts = [affinity(attach(x[part], marks), marks.n) for part in cuts(60, [13, 40])]
    np.testing.assert_allclose(merge_affinities(parts).toarray(), z.T @ z, atol=1e-12)
    d = ((x[:1].astype(np.float64) - marks.sets[1]) ** 2).sum(axis=1)
    near = np.sort(d)[:3]
    np.testing.assert_allclose(
        tied.weights[0, 3:], np.exp(-near / 3) / np.exp(-near / 3).sum(), rtol=1e-9
    )


def rings(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two rings about one centre: no k-means with two centroids can tell them apart."""
    rng = np.random.default_rng(seed)
    turn, outer = rng.uniform(0, 2 * np.pi, n), np.arange(n) % 2
    radius = 1 + 2 * outer + rng.normal(0, 0.08, n)
    return np.c_[radius * np.cos(turn), radius * np.sin(turn)].astype(np.float32), outer


@pytest.mark.parametrize("p", [60, 600])
def test_landmarks_group_what_is_not_round(p: int) -> None:
    x, truth = rings(3000)
    marks = Landmarks((x[:p].copy(),), (0.02,), 4)
    tied = attach(x, marks)
    groups = group_landmarks(marks, affinity(tied, p), 2)
    labels = vote(tied, groups, 2)
    assert max(np.mean(labels == truth), np.mean(labels != truth)) > 0.995


def test_a_landmark_without_rows_follows_its_neighbour() -> None:
    x, truth = rings(800)
    lonely = np.array([[3.6, 0.0], [0.0, 0.8]], np.float32)
    marks = Landmarks((np.concatenate([x[:60], lonely]),), (0.02,), 2)
    seen = Landmarks((x[:60].copy(),), (0.02,), 2)
    total = affinity(attach(x, seen), 60).toarray()
    padded = np.zeros((62, 62))
    padded[:60, :60] = total
    from scipy.sparse import csr_array

    groups = group_landmarks(marks, csr_array(padded), 2)
    outer = groups[:60][truth[:60] == 1][0]
    assert groups[60] == outer
    assert groups[61] != outer
    with pytest.raises(ValueError, match="cannot form"):
        group_landmarks(marks, csr_array(padded), 61)


def test_pieces_without_ties_join_across_the_least_gap() -> None:
    positions = np.array([[0.0], [1.0], [10.0], [11.0], [13.0], [30.0]], np.float32)
    tied = np.eye(6)
    tied[0, 1] = tied[1, 0] = tied[2, 3] = tied[3, 2] = 0.5
    np.testing.assert_array_equal(group_by_affinity(tied, 3, positions), [0, 0, 1, 1, 1, 2])
    np.testing.assert_array_equal(group_by_affinity(tied, 2, positions), [0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(group_by_affinity(tied, 1, positions), np.zeros(6))


@pytest.mark.parametrize("unit", [False, True])
def test_a_row_is_projected_alike_wherever_it_lies(unit: bool) -> None:
    x = np.random.default_rng(0).normal(size=(3000, 300)).astype(np.float32)
    found = fit_projection(feature_sums(x), 40, 0.5)
    whole = project(x, found, unit=unit)
    for start, stop in ((0, 1), (3, 10), (7, 1000), (100, 400), (1234, 3000)):
        np.testing.assert_array_equal(project(x[start:stop], found, unit=unit), whole[start:stop])


def test_the_number_of_landmarks_has_a_limit() -> None:
    assert landmark_count(10_000, 10, 20, 100) == 500
    assert landmark_count(10**9, 10, 20, 100) == 1000


def test_relabelling_is_ridge_regression() -> None:
    x, truth = rings(900)
    basis = kernel_basis(x[:80])
    parts = [kernel_sums(x[part], truth[part], basis, 2) for part in cuts(900, [100, 555])]
    weights = solve(merge_kernel_sums(parts), 1e-3)
    centres = basis.centres.astype(np.float64)
    exact = x.astype(np.float64)
    phi = np.exp(-((exact[:, None] - centres) ** 2).sum(axis=2) / basis.scale)
    expected = np.linalg.solve(phi.T @ phi + 0.9 * np.eye(80), phi.T @ np.eye(2)[truth])
    np.testing.assert_allclose(phi @ weights, phi @ expected, atol=2e-3)
    np.testing.assert_array_equal(
        KernelLabels(basis, weights).label(x), (phi @ expected).argmax(axis=1)
    )


def test_relabelling_overrules_a_few_wrong_labels() -> None:
    x, truth = rings(2000)
    wrong = truth.copy()
    wrong[::40] = 1 - wrong[::40]
    basis = kernel_basis(x[:100])
    sums = kernel_sums(x, wrong, basis, 2)
    assert np.mean(KernelLabels(basis, solve(sums)).label(x) == truth) > 0.999


def test_sums_with_nan_are_refused() -> None:
    sums = KernelSums(5, np.full((3, 3), np.nan), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"NaN|infs"):
        solve(sums)
