"""What every estimator with centroids accepts as rows and weights, and can do: predict, score."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted

from kmdist.engine.kernels.distances import all_distances, inertia_bins
from kmdist.engine.kernels.sums import weighted_bins
from kmdist.engine.lloyd import finish, predict_rows, require_finite, total_inertia
from kmdist.engine.passes import Pool, ThreadPool, run_pass, usable_cores
from kmdist.engine.rows import (
    BLOCK_BYTES,
    Rows,
    is_dask,
    require_unmasked,
    rows_of_array,
    unit_rows,
)
from kmdist.kernel_cache import told_of_compiling


def _transform_rows(rows: np.ndarray, centroids: np.ndarray, metric: str) -> np.ndarray:
    require_unmasked(rows, "X")
    if len(rows):
        require_finite(rows)
    if metric == "manhattan":
        from kmdist.engine.kernels.manhattan import manhattan_distances

        return manhattan_distances(rows, centroids).astype(centroids.dtype, copy=False)
    rows = unit_rows(rows) if metric == "cosine" else rows
    return all_distances(rows, centroids).astype(centroids.dtype, copy=False)


def _score_rows(rows: np.ndarray, centroids: np.ndarray, metric: str) -> np.ndarray:
    if metric == "manhattan":
        from kmdist.engine.kernels.manhattan import assign_manhattan

        require_finite(rows)
        return weighted_bins(assign_manhattan(rows, centroids)[1], None)
    rows = unit_rows(rows) if metric == "cosine" else rows
    labels = predict_rows(rows, centroids)
    return inertia_bins(rows, None, centroids, labels)


class CentroidModel(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    ClusterMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Base of estimators that have `cluster_centers_`.

    Results for NumPy input are computed at once, on threads; those for Dask input are lazy.
    """

    cluster_centers_: np.ndarray
    inertia_: float
    n_iter_: int

    @property
    def _metric(self) -> str:
        return getattr(self, "metric", "euclidean")

    @property
    def _unit(self) -> bool:
        """Whether rows are divided by their lengths."""
        return self._metric == "cosine"

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self) -> Any:
        """Without lazy labels: their graph holds the data, and `predict` gives them again."""
        state = super().__getstate__()
        if is_dask(state.get("labels_")):
            state = {name: value for name, value in state.items() if name != "labels_"}
        return state

    def _checked_input(self, X: Any) -> Any:
        check_is_fitted(self)
        return checked(self, X, reset=False)

    def predict(self, X: Any) -> Any:
        """Index of the nearest centroid of each row.

        Parameters
        ----------
        X : (n, d) NumPy array, Dask array, or anything with ``__array__``.

        Returns
        -------
        (n,) int32; a lazy Dask array for Dask input.

        Raises
        ------
        ValueError : another number of features than in `fit`, or values that are not finite.
        """
        X = self._checked_input(X)
        if is_dask(X):
            return X.map_blocks(
                predict_rows,
                self.cluster_centers_,
                self._metric,
                dtype=np.int32,
                drop_axis=1,
                meta=np.empty(0, np.int32),
            )
        return in_chunks(predict_rows, X, self.cluster_centers_, self._metric)

    def transform(self, X: Any) -> Any:
        """Distances of each row to every centroid.

        Returns
        -------
        (n, k), of the type of the centroids; a lazy Dask array for Dask input.
        """
        X = self._checked_input(X)
        centroids = self.cluster_centers_
        if is_dask(X):
            return X.map_blocks(
                _transform_rows,
                centroids,
                self._metric,
                dtype=centroids.dtype,
                chunks=(X.chunks[0], (len(centroids),)),
                meta=np.empty((0, 0), centroids.dtype),
            )
        return in_chunks(_transform_rows, X, centroids, self._metric)

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """`fit` and then `transform`."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """`fit`, and its `labels_`."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the inertia of X: −Σ w‖x − c‖² for the nearest centroids, from differences."""
        X = self._checked_input(X)
        weights = checked_weights(sample_weight, X)
        if not is_dask(X) and weights is None:
            parts = in_chunks(_score_rows, X, self.cluster_centers_, self._metric)
            return -total_inertia(parts)
        with pool_for(X) as pool:
            rows, _ = as_rows(X, weights, pool, unit=self._unit)
            if self._metric == "manhattan":
                from kmdist.engine.medians import manhattan_inertia

                return -manhattan_inertia(rows, self.cluster_centers_)
            return -total_inertia(finish(rows, self.cluster_centers_).inertia)


def in_chunks(function: Any, X: np.ndarray, *arguments: Any) -> np.ndarray:
    """``function(part, *arguments)`` for parts of X on the threads of this process, joined."""
    step = max(1, BLOCK_BYTES // max(1, X.shape[1] * X.dtype.itemsize))
    parts = [X[start : start + step] for start in range(0, len(X), step)]
    if len(parts) == 1:
        return np.asarray(function(X, *arguments))
    results: list[Any] = [None] * len(parts)
    with pool_for(X) as pool:
        run_pass(pool, function, parts, *arguments, on_done=results.__setitem__)
    return np.concatenate(results)


def usable_threads() -> int:
    """Threads for work in this process: Dask's ``num_workers`` where set, else usable cores."""
    from dask import config

    return int(config.get("num_workers", None) or usable_cores())


@contextmanager
def pool_for(X: Any) -> Iterator[Pool]:
    """Where work on X runs: the active client for Dask collections, else threads of this process.

    An array that is in this process is worked on here: to send it elsewhere costs more. On a
    terminal and in a notebook it is said when kernels are compiled.
    """
    with told_of_compiling(_tell_people):
        if is_dask(X):
            from kmdist.engine.dask_pool import DaskPool, active_client

            client = active_client()
            if client is not None:
                yield DaskPool(client)
                return
        pool = ThreadPool(usable_threads())
        try:
            yield pool
        finally:
            pool.close()


def _tell_people(text: str) -> None:
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        sys.stderr.write(f"kmdist: {text}\n")
        sys.stderr.flush()


def checked(estimator: Any, X: Any, *, reset: bool) -> Any:
    """X as a NumPy or Dask array of rows; sets or checks `n_features_in_` and feature names.

    Parameters
    ----------
    estimator : whose attributes are meant.
    X : array-like, data frame or Dask collection (n, d).
    reset : True while fitting.

    Raises
    ------
    ValueError : sparse, masked, complex, not two-dimensional, no rows, or another number of
        features.
    """
    from sklearn.utils.validation import _check_feature_names, _check_n_features, validate_data

    if is_dask(X):
        columns = getattr(X, "columns", None)
        from kmdist.engine.dask_rows import as_dask_array

        array = as_dask_array(X)
        if columns is not None:
            _check_feature_names(estimator, X._meta, reset=reset)
        elif reset and hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        _check_n_features(estimator, np.empty((1, array.shape[1])), reset=reset)
        return array
    require_unmasked(X, "X")
    # Whether values are finite is checked in the first pass, by block.
    return validate_data(
        estimator, X, reset=reset, accept_sparse=False, dtype="numeric", ensure_all_finite=False
    )


def checked_weights(sample_weight: Any, X: Any) -> Any:
    """Weights as (n,) float64, a Dask array, or None.

    Raises
    ------
    ValueError : masked, not real numbers, not one-dimensional, or their number differs from that
        of the rows.
    """
    if sample_weight is None:
        return None
    if is_dask(sample_weight):
        from kmdist.engine.dask_rows import dask_values

        sample_weight = dask_values(sample_weight, "sample_weight")
        _require_real(sample_weight)
        if is_dask(X):
            return sample_weight
        sample_weight = sample_weight.compute()
    require_unmasked(sample_weight, "sample_weight")
    if isinstance(sample_weight, Real):
        if is_dask(X):
            raise ValueError("sample_weight of a Dask array must be an array (n,), not a number")
        sample_weight = np.full(len(X), sample_weight, np.float64)
    _require_real(np.asarray(sample_weight))
    weights = np.ascontiguousarray(sample_weight, dtype=np.float64)
    if weights.ndim != 1:
        raise ValueError("Sample weights must be 1D array or scalar")
    if not is_dask(X) and weights.shape != (len(X),):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected ({len(X)},)!")
    return weights


def _require_real(weights: Any) -> None:
    if weights.dtype.kind not in "fiubO":  # objects may be numbers
        raise ValueError(
            f"sample_weight of dtype {weights.dtype} is not of real numbers; convert it first"
        )


def as_rows(X: Any, weights: Any, pool: Pool, *, unit: bool = False) -> tuple[Rows, Any]:
    """Rows of a checked X, and their labels (n,) where X is in this process, else None."""
    if is_dask(X):
        from kmdist.engine.dask_rows import rows_of_dask

        return rows_of_dask(X, weights, pool, unit=unit), None
    return rows_of_array(X, weights, pool, unit=unit)


def require_rows(rows: Rows, n_clusters: int) -> None:
    """Raise ValueError if there are fewer rows than clusters."""
    if rows.n_rows < n_clusters:
        raise ValueError(f"n_samples={rows.n_rows} should be >= n_clusters={n_clusters}.")


def require_int(name: str, value: Any) -> None:
    """Raise ValueError unless the value is an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}={value!r} must be an int of at least 1")


def require_tol(tol: Any) -> None:
    """Raise ValueError unless it is a finite number not below 0."""
    if isinstance(tol, bool) or not isinstance(tol, Real) or not 0 <= float(tol) < np.inf:
        raise ValueError(f"tol={tol!r} must be a finite number not below 0")


def require_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of those allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")


def seed_of(random_state: Any) -> int:
    """A seed from what scikit-learn takes as `random_state`."""
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        if not 0 <= random_state < 1 << 64:
            raise ValueError(f"random_state={random_state} must be 0 to 2^64 - 1")
        return int(random_state)
    from sklearn.utils import check_random_state

    return int(check_random_state(random_state).randint(2**31 - 1))
