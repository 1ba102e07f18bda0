"""KMeans against scikit-learn, against itself in other forms, and on what breaks others."""

import pickle
import warnings
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.cluster import KMeans as Reference
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._test_common.instance_generator import _get_expected_failed_checks
from sklearn.utils.estimator_checks import check_estimator

import kmdist
from kmdist import BisectingKMeans, KMeans, merge_clusters, select_k
from kmdist.engine import dask_rows
from kmdist.engine.lloyd import Options, iterate, last
from kmdist.engine.passes import ThreadPool
from kmdist.engine.rows import Block, received_block, row_uniforms, rows_of_array

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def blobs(n: int = 3000, d: int = 6, k: int = 7, dtype: Any = np.float64) -> np.ndarray:
    return make_blobs(n, d, centers=k, cluster_std=3.0, random_state=5)[0].astype(dtype)


def exact_inertia(X: Any, centroids: np.ndarray, labels: np.ndarray, weights: Any = 1.0) -> float:
    difference = X.astype(np.float64) - centroids.astype(np.float64)[labels]
    return float((weights * (difference**2).sum(axis=1)).sum())


def same(a: KMeans, b: KMeans) -> bool:
    return (
        a.cluster_centers_.tobytes() == b.cluster_centers_.tobytes()
        and np.asarray(a.labels_).tobytes() == np.asarray(b.labels_).tobytes()
        and a.n_iter_ == b.n_iter_
    )


# Conformance


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(KMeans(), Reference()), (BisectingKMeans(), Reference())],
    ids=["KMeans", "BisectingKMeans"],
)
def test_check_estimator(ours: Any, theirs: Any) -> None:
    declared = set(_get_expected_failed_checks(theirs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(ours, on_fail=None, on_skip=None)
    failed = {r["check_name"] for r in results if r["status"] == "failed"}
    assert failed <= declared, failed - declared
    assert sum(r["status"] == "passed" for r in results) > 40


def test_pipeline_clone_pickle_set_output() -> None:
    import pandas as pd

    X = pd.DataFrame(blobs(), columns=list("abcdef"))
    model = make_pipeline(StandardScaler(), KMeans(3, random_state=0)).fit(X)
    assert model.predict(X).shape == (3000,)
    kmeans = KMeans(3, random_state=0).set_output(transform="pandas").fit(X)
    assert list(kmeans.transform(X).columns) == ["kmeans0", "kmeans1", "kmeans2"]
    assert list(kmeans.feature_names_in_) == list("abcdef")
    again = pickle.loads(pickle.dumps(kmeans))
    assert np.array_equal(again.predict(X), kmeans.labels_)
    assert clone(kmeans).get_params() == kmeans.get_params()


def test_parallel_post_fit() -> None:
    wrappers = pytest.importorskip("dask_ml.wrappers")
    X = blobs()
    model = wrappers.ParallelPostFit(KMeans(3, random_state=0)).fit(X)
    lazy = model.predict(da.from_array(X, chunks=(700, 6)))
    assert np.array_equal(lazy.compute(), model.estimator.labels_)


# The same result as scikit-learn's


def squared_distances(X: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(n, k) in float64 from the differences, summed in the order of the features."""
    total = np.zeros((len(X), len(centroids)))
    for p in range(X.shape[1]):
        total += (X[:, p, None].astype(np.float64) - centroids[:, p].astype(np.float64)) ** 2
    return total


def unclear_rows(distances: np.ndarray, relative: float) -> np.ndarray:
    """Rows whose two nearest centres differ by less than a share of the distance."""
    if distances.shape[1] == 1:
        return np.zeros(len(distances), bool)
    two = np.partition(distances, 1, axis=1)[:, :2]
    return two[:, 1] <= two[:, 0] * (1 + relative)


@given(
    st.integers(0, 2**31),
    st.integers(2, 300),
    st.integers(1, 12),
    st.integers(1, 20),
    st.sampled_from([np.float32, np.float64, np.uint8, np.int32]),
    st.booleans(),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=60)
def test_equal_to_scikit_learn(
    seed: int, n: int, d: int, k: int, dtype: Any, weighted: bool, parts: int
) -> None:
    random = np.random.default_rng(seed)
    k = min(k, n)
    X = (random.normal(size=(n, d)) * 30 + 100).clip(0, 255).astype(dtype)
    weights = random.random(n) + 0.05 if weighted else None
    init = X[random.choice(n, k, replace=False)].astype(np.float64)
    if len(np.unique(init, axis=0)) < k:
        return
    clear = follow_each_step(X, init, weights)
    theirs = Reference(k, init=init, n_init=1, max_iter=6, tol=0)
    theirs.fit(X.astype(np.float64), sample_weight=weights)
    chunked = da.from_array(X, chunks=(max(1, n // parts), max(1, d // 2)))
    for rows in (X, chunked):
        ours = KMeans(k, init=init, max_iter=6, tol=0).fit(rows, sample_weight=weights)
        labels = np.asarray(ours.labels_)
        recomputed = exact_inertia(
            X, ours.cluster_centers_, labels, 1.0 if weights is None else weights
        )
        assert ours.inertia_ == pytest.approx(recomputed, rel=1e-9, abs=1e-9)
        if clear:
            unclear = unclear_rows(squared_distances(X, theirs.cluster_centers_), 1e-6)
            assert (labels == theirs.labels_)[~unclear].all()
            np.testing.assert_allclose(
                ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-5, atol=1e-5
            )
            assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-6, abs=1e-6)


def follow_each_step(X: np.ndarray, init: np.ndarray, weights: np.ndarray | None) -> bool:
    """Check every iteration against one of float64 from where it started, ties included.

    Returns
    -------
    Whether the path is the only one possible: a near tie on the way, of rounding size in
    float32, sends another implementation elsewhere, and so does a repaired cluster.
    """
    pool = ThreadPool(1)
    rows, _ = rows_of_array(X, weights, pool)
    states = list(iterate(rows, init, Options(max_iter=6, tol=0)))
    pool.close()
    w, clear = np.ones(len(X)) if weights is None else weights, True
    start = init.astype(states[0].centroids.dtype)
    for state in states:
        distances = squared_distances(X, start)
        labels = distances.argmin(axis=1)
        counts = np.bincount(labels, weights=w, minlength=len(start))
        clear &= not unclear_rows(distances, 1e-5).any() and state.n_repaired == 0
        if (counts > 0).all():
            means = np.zeros(start.shape)
            np.add.at(means, labels, X * w[:, None])
            means /= counts[:, None]
            exact = 1e-6 if start.dtype == np.float32 else 1e-10
            np.testing.assert_allclose(state.centroids, means, rtol=exact, atol=exact)
        start = state.centroids
    return clear and not unclear_rows(squared_distances(X, start), 1e-5).any()


def reference_lloyd(X: np.ndarray, centroids: np.ndarray, iterations: int) -> np.ndarray:
    """Our rule for empty clusters in plain float64."""
    centroids = centroids.astype(np.float64)
    for _ in range(iterations):
        every = ((X[:, None] - centroids) ** 2).sum(axis=2)
        labels, distance = every.argmin(axis=1), every.min(axis=1)
        k = len(centroids)
        sums = np.array([X[labels == j].sum(axis=0) for j in range(k)])
        counts = np.bincount(labels, minlength=k).astype(float)
        order = iter(np.lexsort((np.arange(len(X)), -distance)))
        used: set[bytes] = set()
        for j in np.flatnonzero(counts == 0):
            for i in order:
                if distance[i] == 0 or X[i].tobytes() in used or counts[labels[i]] <= 1:
                    continue
                used.add(X[i].tobytes())
                sums[labels[i]] -= X[i]
                counts[labels[i]] -= 1
                sums[j], counts[j] = X[i], 1.0
                break
        filled = counts > 0
        centroids = np.where(
            filled[:, None], sums / np.where(filled, counts, 1)[:, None], centroids
        )
    return centroids


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_empty_clusters_are_repaired_by_our_rule(seed: int, empty: int, iterations: int) -> None:
    X = np.random.default_rng(seed).normal(size=(80, 3))
    X[40:50] = X[7]
    init = np.vstack([X[:4], np.full((empty, 3), 1e3) + np.arange(empty)[:, None]])
    ours = KMeans(4 + empty, init=init, max_iter=iterations, tol=0).fit(X)
    expected = reference_lloyd(X, init, ours.n_iter_)
    np.testing.assert_allclose(ours.cluster_centers_, expected, rtol=1e-9, atol=1e-9)
    assert (np.bincount(ours.labels_, minlength=4 + empty) > 0).all()


# Bits


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["auto", "lloyd", "hamerly"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_threads_chunks_and_algorithm_do_not_change_a_bit(algorithm: str, dtype: Any) -> None:
    import dask

    X = blobs(4000, 20, 25).clip(-20, 20)
    X = (X + 20).astype(dtype)
    expected = KMeans(25, random_state=1, tol=0, algorithm="lloyd").fit(X)
    for workers in (1, 2, 4):
        with dask.config.set(num_workers=workers):
            for chunk in (4000, 333):
                lazy = da.from_array(X, chunks=(chunk, 7))
                model = KMeans(25, random_state=1, tol=0, algorithm=algorithm).fit(lazy)
                assert same(model, expected)


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_seeding_is_distinct_and_independent_of_chunks(init: str) -> None:
    X = np.repeat(blobs(40, 3, 5), 50, axis=0)  # 40 distinct rows, 50 times each
    models = [
        KMeans(40, init=init, n_init=1, random_state=3).fit(data)
        for data in (X, da.from_array(X, chunks=(123, 3)))
    ]
    assert len(np.unique(models[0].cluster_centers_, axis=0)) == 40
    assert models[0].inertia_ == pytest.approx(0.0, abs=1e-18)
    assert models[0].cluster_centers_.tobytes() == models[1].cluster_centers_.tobytes()


def test_distinct_rows_that_a_sample_misses_are_found() -> None:
    X = np.zeros((50_000, 2), np.float32)
    X[49_990:] = np.arange(20).reshape(10, 2) + 1
    model = KMeans(11, random_state=0).fit(X)
    assert model.inertia_ == 0.0
    assert len(np.unique(model.cluster_centers_, axis=0)) == 11


@given(st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_random_numbers_belong_to_rows(seed: int, first: int, n: int) -> None:
    whole = row_uniforms(seed, 7, 0, first + n)
    assert np.array_equal(whole[first:], row_uniforms(seed, 7, first, n))
    assert ((whole >= 0) & (whole < 1)).all()


def test_states_resume_to_the_same_bits() -> None:
    X = blobs(2000, 5, 9)
    pool = ThreadPool(1)
    rows, _ = rows_of_array(X, None, pool)
    states = list(iterate(rows, X[:9], Options(tol=0)))
    assert [s.iteration for s in states] == list(range(1, len(states) + 1))
    for start in states[:-1:3]:
        rows, labels = rows_of_array(X, None, pool)
        state = last(iterate(rows, X[:9], Options(tol=0), start=start))
        assert state.centroids.tobytes() == states[-1].centroids.tobytes()
        assert state.inertia == states[-1].inertia
        assert state.iteration == states[-1].iteration
        assert exact_inertia(X, state.centroids, labels) == pytest.approx(state.inertia)
    inertias = [s.inertia for s in states]
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(inertias))
    pool.close()


# What dask-ml's KMeans gets wrong


def test_inertia_is_of_squared_distances_for_the_returned_centroids() -> None:
    X = blobs(dtype=np.float32)
    for max_iter in (1, 3, 300):
        model = KMeans(7, random_state=0, max_iter=max_iter).fit(da.from_array(X, chunks=500))
        labels = model.labels_.compute()
        assert model.inertia_ == pytest.approx(
            exact_inertia(X, model.cluster_centers_, labels), rel=1e-12
        )
        assert -model.score(X) == pytest.approx(model.inertia_, rel=1e-12)


def test_tol_is_relative() -> None:
    X = blobs()
    init = X[:7]
    one = KMeans(7, init=init, tol=1e-3).fit(X)
    other = KMeans(7, init=init * 1e6, tol=1e-3).fit(X * 1e6)
    assert one.n_iter_ == other.n_iter_ == Reference(7, init=init, tol=1e-3).fit(X).n_iter_
    assert one.stop_reason_ == "tolerance"
    assert KMeans(7, init=init, tol=0).fit(X).stop_reason_ == "converged"


def test_bytes_do_not_truncate_centroids() -> None:
    X = np.array([[0], [1], [254], [255], [255]], np.uint8)
    model = KMeans(2, init=np.array([[0.0], [255.0]])).fit(da.from_array(X, chunks=2))
    np.testing.assert_allclose(model.cluster_centers_, [[0.5], [764 / 3]])


def test_no_empty_cluster_becomes_the_origin() -> None:
    X = blobs() + 50
    init = np.vstack([X[:3], np.full((2, 6), 1e4)])
    model = KMeans(5, init=init).fit(da.from_array(X, chunks=500))
    assert (model.cluster_centers_ > 20).all()
    assert (np.bincount(model.labels_.compute(), minlength=5) > 0).all()


def test_centroids_are_those_of_the_last_iteration() -> None:
    X = blobs()
    model = KMeans(7, init=X[:7], max_iter=1).fit(X)
    assert model.n_iter_ == 1
    assert not np.array_equal(model.cluster_centers_, X[:7])


def test_large_offset_in_float64() -> None:
    X, truth = make_blobs(2000, 3, centers=4, cluster_std=0.05, random_state=0)
    model = KMeans(4, random_state=0).fit(X + 1e6)
    reference = KMeans(4, random_state=0).fit(X)
    assert np.array_equal(model.labels_, reference.labels_)
    assert model.inertia_ == pytest.approx(reference.inertia_, rel=1e-6)
    assert truth.shape == model.labels_.shape


# Kinds of input


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i8", "f2", "f4", "f8", "?"])
def test_dtypes_keep_to_their_values(dtype: str) -> None:
    X = (np.abs(blobs(400)) * 3).astype(dtype)
    init = X[:3] + np.array([[0], [0.25], [0.5]])
    model = KMeans(3, init=init, max_iter=5).fit(X)
    same_values = KMeans(3, init=init, max_iter=5).fit(X.astype(np.float64))
    assert np.array_equal(model.labels_, same_values.labels_)
    np.testing.assert_allclose(model.cluster_centers_, same_values.cluster_centers_, rtol=1e-6)
    assert model.cluster_centers_.dtype == (np.float32 if dtype in ("f2", "f4") else np.float64)


def test_unknown_chunks_array_likes_and_layouts() -> None:
    X = blobs()
    expected = KMeans(4, random_state=0).fit(X)
    lazy = da.from_array(X, chunks=(500, 6))

    class Wrapped:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return X if dtype is None else X.astype(dtype)

        def __len__(self) -> int:
            return len(X)

    for data in (lazy[lazy[:, 0] > -1e9], Wrapped(), X.tolist(), np.asfortranarray(X), X[::1]):
        assert same(KMeans(4, random_state=0).fit(data), expected)


def test_dask_results_are_lazy() -> None:
    X = da.from_array(blobs(), chunks=(500, 6))
    model = KMeans(4, random_state=0).fit(X)
    for result in (model.labels_, model.predict(X), model.transform(X)):
        assert isinstance(result, da.Array)
    assert model.transform(X).shape == (3000, 4)
    assert model.transform(X).compute().shape == (3000, 4)


def test_weights_are_repetitions() -> None:
    X = blobs(300)
    weights = np.arange(300) % 4
    init = X[[1, 2, 3]]
    weighted = KMeans(3, init=init, tol=0).fit(X, sample_weight=weights)
    repeated = KMeans(3, init=init, tol=0).fit(np.repeat(X, weights, axis=0))
    np.testing.assert_allclose(
        weighted.cluster_centers_, repeated.cluster_centers_, rtol=1e-15, atol=1e-15
    )
    assert weighted.inertia_ == pytest.approx(repeated.inertia_)
    lazy = KMeans(3, init=init, tol=0).fit(
        da.from_array(X, chunks=70), sample_weight=da.from_array(weights, chunks=41)
    )
    assert lazy.cluster_centers_.tobytes() == weighted.cluster_centers_.tobytes()


def test_rows_that_do_not_fit_are_sampled_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    X = make_blobs(60_000, 5, centers=6, random_state=0)[0]
    full = KMeans(6, random_state=0).fit(X)
    assert full.algorithm_ == "lloyd"
    monkeypatch.setattr(dask_rows, "MEMORY_SHARE", 1e-9)
    lazy = da.from_array(X, chunks=(7000, 5))
    model = KMeans(6, random_state=0).fit(lazy)
    assert model.algorithm_ == "coreset"
    assert "do not fit" in model.algorithm_reason_
    assert model.inertia_ < 1.01 * full.inertia_
    recomputed = exact_inertia(X, model.cluster_centers_, model.labels_.compute())
    assert model.inertia_ == pytest.approx(recomputed, rel=1e-12)
    again = KMeans(6, random_state=0).fit(da.from_array(X, chunks=(1999, 5)))
    assert again.cluster_centers_.tobytes() == model.cluster_centers_.tobytes()
    exact = KMeans(6, random_state=0, algorithm="lloyd").fit(lazy)
    assert exact.cluster_centers_.tobytes() == full.cluster_centers_.tobytes()


@pytest.mark.parametrize("algorithm", ["coreset", "minibatch"])
def test_two_passes_and_one_to_label(algorithm: str) -> None:
    X = blobs(20_000)
    computed: list[int] = []

    def count(block: np.ndarray) -> np.ndarray:
        if len(block):
            computed.append(len(block))
        return block

    lazy = da.from_array(X, chunks=(2000, 6)).map_blocks(count, meta=np.empty((0, 6)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dask_rows, "MEMORY_SHARE", 1e-9)
        model = KMeans(7, random_state=0, algorithm=algorithm).fit(lazy)
    assert sum(computed) == 3 * len(X)
    assert model.inertia_ < 1.05 * KMeans(7, random_state=0).fit(X).inertia_


def test_streaming() -> None:
    X = make_blobs(20_000, 5, centers=6, random_state=0)[0]
    model = KMeans(6, random_state=0)
    for first in range(0, len(X), 1000):
        model.partial_fit(X[first : first + 1000])
    assert model.n_iter_ == 20
    assert -model.score(X) < 1.05 * KMeans(6, random_state=0).fit(X).inertia_


def test_a_stream_goes_on_from_the_last_fit() -> None:
    X = blobs()
    model = KMeans(3, random_state=0).partial_fit(X).fit(X + 100.0)
    fitted = model.cluster_centers_.copy()
    model.partial_fit(X + 100.0)
    np.testing.assert_allclose(model.cluster_centers_, fitted, atol=1.0)


def test_batches_heed_weights_of_rows_that_are_drawn_for_certain() -> None:
    X, weights = np.array([[0.0], [1.0]]), [1, 1000]
    model = KMeans(1, algorithm="minibatch", random_state=0).fit(X, sample_weight=weights)
    assert model.cluster_centers_[0, 0] == pytest.approx(1000 / 1001)


@pytest.mark.parametrize("kind", ["symmetric", "outlier", "light outlier"])
def test_coresets_do_not_depend_on_chunks(kind: str) -> None:
    """Neither where the mean is nothing but rounding errors, nor where the first row is far off."""
    random = np.random.default_rng(0)
    half = random.normal(size=(60_000, 2))
    X = np.concatenate([half, -half])[random.permutation(120_000)]
    weights = np.ones(len(X))
    if kind != "symmetric":
        X[0] = 1e9
    if kind == "light outlier":
        weights[0] = 1e-12
    model = KMeans(3, algorithm="coreset", random_state=0, max_iter=5)
    expected = model.fit(X, sample_weight=weights).cluster_centers_.tobytes()
    for chunk in (997, 5000, 20_000):
        lazy = da.from_array(X, chunks=(chunk, 2))
        assert model.fit(lazy, sample_weight=weights).cluster_centers_.tobytes() == expected


def test_cosine_ignores_lengths() -> None:
    X = blobs() + 5
    lengths = np.random.default_rng(0).random((len(X), 1)) + 0.1
    one = KMeans(4, metric="cosine", random_state=0).fit(X)
    other = KMeans(4, metric="cosine", random_state=0, init=one.cluster_centers_).fit(X * lengths)
    assert (one.labels_ == other.labels_).mean() > 0.999
    np.testing.assert_allclose(np.linalg.norm(one.cluster_centers_, axis=1), 1.0)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = (unit * one.cluster_centers_[one.labels_]).sum(axis=1)
    assert one.inertia_ == pytest.approx(2 * (1 - cosines).sum())
    assert np.array_equal(one.predict(X), one.labels_)


def test_manhattan_is_medians() -> None:
    X = np.random.default_rng(0).integers(0, 256, (500, 4)).astype(np.uint8)
    model = KMeans(3, metric="manhattan", random_state=0, tol=0).fit(X)
    for j in range(3):
        own = np.sort(X[model.labels_ == j], axis=0)
        assert np.array_equal(model.cluster_centers_[j], own[(len(own) - 1) // 2])
    every = np.abs(X[:, None].astype(float) - model.cluster_centers_).sum(axis=2)
    assert model.inertia_ == every.min(axis=1).sum()
    assert np.array_equal(every.argmin(axis=1), model.labels_)
    lazy = KMeans(3, metric="manhattan", random_state=0, tol=0).fit(da.from_array(X, chunks=99))
    assert lazy.cluster_centers_.tobytes() == model.cluster_centers_.tobytes()
    floats = KMeans(3, metric="manhattan", init=model.cluster_centers_).fit(X.astype(float))
    assert floats.inertia_ == model.inertia_


def test_weighted_medians_do_not_depend_on_chunks() -> None:
    """Of 0.1, 0.2 and 0.3 as much weight lies on either side, but for rounding."""
    X = np.array([[1], [1], [1], [2]], np.uint8)
    weights = np.array([0.1, 0.2, 0.3, 0.6000000000000001])
    for order in ([0, 1, 2, 3], [2, 1, 0, 3], [3, 2, 0, 1]):
        found = {
            KMeans(1, metric="manhattan", random_state=0)
            .fit(da.from_array(X[order], chunks=(chunk, 1)), sample_weight=weights[order])
            .cluster_centers_[0, 0]
            for chunk in (1, 2, 3, 4)
        }
        assert len(found) == 1
    random = np.random.default_rng(27)
    rows = random.integers(0, 256, (500, 2)).astype(np.uint8)
    tenths = random.choice([0.1, 0.2, 0.3, 0.7], 500)
    model = KMeans(3, metric="manhattan", random_state=0)
    whole = model.fit(rows, sample_weight=tenths)
    expected = whole.cluster_centers_.tobytes(), whole._counts.tobytes()
    model.fit(da.from_array(rows, chunks=(37, 2)), sample_weight=tenths)
    assert (model.cluster_centers_.tobytes(), model._counts.tobytes()) == expected


def test_received_blocks_are_aligned() -> None:
    raw = np.zeros(8 * 12 + 3, np.uint8)[3:]
    rows = raw.view(np.float64).reshape(6, 2)
    assert not rows.flags.aligned
    assert received_block(rows, None).rows.flags.aligned
    function, arguments = Block(rows).__reduce__()
    assert function(*arguments).rows.flags.aligned


# Bad input: what is said, or what the documented result is

GOOD = np.arange(40.0).reshape(20, 2)
NAN, INF = GOOD.copy(), GOOD.copy()
NAN[13, 1], INF[7, 0] = np.nan, np.inf


@pytest.mark.parametrize(
    ("data", "parameters", "weights", "words"),
    [
        (np.empty((0, 2)), {}, None, "0 sample"),
        (np.empty((5, 0)), {}, None, "0 feature"),
        (GOOD[:3], {"n_clusters": 4}, None, "n_samples=3 should be >= n_clusters=4"),
        (NAN, {}, None, r"NaN: block 0, row 13 of it \(row 13 of the data\), column 1"),
        (INF, {}, None, "infinity: block 0, row 7"),
        (da.from_array(NAN, chunks=5), {}, None, r"block 2, row 3 of it \(row 13 of the data\)"),
        (GOOD, {}, np.full(20, -1.0), "negative"),
        (GOOD, {}, np.zeros(20), "all sample weights are zero"),
        (GOOD, {}, np.full(20, 5e-324), "as little as 4.94066e-324"),
        (GOOD, {}, np.ones(3), r"sample_weight.shape == \(3,\)"),
        (da.from_array(GOOD, chunks=5), {}, np.ones(3), r"sample_weight.shape == \(3,\)"),
        (scipy.sparse.eye(5).tocsr(), {}, None, "[Ss]parse"),
        (np.array([["a", "b"]] * 9, object), {}, None, "could not convert|numeric|unsupported"),
        (np.arange(9.0), {}, None, "Expected 2D array"),
        (da.arange(9), {}, None, "Expected 2D array"),
        (GOOD + 1j, {}, None, "[Cc]omplex"),
        (GOOD, {"n_clusters": 0}, None, "n_clusters=0 must be"),
        (GOOD, {"max_iter": 0}, None, "max_iter=0 must be"),
        (GOOD, {"tol": -1}, None, "tol=-1 must be"),
        (GOOD, {"init": "best"}, None, "init='best' must be one of"),
        (GOOD, {"init": GOOD[:3]}, None, r"initial centers \(3, 2\) does not match"),
        (GOOD, {"init": NAN[12:14]}, None, "initial centroids must be finite"),
        (GOOD.astype("f4"), {"init": GOOD[:2] + 1e100}, None, "or what is beyond float32"),
        (GOOD, {"init": np.ma.masked_less(GOOD[:2], 1)}, None, "init is a masked array"),
        (GOOD, {"init": GOOD[:2] + 1j}, None, "init of dtype complex128 is not of real numbers"),
        (GOOD, {"init": GOOD[:2].astype("M8[s]")}, None, "is not of real numbers"),
        (GOOD, {"algorithm": "elkan"}, None, "algorithm='elkan' with metric='euclidean'"),
        (GOOD, {"algorithm": "coreset", "metric": "manhattan"}, None, "must be one of 'auto'"),
        (GOOD, {"metric": "chebyshev"}, None, "metric='chebyshev' must be one of"),
        (GOOD * 1e300, {}, None, "rescale the data"),
        ((GOOD - 20) * 8e306, {}, None, "rescale the data"),  # differences overflow
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_bad_input_is_an_error(data: Any, parameters: Any, weights: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        KMeans(**{"n_clusters": 2, **parameters}).fit(data, sample_weight=weights)


def test_small_integer_types_of_numbers_of_clusters() -> None:
    X = blobs()
    expected = KMeans(7, random_state=0).fit(X)
    for parameters in ({}, {"algorithm": "minibatch"}, {"init": "k-means||"}):
        plain = KMeans(7, random_state=0, max_iter=90, **parameters).fit(X)
        small = KMeans(np.int8(7), random_state=0, max_iter=np.int8(90), **parameters).fit(X)
        assert same(small, plain)
    chosen = select_k(X, np.array([7], np.int8), random_state=0).best.state.centroids
    assert chosen.tobytes() == expected.cluster_centers_.tobytes()
    assert len(merge_clusters(X[:300], np.ones(300), np.int8(5)).centroids) == 5


def test_predict_checks_features_and_values() -> None:
    model = KMeans(2, random_state=0).fit(GOOD)
    with pytest.raises(ValueError, match="3 features, but KMeans is expecting 2"):
        model.predict(np.ones((4, 3)))
    with pytest.raises(ValueError, match="NaN: row 13, column 1"):
        model.predict(NAN)
    with pytest.raises(ValueError, match="infinity: row 7"):
        model.transform(INF)


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_fewer_distinct_rows_than_clusters() -> None:
    constant = np.full((30, 3), 7.5)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(1\) found smaller"):
        model = KMeans(4, random_state=0).fit(constant)
    assert model.inertia_ == 0.0
    assert (model.cluster_centers_ == 7.5).all()
    assert (model.labels_ == 0).all()
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        KMeans(7, random_state=0, max_iter=1, tol=0).fit(blobs())


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 1)])
def test_least_input(shape: tuple[int, int]) -> None:
    model = KMeans(1, random_state=0).fit(np.ones(shape))
    assert model.inertia_ == 0.0
    assert model.n_iter_ == 1


def test_input_is_not_changed() -> None:
    X, weights, init = blobs(), np.random.default_rng(0).random(3000), blobs()[:7]
    before = X.copy(), weights.copy(), init.copy()
    KMeans(7, init=init).fit(X, sample_weight=weights)
    for now, then in zip((X, weights, init), before, strict=True):
        assert np.array_equal(now, then)


def test_public_names() -> None:
    assert kmdist.KMeans is KMeans
    assert kmdist.BisectingKMeans is BisectingKMeans


def test_breathing_finds_the_groups_that_lloyd_misses() -> None:
    random = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    X = np.repeat(centres, 50, axis=0) + 0.02 * random.normal(size=(1800, 2))
    init = np.concatenate([centres[:30], X[:6]])  # five groups without a centre, one with seven
    plain = KMeans(36, init=init).fit(X)
    refined = KMeans(36, init=init, refine="breathing", random_state=0).fit(X)
    assert refined.inertia_ < 0.1 * plain.inertia_
    groups = refined.labels_.reshape(36, 50)
    assert (groups == groups[:, :1]).all()
    assert refined.inertia_ == pytest.approx(
        exact_inertia(X, refined.cluster_centers_, refined.labels_)
    )
    chunked = KMeans(36, init=init, refine="breathing", random_state=0).fit(
        da.from_array(X, chunks=(500, 2))
    )
    assert same(refined, chunked)


def test_breathing_where_it_does_not_go() -> None:
    X = blobs(50)
    with pytest.raises(ValueError, match="refine='breathing' does not go with"):
        KMeans(3, refine="breathing", metric="manhattan").fit(X)
    with pytest.raises(ValueError, match="n_clusters=8193 with refine='breathing': at most 8192"):
        KMeans(8193, refine="breathing").fit(X)
    with pytest.raises(ValueError, match="refine"):
        KMeans(3, refine="swap").fit(X)
    for k in (1, 50):  # nothing to move, no row to spare
        assert (
            KMeans(k, refine="breathing", random_state=0).fit(X).inertia_
            == KMeans(k).fit(X).inertia_
        )


def test_new_rows_may_be_as_long_as_those_that_were_fitted() -> None:
    rows = np.zeros((2_000, 1_000))
    rows[::2, 0] = 1e150
    fit = KMeans(2, random_state=0).fit(rows)
    assert np.array_equal(fit.predict(rows), fit.labels_)
