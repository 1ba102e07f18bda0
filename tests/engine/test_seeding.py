"""Seeding on data with rare or tiny distant groups, which a uniform sample misses."""

from collections.abc import Callable

import dask.array as da
import numpy as np
import pytest
from sklearn.cluster import KMeans as Reference

from kmdist import KMeans
from kmdist.engine.kernels.distances import exchange_centres
from kmdist.engine.passes import ThreadPool
from kmdist.engine.rows import rows_of_array
from kmdist.engine.seeding import seed_centroids

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Made = tuple[np.ndarray, int]


def groups(
    random: np.random.Generator, sizes: list[int], d: int, spread: float, radius: float
) -> np.ndarray:
    """Normal groups of some sizes about centres of some radius."""
    centres = random.normal(size=(len(sizes), d)) * radius
    rows = np.repeat(centres, sizes, axis=0)
    return rows + random.normal(size=rows.shape) * spread


def truth_values(random: np.random.Generator, n: int) -> Made:
    rows = random.integers(0, 2, (n, 2)).astype(float)
    rows[:5] = 1e4
    return rows, 2


def lone_rows(random: np.random.Generator, n: int) -> Made:
    rows = random.normal(size=(n, 3))
    rows[:3] = [[1e3, 0, 0], [0, 3e3, 0], [0, 0, -1e4]]
    return rows, 5


def one_tiny_group(random: np.random.Generator, n: int) -> Made:
    return np.concatenate([groups(random, [n // 8] * 8, 4, 1, 8), np.full((4, 4), 300.0)]), 9


def thirty_tiny_groups(random: np.random.Generator, n: int) -> Made:
    far = groups(random, [3] * 30, 2, 0.1, 500)
    return np.concatenate([random.normal(size=(n, 2)), far]), 31


def halving_groups(random: np.random.Generator, n: int) -> Made:
    return groups(random, [max(2, n >> i) for i in range(1, 15)], 3, 1, 100), 14


def wide_rows(random: np.random.Generator, n: int) -> Made:
    rows = groups(random, [n // 6] * 6, 24, 1, 2)
    rows[:6] += 200
    return rows.astype(np.float32), 7


def near_group(random: np.random.Generator, n: int) -> Made:
    bulk = groups(random, [n // 2, n // 2], 2, 1, 6)
    return np.concatenate([bulk, random.normal(size=(20, 2)) + 60]), 3


def two_scales(random: np.random.Generator, n: int) -> Made:
    rows = np.stack([random.random(n), random.random(n) * 1e-3], axis=1)
    rows[:8, 1] += 40
    rows[8:11, 0] -= 300
    return rows, 4


def colours(random: np.random.Generator, n: int) -> Made:
    rows = groups(random, [n // 5] * 5, 3, 6, 40).clip(-128, 127) + 128
    rows[:10] = [255, 0, 255]
    return rows.astype(np.uint8), 8


def heavy_tail(random: np.random.Generator, n: int) -> Made:
    return random.standard_t(2.2, size=(n, 2)), 6


MADE: tuple[Callable[[np.random.Generator, int], Made], ...] = (
    truth_values,
    lone_rows,
    one_tiny_group,
    thirty_tiny_groups,
    halving_groups,
    wide_rows,
    near_group,
    two_scales,
    colours,
    heavy_tail,
)


def mean_inertias(make: Callable[[np.random.Generator, int], Made], n: int) -> tuple[float, float]:
    """Of ours and scikit-learn's k-means++, over ten seeds."""
    random = np.random.default_rng(0)
    rows, k = make(random, n)
    rows = rows[random.permutation(len(rows))]
    ours = [KMeans(k, random_state=seed).fit(rows).inertia_ for seed in range(10)]
    exact = rows.astype(np.float64)
    theirs = [Reference(k, n_init=1, random_state=seed).fit(exact).inertia_ for seed in range(10)]
    return float(np.mean(ours)), float(np.mean(theirs))


@pytest.mark.slow
@pytest.mark.parametrize("make", MADE[:4], ids=lambda make: make.__name__)
def test_rare_groups_are_found(make: Callable[[np.random.Generator, int], Made]) -> None:
    ours, theirs = mean_inertias(make, 40_000)
    assert ours <= 1.02 * theirs


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_rare_groups_among_many_rows(make: Callable[[np.random.Generator, int], Made]) -> None:
    ours, theirs = mean_inertias(make, 200_000)
    assert ours <= 1.02 * theirs


def test_five_rows_among_many_are_always_found() -> None:
    rows, _ = truth_values(np.random.default_rng(0), 200_000)
    for seed in range(10):
        assert KMeans(2, random_state=seed).fit(rows).inertia_ < 1.01e5


@pytest.mark.parametrize("k", [1, 3, 4])
def test_centres_on_all_rows_of_many_leave_nothing_to_draw(k: int) -> None:
    few = np.array([[0.0], [1.0], [5.0]])[: min(k, 3)]
    model = KMeans(k, random_state=0).fit(np.repeat(few, 30_000 // len(few), axis=0))
    assert model.inertia_ == 0.0
    assert set(model.cluster_centers_.ravel()) == set(few.ravel())


def test_seeds_do_not_depend_on_chunks_or_threads() -> None:
    rows, k = one_tiny_group(np.random.default_rng(1), 40_000)
    seeds = []
    for threads in (1, 3):
        pool = ThreadPool(threads)
        seeds.append(seed_centroids(rows_of_array(rows, None, pool)[0], k, "k-means++", 5))
        pool.close()
    assert seeds[0].tobytes() == seeds[1].tobytes()
    lazy = KMeans(k, random_state=5).fit(da.from_array(rows, chunks=(7001, 4)))
    assert (
        lazy.cluster_centers_.tobytes()
        == KMeans(k, random_state=5).fit(rows).cluster_centers_.tobytes()
    )


def test_exchanges_lower_the_potential() -> None:
    random = np.random.default_rng(2)
    rows = groups(random, [200] * 6, 2, 0.5, 20)
    centres = rows[:6]  # all in one group

    def potential(found: np.ndarray) -> float:
        return float(((rows[:, None] - found) ** 2).sum(axis=2).min(axis=1).sum())

    moved = exchange_centres(rows, np.ones(len(rows)), centres, 24, random)
    assert moved.shape == centres.shape
    assert potential(moved) < 0.01 * potential(centres)
    weights = np.zeros(len(rows))
    weights[:200] = 1.0
    stayed = exchange_centres(rows, weights, centres, 24, random)
    assert np.abs(stayed - rows[:200].mean(axis=0)).max() < 5  # rows of weight zero attract none
