"""Clusters that a segment job is asked for, and how they are fitted to rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.engine.coreset import draw_uniform, fit_coreset
from kmdist.engine.fits import FitOptions, cluster_order
from kmdist.engine.lloyd import Options, State, iterate
from kmdist.engine.rows import Rows
from kmdist.engine.seeding import seed_centroids
from kmdist.errors import ImageError, UsageError, quantity
from kmdist.images.reading.numpy_files import open_numpy
from kmdist.job.image_fits import WantedClusters, choose_k
from kmdist.recipes.segment.model import Scaling, SegmentModel, cluster_colors
from kmdist.recipes.segment.options import SegmentOptions
from kmdist.recipes.segment.scaling import Channels, Features, find_scaling

METHODS = ("k-means++", "k-means||", "random")
CHOOSING_ROWS = 20_000
"""Of a uniform sample on which k is chosen."""

Fit = Callable[[Rows, int, FitOptions], tuple[State, np.ndarray]]
"""Fits k centroids to rows: their state, and the history of the fit."""


@dataclass(frozen=True)
class Fitted:
    """Clusters that were fitted.

    Parameters
    ----------
    asked : k that was asked for; 0: it was chosen.
    history : (iterations, 3) float64. selection : how k was chosen, or None.
    """

    asked: int
    model: SegmentModel
    history: np.ndarray
    n_iter: int
    stop_reason: str
    selection: Mapping[str, Any] | None = None

    def reordered(self, order: np.ndarray) -> "Fitted":
        """The same clusters in another order; cluster ``order[i]`` becomes i."""
        return replace(self, model=replace(self.model, centroids=self.model.centroids[order]))

    @property
    def warning(self) -> str | None:
        """What the user should be told."""
        if self.model.k >= self.asked:
            return None
        asked = quantity(self.asked, "cluster")
        return f"{asked} asked for; there are {self.model.k} different pixels"


@dataclass(frozen=True)
class Wanted(WantedClusters):
    """What a job asks for.

    Parameters
    ----------
    fit : how; its first centres may be an array (k, c) in the units of the input.
    """

    fit: FitOptions
    features: Features

    @staticmethod
    def of(options: SegmentOptions) -> "Wanted":
        """What the options of a job ask for.

        Raises
        ------
        UsageError : first centres that cannot be read, or are not for one k.
        """
        o = options
        init = o.init if isinstance(o.init, str) and o.init in METHODS else _read_centers(o.init)
        if not isinstance(init, str) and (o.choices or len(o.ks) > 1):
            raise UsageError(f"init has {quantity(len(init), 'centre')}; give -k {len(init)} alone")
        fit, features = o.fit_options(init), Features.of(o)
        return Wanted(o.ks, o.choices, fit, features, min_region=o.min_region)

    def check(self, names: tuple[str, ...]) -> None:
        """Raise what cannot be done with these channels, before anything is read.

        Raises
        ------
        UsageError : first centres of another shape; those of `Features.check`.
        """
        self.features.check(names)
        init, shape = self.fit.init, (self.at_most[0], len(names))
        if not isinstance(init, str) and (init.shape != shape or not np.isfinite(init).all()):
            raise UsageError(f"init has shape {init.shape}; {shape} finite numbers are needed")

    def scaling(self, rows_of: Callable[[Scaling], Rows], channels: Channels) -> Scaling:
        """What channels are scaled by."""
        return find_scaling(rows_of, self.features, channels, self.fit.seed)

    def fit_all(
        self, rows: Rows, scaling: Scaling, names: tuple[str, ...], fit: Fit
    ) -> dict[int, Fitted]:
        """Clusters of every k, by count, descending; by the k that was asked for."""
        if self.choices:
            return {0: self._chosen(rows, scaling, names, fit)}
        return {k: self._fitted(rows, scaling, names, fit, k) for k in self.ks}

    def _chosen(self, rows: Rows, scaling: Scaling, names: tuple[str, ...], fit: Fit) -> Fitted:
        sample = draw_uniform(rows, min(CHOOSING_ROWS, rows.n_rows), self.fit.seed).rows
        n = len(np.unique(sample, axis=0))
        k, record = choose_k(sample, [k for k in self.choices if k <= n] or [n], self.fit)
        return replace(self._fitted(rows, scaling, names, fit, k), asked=0, selection=record)

    def _fitted(
        self, rows: Rows, scaling: Scaling, names: tuple[str, ...], fit: Fit, k: int
    ) -> Fitted:
        init: Any = self.fit.init
        if not isinstance(init, str):
            init = scaling.scaled(init)
        state, history = fit(rows, k, replace(self.fit, init=init))
        order = cluster_order(state.counts, state.centroids)
        centroids = scaling.restored(state.centroids[order[state.counts[order] > 0]])
        model = SegmentModel(
            centroids,
            cluster_colors(len(centroids)),
            scaling,
            names,
            coordinates=self.features.coordinates > 0,
        )
        return Fitted(k, model, history, state.iteration, state.stop_reason or "max_iter")


def fit_here(rows: Rows, k: int, options: FitOptions) -> tuple[State, np.ndarray]:
    """Exact Lloyd in this process: the restart of least inertia."""
    lloyd = Options(max_iter=options.max_iter, tol=options.tol)
    starts = (
        seed_centroids(rows, k, options.init, options.seed, attempt)
        for attempt in range(options.n_init)
    )
    fits = (list(iterate(rows, first, lloyd)) for first in starts)
    best = min(fits, key=lambda states: states[-1].inertia)
    return best[-1], _history(best)


def fit_sampled(rows: Rows, k: int, options: FitOptions) -> tuple[State, np.ndarray]:
    """On a coreset, where rows are not kept: clusters come in the order of their counts there."""
    lloyd = Options(max_iter=options.max_iter, tol=options.tol)
    state = fit_coreset(rows, k, options.init, lloyd, options.seed, options.n_init, label=False)
    return state, _history([state])


def _history(states: list[State]) -> np.ndarray:
    return np.array([(s.inertia, s.shift, float(s.n_repaired)) for s in states])


def _read_centers(given: Any) -> np.ndarray:
    if isinstance(given, str):
        try:
            given = np.array(open_numpy(given))
        except ImageError as error:
            raise UsageError(
                f"init {given!r}: neither {', '.join(METHODS)} nor a .npy file: {error}"
            ) from error
    try:
        numbers = np.asarray(given)
    except ValueError as error:  # rows of different lengths
        raise UsageError(f"init: {error}") from error
    if numbers.dtype.kind not in "uif":
        raise UsageError(f"init holds values of type {numbers.dtype}; (k, c) numbers are needed")
    return numbers.astype(np.float64)
