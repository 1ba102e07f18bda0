"""Splitting and merging clusters, against SciPy and against what the tree must hold."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from kmdist import BisectingKMeans, KMeans, merge_clusters
from kmdist.engine import dask_rows
from kmdist.estimators.merging import ward_linkage


def test_tree_of_splits_adds_up() -> None:
    X = make_blobs(4000, 4, centers=8, random_state=1)[0]
    model = BisectingKMeans(8, random_state=0).fit(X)
    tree = model.tree_
    assert len(tree.leaves()) == 8
    for node, parts in enumerate(tree.children):
        if parts is not None:
            assert sum(tree.counts[part] for part in parts) == tree.counts[node]
            assert sum(tree.inertias[part] for part in parts) < tree.inertias[node]
    assert np.array_equal(np.bincount(model.labels_), [tree.counts[n] for n in tree.leaves()])
    difference = X - model.cluster_centers_[model.labels_]
    assert model.inertia_ == pytest.approx((difference**2).sum(), rel=1e-9)


def test_splits_are_the_same_for_any_chunks_and_when_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X = make_blobs(4000, 4, centers=5, random_state=1)[0].astype(np.float32)
    whole = BisectingKMeans(6, random_state=0).fit(X)
    for share in (dask_rows.MEMORY_SHARE, 1e-9):
        monkeypatch.setattr(dask_rows, "MEMORY_SHARE", share)
        lazy = BisectingKMeans(6, random_state=0).fit(da.from_array(X, chunks=(777, 4)))
        assert lazy.cluster_centers_.tobytes() == whole.cluster_centers_.tobytes()
        assert np.array_equal(lazy.labels_.compute(), whole.labels_)


def test_first_centres_of_splits_are_named() -> None:
    with pytest.raises(ValueError, match="must be one of 'k-means"):
        BisectingKMeans(2, init=np.ones((2, 2))).fit(np.eye(2))


def test_strategies_and_too_few_rows() -> None:
    X = np.vstack([np.zeros((90, 1)), [[100.0]], [[103.0]]])
    X[:90, 0] = np.linspace(0, 1, 90)
    largest = BisectingKMeans(3, bisecting_strategy="largest_cluster", random_state=0).fit(X)
    assert np.bincount(largest.labels_).min() == 2
    spread = BisectingKMeans(3, bisecting_strategy="biggest_inertia", random_state=0).fit(X)
    assert np.bincount(spread.labels_).max() < 90
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(2\)"):
        BisectingKMeans(5, random_state=0).fit(np.repeat([[1.0], [2.0]], 10, axis=0))
    with pytest.raises(ValueError, match="bisecting_strategy='x' must be one of"):
        BisectingKMeans(2, bisecting_strategy="x").fit(X)


@given(st.integers(0, 2**31), st.integers(2, 60), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_ward_equals_scipy(seed: int, k: int, d: int) -> None:
    points = np.random.default_rng(seed).normal(size=(k, d))
    expected = linkage(points, "ward")
    got = ward_linkage(points, np.ones(k))
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9)
    for m in {1, 2, k // 2, k} - {0}:
        labels = merge_clusters(points, np.ones(k), m).labels
        assert adjusted_rand_score(fcluster(expected, m, "maxclust"), labels) == pytest.approx(1)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 1e12), (1e-200, 0.0), (1e200, 0.0)])
def test_ward_of_any_scale_and_offset(scale: float, offset: float) -> None:
    points = np.array([[0.0], [1.0], [3.0], [7.0]]) * scale + offset
    merged = merge_clusters(points, np.ones(4), 2)
    assert merged.labels.tolist() == [0, 0, 0, 1]
    assert merged.linkage[0, 2] == pytest.approx(scale, rel=1e-15)


def test_weighted_ward_is_that_of_repeated_points() -> None:
    random = np.random.default_rng(0)
    points, counts = random.normal(size=(20, 3)), random.integers(1, 6, 20)
    repeated = np.repeat(points, counts, axis=0)
    expected = fcluster(linkage(repeated, "ward"), 5, "maxclust")
    merged = merge_clusters(points, counts, 5)
    assert adjusted_rand_score(expected, np.repeat(merged.labels, counts)) == 1
    np.testing.assert_allclose(
        np.average(merged.centroids, axis=0, weights=merged.counts), repeated.mean(axis=0)
    )
    assert merged.counts.sum() == counts.sum()
    assert np.array_equal(np.unique(merged.labels), np.arange(5))


def test_over_clusters_of_rings_merge_by_affinity() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1], 3000)
    angle = random.random(6000) * 2 * np.pi
    radius = np.where(truth == 0, 1.0, 4.0) + 0.1 * random.normal(size=6000)
    X = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    fine = KMeans(40, random_state=0).fit(X)
    two = np.argsort(fine.transform(X), axis=1)[:, :2]
    affinity = np.zeros((40, 40))
    np.add.at(affinity, (two[:, 0], two[:, 1]), 1.0)
    counts = np.bincount(fine.labels_)
    spectral = merge_clusters(
        fine.cluster_centers_, counts, 2, method="spectral", affinity=affinity
    )
    ward = merge_clusters(fine.cluster_centers_, counts, 2)
    assert adjusted_rand_score(truth, spectral.labels[fine.labels_]) > 0.99
    assert adjusted_rand_score(truth, ward.labels[fine.labels_]) < 0.5


@pytest.mark.parametrize(
    ("counts", "m", "options", "words"),
    [
        (np.ones(3), 2, {}, "do not fit centroids"),
        (np.ones(4), 5, {}, "n_clusters=5 must be in 1 … 4"),
        (np.ones(4), 2, {"method": "spectral"}, r"needs affinity of shape \(4, 4\)"),
        (np.ones(4), 2, {"method": "single"}, "method='single' must be one of"),
        (-np.ones(4), 2, {}, "no count negative"),
        (np.ones(4), 2, {"method": "spectral", "affinity": -np.eye(4)}, "affinity must be finite"),
    ],
)
def test_wrong_input(counts: np.ndarray, m: int, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        merge_clusters(np.eye(4), counts, m, **options)
