"""What estimators accept as rows and weights, and the pool that works on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np

from kmdist.engine.passes import Pool, ThreadPool, usable_cores
from kmdist.engine.rows import Rows, is_dask, require_unmasked, rows_of_array


def usable_threads() -> int:
    """Threads for work in this process: Dask's ``num_workers`` where set, else usable cores."""
    from dask import config

    return int(config.get("num_workers", None) or usable_cores())


@contextmanager
def pool_for(X: Any) -> Iterator[Pool]:
    """Where work on X runs: the active client for Dask collections, else threads of this process.

    An array that is in this process is worked on here: to send it elsewhere costs more.
    """
    if is_dask(X):
        from kmdist.engine.passes import DaskPool, active_client

        client = active_client()
        if client is not None:
            yield DaskPool(client)
            return
    pool = ThreadPool(usable_threads())
    try:
        yield pool
    finally:
        pool.close()


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
    ValueError : masked, not one-dimensional, or their number differs from that of the rows.
    """
    if sample_weight is None:
        return None
    if is_dask(sample_weight):
        from kmdist.engine.dask_rows import dask_values

        return dask_values(sample_weight, "sample_weight")
    require_unmasked(sample_weight, "sample_weight")
    if isinstance(sample_weight, Real):
        if is_dask(X):
            raise ValueError("sample_weight of a Dask array must be an array (n,), not a number")
        sample_weight = np.full(len(X), sample_weight, np.float64)
    weights = np.ascontiguousarray(sample_weight, dtype=np.float64)
    if weights.ndim != 1:
        raise ValueError("Sample weights must be 1D array or scalar")
    if not is_dask(X) and weights.shape != (len(X),):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected ({len(X)},)!")
    return weights


def as_rows(X: Any, weights: Any, pool: Pool, *, unit: bool = False) -> tuple[Rows, Any]:
    """Rows of a checked X, and their labels (n,) where X is in this process, else None."""
    if is_dask(X):
        from kmdist.engine.dask_rows import rows_of_dask

        return rows_of_dask(X, weights, pool, unit=unit), None
    return rows_of_array(X, weights, pool, unit=unit)


def require_int(name: str, value: Any) -> None:
    """Raise ValueError unless the value is an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}={value!r} must be an int of at least 1")


def require_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")


def seed_of(random_state: Any) -> int:
    """A seed from what scikit-learn takes as `random_state`."""
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        if random_state < 0:
            raise ValueError(f"random_state={random_state} must not be negative")
        return int(random_state)
    from sklearn.utils import check_random_state

    return int(check_random_state(random_state).randint(2**31 - 1))
