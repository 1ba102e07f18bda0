"""k-means estimators with scikit-learn's contract, for NumPy and Dask arrays of any size."""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from kmdist.engine.lloyd import Options, State, iterate
from kmdist.engine.rows import Rows, is_dask, require_unmasked
from kmdist.engine.seeding import INITS, seed_centroids
from kmdist.estimators.model import (
    CentroidModel,
    as_rows,
    checked,
    checked_weights,
    pool_for,
    require_int,
    require_one_of,
    require_rows,
    require_tol,
    seed_of,
)

PAIRS = {
    "euclidean": ("auto", "lloyd", "hamerly", "coreset", "minibatch"),
    "cosine": ("auto", "lloyd", "hamerly", "coreset"),
    "manhattan": ("auto", "lloyd"),
}
"""Algorithms that go with each metric."""

_ENDED = {
    "converged": "Converged at iteration {state.iteration}: strict convergence.",
    "tolerance": "Converged at iteration {state.iteration}: center shift {state.shift:g} "
    "within tolerance.",
    "max_iter": "Stopped at iteration {state.iteration}: max_iter, without convergence.",
}
BOUNDS_OF = {"auto": "auto", "lloyd": "never", "hamerly": "always"}
"""What each exact algorithm does with bounds (`kmdist.engine.block_steps.BOUNDS`)."""


REFINEMENTS = ("breathing",)


class KMeans(CentroidModel):
    """k-means, exact and deterministic, on arrays in memory and on Dask arrays.

    Parameters
    ----------
    n_clusters : int, k.
    init : ``'k-means++'``, ``'k-means||'``, ``'random'``, an array (k, d), or a function
        ``init(X, n_clusters, random_state)`` that returns one.
    n_init : restarts, of which the one of least inertia is kept; ``'auto'``: 10 for
        ``'random'`` and functions, else 1.
    max_iter : iterations at most; for ``'minibatch'``, batches (there are no more than 100).
    tol : relative to the mean variance of the features; 0: until no label changes.
    random_state : int, `numpy.random.RandomState` or None.
    algorithm : ``'lloyd'``; ``'hamerly'``: the same result to the bit, with bounds that skip
        rows; ``'coreset'``: a weighted sample is fitted, two passes over the data in all;
        ``'minibatch'``: random batches, two passes; ``'auto'``: Lloyd, with bounds where a
        block finds that they pay, if the rows fit the memory of the workers (their bytes and
        20 a row within 70 % of it; NumPy arrays do), else a coreset. Whatever was chosen, and
        why, is in `algorithm_` and `algorithm_reason_`.
    metric : which distance; it goes with these algorithms, other pairs raise ValueError:

        ============= ======================================= ===============================
        metric        algorithms                              centroid, inertia
        ============= ======================================= ===============================
        'euclidean'   auto lloyd hamerly coreset minibatch    mean, Σ w‖x − c‖²
        'cosine'      auto lloyd hamerly coreset              mean direction, the same of rows
                                                              of unit length: 2 Σ w(1 − cos)
        'manhattan'   auto lloyd                              median, Σ w Σ|x − c|; exact for
                                                              uint8, otherwise fitted on a
                                                              sample (`kmdist.engine.medians`)
        ============= ======================================= ===============================

    refine : None, or ``'breathing'``: go on from the local optimum by adding a few centroids where
        errors are largest and taking away those of the least use, until that gains nothing, on a
        sample in memory (`kmdist.engine.refining`), and begin the iterations with that, for a lower
        inertia. For up to 8,192 clusters; not with ``'coreset'``, ``'minibatch'`` and
        ``'manhattan'``.
    verbose : write a line an iteration.

    Attributes
    ----------
    cluster_centers_ : (k, d) float32 for float32 and float16 rows, else float64.
    labels_ : (n,) int32; a lazy Dask array for Dask input, which is left behind where the estimator
        is pickled.
    inertia_ : Σ w‖x − c‖² for `cluster_centers_`, from the differences, in float64.
    n_iter_, stop_reason_, n_repaired_ : iterations, why they ended, empty clusters repaired.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | np.ndarray | Callable[..., Any] = "k-means++",
        n_init: int | str = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
        algorithm: str = "auto",
        metric: str = "euclidean",
        refine: str | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.algorithm = algorithm
        self.metric = metric
        self.refine = refine
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "KMeans":
        """Find the centroids.

        Parameters
        ----------
        X : (n, d) real numbers: NumPy array, Dask array (chunk sizes may be unknown), or
            anything with ``__array__``. Not copied as a whole.
        y : not used; there for scikit-learn's pipelines.
        sample_weight : (n,), not negative, or None (all one).

        Raises
        ------
        ValueError : fewer rows than clusters, values that are not finite (says which), or a
            parameter that is not allowed.
        """
        self._validate()
        self._n_init = self._restarts()
        X = checked(self, X, reset=True)
        weights = checked_weights(sample_weight, X)
        with pool_for(X) as pool:
            rows, labels = as_rows(X, weights, pool, unit=self._unit)
            require_rows(rows, self.n_clusters)
            best, labels = self._best_of(rows, X, labels)
        self._keep(best)
        self.labels_ = self.predict(X) if is_dask(X) else labels
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "KMeans":
        """Move the centroids by one more batch of a stream (Sculley, WWW 2010).

        The first batch, of at least k rows, seeds them. `labels_` and `inertia_` are those of
        the batch.

        Parameters
        ----------
        X, sample_weight : as in `fit`; a Dask array is computed.
        """
        from kmdist.engine.coreset import minibatch_step

        self._validate()
        if self.metric != "euclidean":
            raise ValueError(f"partial_fit: metric={self.metric!r} must be 'euclidean'")
        started = hasattr(self, "cluster_centers_")
        X = checked(self, X, reset=not started)
        weights = checked_weights(sample_weight, X)
        if is_dask(X):
            X = X.compute()
            require_unmasked(X, "X")
            weights = checked_weights(weights.compute() if is_dask(weights) else weights, X)
        with pool_for(X) as pool:
            rows, _ = as_rows(X, weights, pool)
            if not started:
                require_rows(rows, self.n_clusters)
                centroids = self._initial(rows, X, seed_of(self.random_state), 0)
                self._stream = State(centroids, np.zeros(self.n_clusters), np.inf, 0)
        if started and not hasattr(self, "_stream"):
            self._stream = State(self.cluster_centers_, self._counts, self.inertia_, self.n_iter_)
        self._stream = minibatch_step(self._stream, X, weights)
        self.cluster_centers_ = self._stream.centroids
        self.n_iter_ = self._stream.iteration
        self.labels_ = self.predict(X)
        self.inertia_ = -self.score(X, sample_weight=weights)
        return self

    def _best_of(self, rows: Rows, X: Any, labels: Any) -> tuple[State, Any]:
        """The restart of least inertia, and its labels."""
        seed = seed_of(self.random_state)
        self.algorithm_, self.algorithm_reason_ = self._choose(rows)
        self._report(f"Algorithm {self.algorithm_}: {self.algorithm_reason_}.")
        best, kept = None, labels
        for attempt in range(self._n_init):
            state = self._fit_once(rows, X, seed, attempt)
            if best is None or state.inertia < best.inertia:
                best = state
                kept = None if labels is None else labels.copy()
        assert best is not None
        return best, kept

    def _choose(self, rows: Rows) -> tuple[str, str]:
        """The algorithm to run, and why."""
        if self.algorithm != "auto":
            return self.algorithm, "as asked"
        size = rows.n_rows * rows.n_features * rows.dtype.itemsize / 2**30
        if rows.kept or self.metric == "manhattan":
            return "lloyd", f"{size:.3g} GiB of rows fit, bounds where they pay"
        limit = rows.pool.memory_bytes / 2**30
        return "coreset", f"{size:.3g} GiB of rows do not fit {limit:.3g} GiB of memory"

    def _fit_once(self, rows: Rows, X: Any, seed: int, attempt: int) -> State:
        options = Options(
            max_iter=int(self.max_iter),
            tol=self.tol,
            bounds=BOUNDS_OF.get(self.algorithm, "auto"),
            spherical=self._unit,
        )
        k = int(self.n_clusters)
        if self.refine is not None and self.algorithm_ == "coreset":
            raise ValueError(
                f"refine={self.refine!r} takes exact iterations, but {self.algorithm_reason_}: fit "
                "fewer rows, or do without"
            )
        if self.algorithm_ in ("coreset", "minibatch"):
            from kmdist.engine.coreset import fit_coreset, fit_minibatch

            named = isinstance(self.init, str)
            init = self.init if named else self._initial(rows, X, seed, attempt)
            fit = fit_coreset if self.algorithm_ == "coreset" else fit_minibatch
            return fit(rows, k, init, options, seed + attempt)
        centroids = self._initial(rows, X, seed, attempt)
        if self.metric == "manhattan":
            from kmdist.engine.medians import fit_medians

            return fit_medians(rows, centroids, options, seed)
        if self.refine is not None:
            from kmdist.engine.refining import breathe

            centroids = breathe(rows, centroids, seed + attempt)
        self._report("Initialization complete")
        for state in iterate(rows, centroids, options):
            self._report(f"Iteration {state.iteration}, inertia {state.inertia}.")
        self._report(_ENDED[state.stop_reason or "max_iter"].format(state=state))
        return state

    def _initial(self, rows: Rows, X: Any, seed: int, attempt: int) -> np.ndarray:
        init, k = self.init, int(self.n_clusters)
        if callable(init):
            init = init(X, k, random_state=check_random_state(seed + attempt))
        if not isinstance(init, str):
            require_unmasked(init, "init")
            init = np.asarray(init)
            _require_centers(init, k, rows.n_features)
        return seed_centroids(rows, k, init, seed, attempt)

    def _restarts(self) -> int:
        explicit = not isinstance(self.init, str) and not callable(self.init)
        if self.n_init == "auto":
            return 1 if explicit or self.init in ("k-means++", "k-means||") else 10
        if explicit and self.n_init != 1:
            warnings.warn(
                "Explicit initial center position passed: performing only one init in KMeans "
                f"instead of n_init={self.n_init}.",
                RuntimeWarning,
                stacklevel=4,
            )
            return 1
        return int(self.n_init)

    def _keep(self, state: State) -> None:
        self.__dict__.pop("_stream", None)  # what `partial_fit` goes on from is this fit
        self.cluster_centers_ = state.centroids
        self._counts = np.asarray(state.counts, np.float64)
        self.inertia_ = state.inertia
        self.n_iter_ = state.iteration
        self.stop_reason_ = state.stop_reason
        self.n_repaired_ = state.n_repaired
        filled = int(np.count_nonzero(state.counts))
        if filled < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({filled}) found smaller than n_clusters "
                f"({self.n_clusters}). Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=3,
            )
        if state.stop_reason == "max_iter" and self.algorithm_ != "minibatch":
            warnings.warn(
                f"stopped at max_iter={self.max_iter} before convergence; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _validate(self) -> None:
        require_int("n_clusters", self.n_clusters)
        require_int("max_iter", self.max_iter)
        if self.n_init != "auto":
            require_int("n_init", self.n_init)
        require_tol(self.tol)
        require_one_of("metric", self.metric, tuple(PAIRS))
        allowed = PAIRS[self.metric]
        if self.algorithm not in allowed:
            raise ValueError(
                f"algorithm={self.algorithm!r} with metric={self.metric!r}: must be one of "
                f"{', '.join(map(repr, allowed))}"
            )
        if isinstance(self.init, str):
            require_one_of("init", self.init, INITS)
        if self.refine is not None:
            require_one_of("refine", self.refine, REFINEMENTS)
            if self.metric == "manhattan" or self.algorithm not in BOUNDS_OF:
                raise ValueError(
                    f"refine={self.refine!r} does not go with algorithm={self.algorithm!r} and "
                    f"metric={self.metric!r}: it takes exact iterations of means"
                )
            from kmdist.engine.refining import MOST_CLUSTERS

            if self.n_clusters > MOST_CLUSTERS:
                raise ValueError(
                    f"n_clusters={self.n_clusters} with refine={self.refine!r}: at most "
                    f"{MOST_CLUSTERS}, since it keeps all distances between centres"
                )

    def _report(self, line: str) -> None:
        if self.verbose:
            sys.stdout.write(line + "\n")


def _require_centers(init: np.ndarray, k: int, n_features: int) -> None:
    if init.dtype.kind not in "fiubO":  # objects may be numbers
        raise ValueError(f"init of dtype {init.dtype} is not of real numbers; convert it first")
    if init.ndim != 2 or len(init) != k:
        raise ValueError(
            f"The shape of the initial centers {init.shape} does not match the number of clusters "
            f"{k}."
        )
    if init.shape[1] != n_features:
        raise ValueError(
            f"The shape of the initial centers {init.shape} does not match the number of features "
            f"of the data {n_features}."
        )
