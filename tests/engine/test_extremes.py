"""k-means over the whole range of floats, against exact arithmetic.

What must hold of any fit, whatever the numbers: labels in range and of the nearest centroid by
rational arithmetic, centroids the means of their rows, inertia its definition, and the same bits
for other chunks, threads and rows of weight zero.
"""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from kmdist import BisectingKMeans, KMeans
from kmdist.engine.kernels import NO_WEIGHTS
from kmdist.engine.kernels.columns import score_columns
from kmdist.engine.kernels.nearest import nearest_of_tile
from kmdist.engine.kernels.sums import (
    PartialSums,
    digits_of,
    make_grid,
    merge_bins,
    move_rows,
    no_sums,
    totals_of,
    weighted_bins,
)
from kmdist.engine.rows import unit_rows
from kmdist.kernel_cache import PLAIN_KERNELS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CASES = 1000
"""Drawn by seed in the slow test; the quick one takes the first of them."""

QUICK_CASES = 60


# What must hold


def exact_squares(X: np.ndarray, centroids: np.ndarray) -> list[list[Fraction]]:
    """Squared distances in rational arithmetic."""
    rows = [[Fraction(float(x)) for x in row] for row in X]
    centres = [[Fraction(float(c)) for c in row] for row in centroids]
    return [
        [
            sum(((x - c) ** 2 for x, c in zip(row, centre, strict=True)), Fraction())
            for centre in centres
        ]
        for row in rows
    ]


def assert_nearest(X: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> None:
    assert labels.dtype == np.int32
    assert ((labels >= 0) & (labels < len(centroids))).all()
    for squares, label in zip(exact_squares(X, centroids), labels, strict=True):
        assert squares[label] <= min(squares) * Fraction(1.0 + 1e-13)


def assert_means(
    X: np.ndarray, weights: np.ndarray, centroids: np.ndarray, labels: np.ndarray
) -> None:
    """No centroid is farther from the mean than pairwise summation of its own column may be."""
    single = centroids.dtype == np.float32
    for j, centroid in enumerate(centroids):
        inside = (labels == j) & (weights > 0)
        if not inside.any():
            continue
        own = X[inside].astype(np.float64) * weights[inside, None]
        total = math.fsum(weights[inside])
        for p, value in enumerate(centroid):
            mean = math.fsum(own[:, p]) / total
            # Sum, weight and quotient are rounded once each, here and there.
            rounding = 2.0**-51 * math.fsum(np.abs(own[:, p])) / total + 5e-324
            rounding += (2.0**-23 * abs(mean) + 1.5e-45) if single else 0.0
            assert abs(float(value) - mean) <= rounding, (j, p, value, mean)


def inertia(X: np.ndarray, weights: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> float:
    terms = []
    for row, weight, label in zip(X, weights, labels, strict=True):
        t = row.astype(np.float64) - centroids[label].astype(np.float64)
        terms.append(weight * math.fsum(t * t))
    return math.fsum(terms)


def bits(model: Any) -> tuple[bytes, bytes, float]:
    return model.cluster_centers_.tobytes(), np.asarray(model.labels_).tobytes(), model.inertia_


def assert_fit(X: np.ndarray, weights: np.ndarray | None, k: int, init: Any, chunk: int) -> None:
    """Everything that must hold of `KMeans` on some rows."""

    def fit(rows: Any, sample_weight: Any = weights) -> KMeans:
        return KMeans(k, init=init, n_init=1, tol=0, random_state=1).fit(
            rows, sample_weight=sample_weight
        )

    model = fit(X)
    w = np.ones(len(X)) if weights is None else weights
    assert_nearest(X, model.cluster_centers_, model.labels_)
    if model.stop_reason_ == "converged":
        assert_means(X, w, model.cluster_centers_, model.labels_)
    expected = inertia(X, w, model.cluster_centers_, model.labels_)
    assert model.inertia_ == pytest.approx(expected, rel=1e-13, abs=1e-300)
    assert np.array_equal(model.predict(X), model.labels_)
    assert -model.score(X, sample_weight=weights) == pytest.approx(model.inertia_, rel=1e-15)
    with dask.config.set(num_workers=2):
        assert bits(fit(da.from_array(X, chunks=(chunk, 1)))) == bits(model)
    if weights is not None and not weights.all() and np.count_nonzero(weights) >= k:
        without = fit(X[weights > 0], weights[weights > 0])
        assert without.cluster_centers_.tobytes() == model.cluster_centers_.tobytes()
        assert without.inertia_ == model.inertia_


# Cases drawn by a seed


def _denormal(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return random.integers(-40, 40, (n, d)) * 5e-324


def _denormal_single(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return (random.integers(-40, 40, (n, d)) * 1.4e-45).astype(np.float32)


def _tiny(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return random.normal(size=(n, d)) * 1e-300


def _huge(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return random.uniform(-1, 1, (n, d)) * 1e150


def _huge_single(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return (random.uniform(-1, 1, (n, d)) * 3.4e38).astype(np.float32)


def _columns(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return random.normal(size=(n, d)) * 10.0 ** random.integers(-150, 150, d)


def _outlier(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    rows = random.integers(0, 3, (n, d)) * 0.1
    rows[random.integers(n), random.integers(d)] = 10.0 ** random.integers(3, 150)
    return rows


def _outlier_single(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    rows = random.normal(size=(n, d)).astype(np.float32)
    rows[random.integers(n), random.integers(d)] = 10.0 ** random.integers(3, 38)
    return rows


def _offset(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return random.normal(size=(n, d)) + 10.0 ** random.integers(0, 13)


def _duplicates(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return random.normal(size=(3, d))[random.integers(0, 3, n)]


def _any(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return random.choice([-1.0, 1.0], (n, d)) * 10.0 ** random.uniform(-300, 150, (n, d))


def _any_single(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    sizes = 10.0 ** random.uniform(-44, 38, (n, d))
    return (random.choice([-1.0, 1.0], (n, d)) * sizes).astype(np.float32)


def _bytes(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return random.integers(0, 256, (n, d)).astype(np.uint8)


KINDS: tuple[Callable[[np.random.Generator, int, int], np.ndarray], ...] = (
    _denormal,
    _denormal_single,
    _tiny,
    _huge,
    _huge_single,
    _columns,
    _outlier,
    _outlier_single,
    _offset,
    _duplicates,
    _any,
    _any_single,
    _bytes,
)


def drawn_weights(random: np.random.Generator, n: int) -> np.ndarray | None:
    kind = random.integers(4)
    if kind == 0:
        return None
    weights = random.integers(0, 4, n).astype(float) if kind == 1 else random.random(n)
    if kind == 3:
        weights *= 10.0 ** random.integers(-6, 3, n)
    weights[random.random(n) < 0.2] = 0.0
    weights[0] = weights[0] or 1.0
    return weights


def assert_case(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, d = int(random.integers(1, 40)), int(random.integers(1, 7))
    k = n if random.random() < 0.1 else int(random.integers(1, min(n, 6) + 1))
    X = KINDS[seed % len(KINDS)](random, n, d)
    weights = drawn_weights(random, n)
    init = X[random.permutation(n)[:k]] if random.random() < 0.5 else "k-means++"
    assert_fit(X, weights, k, init, int(random.integers(1, n + 1)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK_CASES))
def test_drawn_case(seed: int) -> None:
    assert_case(seed)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("first", range(QUICK_CASES, CASES, 94))
def test_a_thousand_drawn_cases(first: int) -> None:
    for seed in range(first, min(first + 94, CASES)):
        assert_case(seed)


@pytest.mark.slow
@given(
    arrays(
        np.float64,
        array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.floats(-1e150, 1e150),
    ),
    st.integers(1, 4),
    st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=60)
def test_any_floats(X: np.ndarray, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    assert_fit(X, drawn_weights(random, len(X)), min(k, len(X)), "k-means++", 3)


@pytest.mark.slow
@given(st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_the_leaves_of_a_tree_are_means(seed: int) -> None:
    random = np.random.default_rng(seed)
    X = KINDS[seed % len(KINDS)](random, 30, 2)
    model = BisectingKMeans(min(4, len(X)), random_state=0).fit(X)
    assert_means(X, np.ones(len(X)), model.cluster_centers_, model.labels_)
    assert ((model.labels_ >= 0) & (model.labels_ < len(model.cluster_centers_))).all()
    lazy = BisectingKMeans(4, random_state=0).fit(da.from_array(X, chunks=(7, 2)))
    assert bits(lazy) == bits(model)


@pytest.mark.slow
@given(st.integers(0, 2**31), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_rows_far_from_those_that_were_fitted(seed: int, other: int) -> None:
    """Predict, transform and score rows of any range with centroids of another."""
    random = np.random.default_rng(seed)
    X = KINDS[seed % len(KINDS)](random, 20, 3)
    far = KINDS[other % len(KINDS)](random, 20, 3)
    model = KMeans(3, random_state=0).fit(X)
    centroids = model.cluster_centers_
    labels = model.predict(far)
    assert_nearest(far, centroids, labels)
    assert np.array_equal(model.predict(da.from_array(far, chunks=(3, 3))).compute(), labels)
    for squares, row in zip(exact_squares(far, centroids), model.transform(far), strict=True):
        for square, distance in zip(squares, row.astype(np.float64), strict=True):
            if centroids.dtype == np.float64:
                assert distance == pytest.approx(exact_root(square), rel=1e-12)
    expected = inertia(far, np.ones(20), centroids, labels)
    assert -model.score(far) == pytest.approx(expected, rel=1e-13)


def exact_root(square: Fraction) -> float:
    """Root of a fraction whose own value may be beyond float64."""
    if not square:
        return 0.0
    shift = (square.numerator.bit_length() - square.denominator.bit_length()) // 2
    scaled = square / Fraction(4) ** shift if shift >= 0 else square * Fraction(4) ** -shift
    return math.ldexp(math.sqrt(float(scaled)), shift)


# The cases that were wrong


def test_denormal_rows_get_labels() -> None:
    X = np.array([[0], [1e-40], [1e-39], [1.1e-39]], np.float32)
    model = KMeans(2, init=X[[0, 2]], n_init=1, tol=0).fit(X)
    assert model.labels_.tolist() == [0, 0, 1, 1]
    assert_means(X, np.ones(4), model.cluster_centers_, model.labels_)
    lone = np.zeros((1000, 3), np.float32)
    lone[417, 1] = 1e-42
    model = KMeans(2, random_state=0).fit(lone)
    assert sorted(np.bincount(model.labels_)) == [1, 999]
    assert model.inertia_ == 0.0


def test_a_column_is_summed_for_itself() -> None:
    X = np.zeros((200_000, 2))
    X[1::2, 1] = 1
    X[0, 0] = 1e11
    centres = np.array([[1e11, 0], [0, 0], [0, 1.0]])
    model = KMeans(3, init=centres, n_init=1).fit(X)
    assert model.inertia_ == 0.0
    assert np.array_equal(model.cluster_centers_, centres)
    small = np.stack([np.tile([0, 1e-3], 500), np.linspace(0, 1e9, 1000)], axis=1)
    assert KMeans(1).fit(small).cluster_centers_[0, 0] == 0.0005


def test_a_leaf_of_one_row_lies_on_it() -> None:
    random = np.random.default_rng(0)
    low = random.integers(0, 2, (1000, 2)) * 1.0
    X = np.concatenate([low, [[1e6, 0]], low + np.array([10.0, 0])])
    model = BisectingKMeans(3, random_state=0).fit(X)
    assert np.array_equal(model.cluster_centers_[model.labels_[1000]], [1e6, 0])
    assert np.bincount(model.labels_)[model.labels_[1000]] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_weight_zero_change_nothing(dtype: Any) -> None:
    X = np.array([[0], [1], [10], [11], [-3.4e38]], dtype)
    with_it = KMeans(2, random_state=0).fit(X, sample_weight=[1, 1, 1, 1, 0])
    without = KMeans(2, random_state=0).fit(X[:4])
    assert with_it.cluster_centers_.tobytes() == without.cluster_centers_.tobytes()
    assert with_it.inertia_ == without.inertia_ == 1.0
    assert np.array_equal(with_it.labels_[:4], without.labels_)
    assert with_it.labels_[4] in (0, 1)  # equally far in float64


SCALED: tuple[dict[str, Any], ...] = (
    {},
    {"init": "k-means||"},
    {"algorithm": "minibatch"},
    {"metric": "cosine"},
    {"metric": "cosine", "algorithm": "coreset"},
    {"metric": "manhattan"},
)


@pytest.mark.parametrize("parameters", SCALED, ids=str)
@pytest.mark.parametrize("exponent", [-900, 450])
def test_a_power_of_two_scales_the_centroids_and_changes_nothing_else(
    parameters: dict[str, Any], exponent: int
) -> None:
    """Also where squares of distances and lengths are no float64."""
    random = np.random.default_rng(5)
    X = random.normal(size=(400, 3)) + 4.0 * random.integers(0, 4, (400, 1))
    model = KMeans(4, random_state=0, tol=0, **parameters)
    plain = model.fit(X).cluster_centers_
    scaled = model.fit(np.ldexp(X, exponent)).cluster_centers_
    back = 0 if "metric" in parameters and parameters["metric"] == "cosine" else -exponent
    assert np.array_equal(np.ldexp(scaled, back), plain)


def test_rare_groups_of_tiny_rows_are_found() -> None:
    X = np.zeros((30_000, 1))
    X[::2], X[-3:] = 1e-200, 1e-196
    centroids = KMeans(2, random_state=0).fit(X).cluster_centers_
    assert centroids.max() == pytest.approx(1e-196, rel=1e-15, abs=0.0)


@pytest.mark.parametrize("length", [5e-324, 1e-200, 1.0, 1e200])
def test_rows_of_any_length_have_a_direction(length: float) -> None:
    unit = unit_rows(np.array([[3.0, 0], [0, 0], [0, -2]]) * length)
    assert unit.tolist() == [[1, 0], [0, 0], [0, -1]]
    assert unit_rows(np.array([[np.inf, 1.0]])).tolist() == [[np.inf, 1.0]]


def test_breathing_ignores_rows_of_weight_zero() -> None:
    X = np.random.default_rng(2).normal(size=(135, 3))
    weights = np.random.default_rng(3).random(135)
    model = KMeans(6, random_state=3, tol=0, refine="breathing")
    expected = model.fit(X, sample_weight=weights).cluster_centers_
    far = np.concatenate([X, np.full((1, 3), 1e90)])
    again = model.fit(far, sample_weight=[*weights, 0.0]).cluster_centers_
    assert again.tobytes() == expected.tobytes()


def test_every_way_to_seed_ignores_rows_of_weight_zero() -> None:
    random = np.random.default_rng(3)
    X = random.normal(size=(30_000, 3))
    weights = random.integers(0, 2, 30_000).astype(float)
    X[weights == 0] *= 1e6
    counted = X[weights > 0]
    for parameters in (
        {},
        {"init": "k-means||"},
        {"init": "random", "n_init": 1},
        {"algorithm": "coreset"},
        {"algorithm": "minibatch"},
    ):
        model = KMeans(4, random_state=0, max_iter=20, **parameters)
        centroids = model.fit(X, sample_weight=weights).cluster_centers_
        assert centroids.tobytes() == model.fit(counted).cluster_centers_.tobytes(), parameters


@given(
    arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e150, 1e150)),
    st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=100)
def test_sums_are_exact_in_any_order(values: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    grid = make_grid(digits_of(values), None, len(values))
    out = no_sums(2, 1, grid)
    left, rows = np.empty(1), values[:, None]
    add(rows, random.permutation(len(values)), grid, out, -1, 0, left)
    gone = random.permutation(len(values))[: len(values) // 2]
    add(rows, gone, grid, out, 0, 1, left)
    again = no_sums(2, 1, grid)
    stays = np.setdiff1d(np.arange(len(values)), gone)
    add(rows, stays, grid, again, -1, 0, left)
    assert np.array_equal(out.sums[0], again.sums[0])
    assert out.totals[0, 0] == pytest.approx(math.fsum(values[stays]), rel=1e-15, abs=5e-324)


def add(
    rows: np.ndarray,
    order: np.ndarray,
    grid: Any,
    out: PartialSums,
    old: int,
    new: int,
    left: np.ndarray,
) -> None:
    moved, labels = (order, np.full(len(order), old, np.int32)), np.full(len(rows), new, np.int32)
    move_rows(rows, moved, len(order), labels, NO_WEIGHTS, tuple(grid), tuple(out), left)


@given(arrays(np.float64, st.integers(1, 100), elements=st.floats(0, 1e300)))
@settings(deadline=None, max_examples=100)
def test_totals_are_correctly_rounded(values: np.ndarray) -> None:
    parts = [weighted_bins(part, None) for part in np.array_split(values, 3)]
    assert totals_of(merge_bins(parts))[0] == math.fsum(values)


def test_tiles_that_do_not_fit_are_refused() -> None:
    results = np.empty(96, np.float32), np.empty(96, np.float32), np.empty(96, np.int32)
    tile, panel = np.zeros((96, 3), np.float32), np.zeros((1, 4, 16), np.float32)
    for rows, n, columns in ((tile[:50], 50, panel), (tile, 97, panel), (tile, 96, panel[:, :3])):
        with pytest.raises(ValueError, match="does not fit"):
            nearest_of_tile(rows, n, columns, *results, 0)
    with pytest.raises(ValueError, match="do not fit"):
        nearest_of_tile(tile, 96, np.zeros((1, 4, 12), np.float32), *results, 0)


@pytest.mark.skipif(PLAIN_KERNELS, reason="plain loops compute no addresses")
def test_columns_that_do_not_fit_are_refused() -> None:
    rows, panel = np.zeros((256, 3), np.float32), np.zeros((1, 4, 8), np.float32)
    results = np.empty(256, np.float32), np.empty(256, np.float32), np.empty(256, np.int32)
    shift, tile = np.zeros(8, np.float32), np.zeros((8, 256), np.float32)
    for lines, k, own, columns, room in (
        (panel[:, :3], 5, shift, tile, results),
        (panel, 9, shift, tile, results),
        (panel, 5, shift[:3], tile, results),
        (panel, 5, shift, tile[:3], results),
        (panel, 5, shift, tile, tuple(one[:250] for one in results)),
    ):
        with pytest.raises(ValueError, match=r"fit|whole eights"):
            score_columns(lines, k, rows, own, np.float32(1), columns, *room)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_no_index_is_out_of_bounds(tmp_path: Path) -> None:
    """The tests of the engine with every index checked (`kmdist.engine.kernels`)."""
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_OPT": "0",  # compiles in two thirds of the time, which is most of it
        "NUMBA_CACHE_DIR": str(tmp_path),
        "KMDIST_PLAIN_KERNELS": "1",
    }
    here = Path(__file__).parent
    names = "extremes", "assign", "plusplus", "refining"
    files = [str(here / f"test_{name}.py") for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *files],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
