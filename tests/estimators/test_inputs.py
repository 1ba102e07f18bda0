"""What estimators take as rows and weights, and what of it they keep."""

import pickle
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from kmdist import BisectingKMeans, KMeans
from kmdist.engine.passes import usable_cores
from kmdist.estimators.model import usable_threads
from kmdist.estimators.selection import select_k

X = np.random.default_rng(0).normal(size=(400, 3))
WEIGHTS = np.random.default_rng(1).random(400)


def masked() -> np.ma.MaskedArray:
    return np.ma.masked_greater(X, 1.0)


def masked_chunks() -> Any:
    return da.ma.masked_greater(da.from_array(X, chunks=(100, 3)), 1.0)


def secretly_masked() -> Any:
    """Masked chunks of an array that says it has plain ones."""
    lazy = da.from_array(X, chunks=(100, 3))
    return lazy.map_blocks(lambda b: np.ma.masked_greater(b, 1.0), meta=np.empty((0, 0)))


@pytest.mark.parametrize("make", [masked, masked_chunks, secretly_masked])
@pytest.mark.parametrize("kind", [KMeans, BisectingKMeans])
def test_masks_are_refused(make: Callable[[], Any], kind: Any) -> None:
    fitted = kind(3, random_state=0).fit(X)
    new = kind(3, random_state=0)
    calls = [new.fit, new.fit_predict, new.fit_transform, fitted.score]
    calls += [lambda rows: np.asarray(fitted.predict(rows))]
    calls += [lambda rows: np.asarray(fitted.transform(rows))]
    if kind is KMeans:
        calls.append(KMeans(3).partial_fit)
        calls.append(KMeans(3, algorithm="coreset").fit)
        calls.append(lambda rows: select_k(rows, [2, 3]))
    for call in calls:
        with pytest.raises(ValueError, match=r"filled\(0\).*sample_weight"):
            call(make())


@pytest.mark.parametrize(
    "weights",
    [
        np.ma.masked_less(WEIGHTS, 0.1),
        da.ma.masked_less(da.from_array(WEIGHTS, chunks=100), 0.1),
    ],
    ids=["NumPy", "Dask"],
)
def test_masked_weights_are_refused(weights: Any) -> None:
    rows = X if isinstance(weights, np.ndarray) else da.from_array(X, chunks=(100, 3))
    fitted = KMeans(3, random_state=0).fit(X)
    for call in (KMeans(3).fit, KMeans(3).partial_fit, fitted.score):
        with pytest.raises(ValueError, match=r"sample_weight.filled\(0\)"):
            call(rows, sample_weight=weights)


def test_threads_are_the_cores_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask.system.cpu_count", lambda: 1)
    assert usable_cores() == 1
    assert usable_threads() == 1
    with dask.config.set(num_workers=3):
        assert usable_threads() == 3


@pytest.mark.parametrize("kind", [KMeans, BisectingKMeans])
def test_a_pickled_model_does_not_carry_the_rows(kind: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(20_000, 5))
    model = kind(3, random_state=0, max_iter=5, tol=0.1).fit(da.from_array(rows, chunks=(5000, 5)))
    assert len(pickle.dumps(model)) < 20_000
    again = pickle.loads(pickle.dumps(model))
    assert not hasattr(again, "labels_")
    assert np.array_equal(again.predict(rows), model.labels_.compute())
    if kind is KMeans:
        again.partial_fit(rows[:100])
        assert again.labels_.shape == (100,)


def unknown(array: Any) -> Any:
    """The same rows in chunks of unknown size."""
    return array[da.ones(len(array), chunks=array.chunks[:1], dtype=bool)]


@pytest.mark.parametrize(
    ("rows", "weights"),
    [
        (da.from_array(X, chunks=(100, 3)), unknown(da.from_array(WEIGHTS, chunks=100))),
        (da.from_array(X, chunks=(100, 3)), unknown(da.from_array(WEIGHTS, chunks=70))),
        (unknown(da.from_array(X, chunks=(100, 3))), WEIGHTS),
        (unknown(da.from_array(X, chunks=(100, 3))), da.from_array(WEIGHTS, chunks=170)),
        (unknown(da.from_array(X, chunks=(100, 3))), unknown(da.from_array(WEIGHTS, chunks=100))),
        (da.from_array(X, chunks=(100, 3)), da.from_array(WEIGHTS, chunks=170)),
    ],
)
def test_weights_and_rows_of_any_chunks(rows: Any, weights: Any) -> None:
    shapes = str(rows.shape), str(weights.shape)
    expected = KMeans(3, random_state=0).fit(X, sample_weight=WEIGHTS)
    model = KMeans(3, random_state=0).fit(rows, sample_weight=weights)
    assert model.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes()
    assert model.inertia_ == expected.inertia_
    assert (str(rows.shape), str(weights.shape)) == shapes


def test_weights_of_another_number_are_refused() -> None:
    lazy = da.from_array(WEIGHTS[:300], chunks=100)
    for weights in (lazy, unknown(lazy), WEIGHTS[:300]):
        with pytest.raises(ValueError, match=r"sample_weight.shape == \(300,\), expected \(400,\)"):
            KMeans(3).fit(da.from_array(X, chunks=(100, 3)), sample_weight=weights)


def test_lazy_weights_of_rows_in_memory_are_computed() -> None:
    expected = KMeans(3, random_state=0).fit(X, sample_weight=WEIGHTS)
    for weights in (da.from_array(WEIGHTS, chunks=70), dd.from_pandas(pd.Series(WEIGHTS), 3)):
        model = KMeans(3, random_state=0).fit(X, sample_weight=weights)
        assert model.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes()
        assert model.score(X, sample_weight=weights) == -expected.inertia_


@pytest.mark.parametrize("kind", ["complex128", "U3", "M8[s]"])
@pytest.mark.parametrize("lazy", [False, True])
def test_weights_that_are_no_real_numbers_are_refused(kind: str, lazy: bool) -> None:
    weights: Any = np.ones(len(X), np.int64).astype(kind)
    rows: Any = X
    if lazy:
        weights, rows = da.from_array(weights, chunks=90), da.from_array(X, chunks=(70, 3))
    with pytest.raises(ValueError, match=r"sample_weight of dtype .* is not of real numbers"):
        KMeans(3).fit(rows, sample_weight=weights)


def test_lazy_rows_without_columns_are_refused() -> None:
    rows = da.ones((5, 3), chunks=2)
    for wrong in (rows[:, :0], rows[:, da.ones(3, dtype=bool)]):
        with pytest.raises(ValueError, match=r"0 feature|nan feature"):
            KMeans(2).fit(wrong)


@pytest.mark.parametrize("kind", ["f4", "f8", "f2", "u2", "i4"])
def test_byte_order_does_not_change_a_bit(kind: str) -> None:
    rows = np.abs(X * 50).round().astype(kind)
    for metric in ("euclidean", "cosine"):
        model = KMeans(3, random_state=0, metric=metric)
        plain = model.fit(rows).cluster_centers_
        swapped = model.fit(rows.astype(rows.dtype.newbyteorder())).cluster_centers_
        assert swapped.dtype == plain.dtype
        assert swapped.tobytes() == plain.tobytes()


@pytest.mark.parametrize(
    "types",
    [
        {"a": "Int64"},
        {"a": "Float64", "b": "Int32"},
        {"a": "boolean"},
        {"a": "bool"},
        {"a": "bool", "b": "bool", "c": "bool"},
        {"a": "float32"},
    ],
)
def test_frames_of_nullable_numbers_and_truth_values(types: dict[str, str]) -> None:
    frame = pd.DataFrame(np.abs(X).round(), columns=list("abc"))
    for name, kind in types.items():
        frame[name] = (frame[name] > 0 if "bool" in kind else frame[name]).astype(kind)
    expected = KMeans(3, random_state=0).fit(frame)
    lazy = dd.from_pandas(frame, npartitions=3)
    model = KMeans(3, random_state=0).fit(lazy)
    assert model.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes()
    assert list(model.feature_names_in_) == list("abc")
    assert np.array_equal(model.predict(lazy).compute(), expected.labels_)


def test_a_missing_number_of_a_frame_is_named() -> None:
    frame = pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": [1.0, 2.0, 3.0]})
    for rows in (frame, dd.from_pandas(frame, npartitions=1)):
        with pytest.raises(ValueError, match="contains NaN"):
            KMeans(2).fit(rows)
