"""Choosing k: shared passes, scores equal to scikit-learn's, and the recommendation."""

import warnings

import dask.array as da
import numpy as np
import pytest
from sklearn import metrics
from sklearn.datasets import make_blobs

from kmdist.engine import dask_rows
from kmdist.engine.fits import find_elbow
from kmdist.estimators.selection import sampled_silhouettes, select_k

X = make_blobs(2500, 4, centers=5, cluster_std=0.6, random_state=4)[0]


def test_scores_equal_scikit_learn() -> None:
    selection = select_k(X, range(1, 9))
    assert [row.k for row in selection.table] == list(range(1, 9))
    total = ((X - X.mean(axis=0)) ** 2).sum()
    for row in selection.table[1:]:
        distances = np.sqrt(((X[:, None] - row.state.centroids) ** 2).sum(axis=2))
        labels = distances.argmin(axis=1)
        ordered = np.sort(distances, axis=1)
        simplified = ((ordered[:, 1] - ordered[:, 0]) / ordered[:, 1]).mean()
        assert row.inertia == pytest.approx((ordered[:, 0] ** 2).sum(), rel=1e-9)
        assert row.gvf == pytest.approx(1 - row.inertia / total, rel=1e-9)
        assert row.simplified_silhouette == pytest.approx(simplified, rel=1e-9)
        assert row.silhouette == pytest.approx(metrics.silhouette_score(X, labels), rel=1e-6)
        # Both take the means of the labels; ours are their centroids up to the tolerance.
        assert row.calinski_harabasz == pytest.approx(
            metrics.calinski_harabasz_score(X, labels), rel=1e-2
        )
        assert row.davies_bouldin == pytest.approx(
            metrics.davies_bouldin_score(X, labels), rel=2e-2
        )


def test_each_fit_tells_how_far_it_is_and_nothing_warns() -> None:
    seen: list[tuple[int, str | None]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select_k(X, [1, 3, 5], on_state=lambda s: seen.append((len(s.centroids), s.stop_reason)))
    assert [k for k, reason in seen if reason is not None] == [1, 3, 5]


def test_coinciding_and_lonely_clusters_have_a_silhouette() -> None:
    rows = np.array([[0.0], [0.0], [10.0], [11.0]])
    labels = [0, 0, 1, 1]
    got = sampled_silhouettes(rows, [np.array([[0.0], [10.5]]), rows[:1], rows])
    assert got[0] == pytest.approx(metrics.silhouette_score(rows, labels))
    assert got[1] == 0.0
    assert got[2] == pytest.approx(metrics.silhouette_score(rows, [0, 0, 2, 3]))


def test_the_right_k_is_recommended_with_its_reason() -> None:
    selection = select_k(X, range(2, 10))
    assert selection.k == 5
    assert "silhouette" in selection.reason
    assert selection.best.k == 5


def test_fits_together_equal_fits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = da.from_array(X, chunks=(500, 4))
    alone = select_k(lazy, [2, 5, 9], tol=0)
    monkeypatch.setattr(dask_rows, "MEMORY_SHARE", 1e-9)  # rows that are not kept share passes
    together = select_k(lazy, [2, 5, 9], tol=0)
    for one, other in zip(together.table, alone.table, strict=True):
        assert one.state.centroids.tobytes() == other.state.centroids.tobytes()
        assert (one.inertia, one.state.iteration) == (other.inertia, other.state.iteration)


def test_passes_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []

    def count(block: np.ndarray) -> np.ndarray:
        if len(block):
            loads.append(1)
        return block

    lazy = da.from_array(X, chunks=(500, 4)).map_blocks(count, meta=np.empty((0, 4)))
    monkeypatch.setattr(dask_rows, "MEMORY_SHARE", 1e-9)
    selection = select_k(lazy, [2, 3, 4, 5, 6], max_iter=4)
    iterations = max(row.state.iteration for row in selection.table)
    assert len(loads) == 5 * (1 + 1 + iterations + 1)  # statistics, sample; scores


def test_elbow() -> None:
    ks = np.arange(1, 11)
    assert find_elbow(ks, np.where(ks < 4, 100.0 - 30 * (ks - 1), 10.0 - (ks - 4))) == 4
    assert find_elbow(ks, 100.0 - ks) is None
    assert find_elbow(ks[:2], np.array([2.0, 1.0])) is None


@pytest.mark.parametrize("ks", [[], [0], [2, 9999]])
def test_wrong_range(ks: list[int]) -> None:
    with pytest.raises(ValueError, match="k must lie in 1 … 2500"):
        select_k(X, ks)
