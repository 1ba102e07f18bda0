"""What every estimator with centroids can do: predict, transform, score."""

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
from kmdist.engine.kernels.totals import weighted_bins
from kmdist.engine.lloyd import finish, total_inertia
from kmdist.engine.passes import run_pass
from kmdist.engine.predict import predict_rows, require_finite
from kmdist.engine.rows import BLOCK_BYTES, is_dask, require_unmasked, unit_rows
from kmdist.estimators.inputs import as_rows, checked, checked_weights, pool_for


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
