"""Move badly used centroids to where they are missed, beyond the optimum Lloyd's algorithm ends in.

Breathing k-means (Fritzke, *The breathing k-means algorithm*, 2020): a few centroids are added next
to those of the largest errors, Lloyd's algorithm is run, as many of the least utility are taken
away, it is run again, and so on from there; the best is kept. The utility of a centroid is what its
rows would add to the inertia if they went to the next one.

All that is done on a sample in memory, all rows where they are few: which centroids are to go where
needs no more, and there an iteration costs what the centroids that move cost
(`kmdist.engine.kernels.local`). Rows of many features are seen in those directions alone in which
they vary most. What is found are centroids for `kmdist.engine.lloyd.iterate` to begin with.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from kmdist.engine.kernels.frame import Moments, moments, spread_scale
from kmdist.engine.kernels.local import find_losses, settle
from kmdist.engine.passes import one_blas_thread
from kmdist.engine.rows import Rows, Sample, generator, sample_rows

BREATH = 7
"""Centroids that are added and taken away at first; one less after each time in vain."""

DIRECTIONS = 32
"""In which rows of more features are seen: of MNIST's 784 they hold three quarters of the variance,
and the inertia of all features ends as low as with 64."""

MOST_CLUSTERS = 8192
"""Distances between all centres are held three times: 1.6 GB."""

_SAMPLE_VALUES, _SAMPLE_PER_CLUSTER, _SAMPLE_BYTES = 1 << 20, 2000, 128 << 20
"""Of the sample. A cluster of n rows has a mean that is off by 1/n of its inertia: with 500 rows a
cluster two of three fits of 300,000 responses ended above those without, with 2,000 none."""

_STREAM = 1 << 32
"""Of random numbers that no start has (`kmdist.engine.seeding`)."""

_OFFSET = 0.01
"""Distance of an added centroid from its neighbour, in root mean squared distances of rows."""

_STILL = 0.01
"""Distance, in these, by which a centroid has to move for its rows to be looked at again."""

_ITERATIONS = 50
"""Of each run of Lloyd's algorithm, at most."""

_LEAST_GAIN = 1e-4
"""Of the inertia; less is not worth another breath."""


def breathe(rows: Rows, centroids: np.ndarray, seed: int) -> np.ndarray:
    """Improve centroids until adding and taking away even one is in vain.

    Parameters
    ----------
    rows : what is clustered.
    centroids : (k, d) to begin with, as they are seeded or fitted.
    seed : of the sample, and of the directions in which centroids are added.

    Returns
    -------
    (k, d) of the type of the centroids. One pass over the rows.
    """
    k = len(centroids)
    sample = sample_rows(rows, _sample_size(rows, k), seed, _STREAM)
    if len(sample.rows) <= k:
        return centroids
    points, centres = _in_few_directions(sample, centroids, seed)
    best = current = _Fit.of(points, sample.weights, centres)
    random, size = generator(seed, _STREAM + 1), min(BREATH, k)
    while size > 0 and best.inertia > 0:
        if len(points) < k + size:
            size -= 1
            continue
        current = current.inhaled(size, random).exhaled(size)
        if current.inertia < best.inertia * (1.0 - _LEAST_GAIN):
            best = current
        else:
            size -= 1
    return _means(sample, best, centroids)


def _sample_size(rows: Rows, k: int) -> int:
    wanted = max(_SAMPLE_VALUES // min(rows.n_features, DIRECTIONS), _SAMPLE_PER_CLUSTER * k)
    return min(
        wanted, max(_SAMPLE_BYTES // (rows.n_features * rows.centroid_dtype.itemsize), 4 * k)
    )


class _Fit(NamedTuple):
    """Rows in memory with centres that are a local optimum for them, nearly.

    Parameters
    ----------
    points, weights : (n, d) and (n,) float64.
    centres : (k, d) float64.
    labels, squares : (n,) int32 and float64, the nearest centre of each row and its squared
        distance.
    inertia : of the means of the clusters, which centres are no farther from than they may be.
    """

    points: np.ndarray
    weights: np.ndarray
    centres: np.ndarray
    labels: np.ndarray
    squares: np.ndarray
    inertia: float = np.inf

    @classmethod
    def of(cls, points: np.ndarray, weights: np.ndarray, centres: np.ndarray) -> "_Fit":
        """A fit that begins with centres."""
        n = len(points)
        unknown = np.full(n, -1, np.int32), np.full(n, np.inf)
        none = np.zeros(len(centres), bool)
        assigned = cls(points, weights, centres, *unknown)._settled(np.inf, none)
        return assigned._settled(_STILL * assigned.distance, none)

    @property
    def distance(self) -> float:
        """Root of the mean squared distance."""
        return float(np.sqrt(self.inertia / self.weights.sum()))

    def inhaled(self, size: int, random: np.random.Generator) -> "_Fit":
        """With one more centre next to each of those with the largest errors.

        Towards a row of that cluster, drawn in proportion to its squared distance.
        """
        k, errors, distance = len(self.centres), self.weights * self.squares, self.distance
        worst = np.argsort(-np.bincount(self.labels, errors, k), kind="stable")[:size]
        added = self.centres[worst]
        for place, (j, value) in enumerate(zip(worst, random.random(size), strict=True)):
            own = np.flatnonzero(self.labels == j)
            shares = np.cumsum(errors[own])
            if shares.size and shares[-1] > 0:
                row = own[min(np.searchsorted(shares, value * shares[-1], "right"), len(own) - 1)]
                way = self.points[row] - self.centres[j]
                added[place] += _OFFSET * distance / max(np.sqrt(way @ way), 1e-300) * way
        grown = self._replace(
            centres=np.concatenate([self.centres, added]),
            labels=self.labels.copy(),
            squares=self.squares.copy(),
        )
        return grown._settled(_STILL * distance, np.arange(k + size) >= k)

    def exhaled(self, size: int) -> "_Fit":
        """Without the centres of the least utility, of which no two are neighbours.

        For each that goes, as many of its neighbours stay as centres go, as long as enough are left
        that may.
        """
        k = len(self.centres)
        gaps = cdist(self.centres, self.centres)
        np.fill_diagonal(gaps, -1.0)  # itself first
        near = np.argsort(gaps, axis=1, kind="stable")
        losses = np.zeros(k)
        find_losses(*self[:5], gaps, near, losses)
        order = np.argsort(losses, kind="stable")
        gone, stays = np.zeros((2, k), bool)
        left = size
        for j in order:
            if left and not stays[j]:
                gone[j] = True
                left -= 1
                if stays.sum() + size < k - size:
                    stays[near[j, : size + 1]] = True
        gone[order[~gone[order]][:left]] = True
        places = np.where(gone, -1, np.cumsum(~gone) - 1).astype(np.int32)
        labels = places[self.labels]
        squares = np.where(labels < 0, np.inf, self.squares)
        rest = self._replace(centres=self.centres[~gone], labels=labels, squares=squares)
        return rest._settled(_STILL * self.distance, np.zeros(k - size, bool))

    def _settled(self, still: float, moved: np.ndarray) -> "_Fit":
        """After Lloyd's algorithm; arrays but the points change in place."""
        k, known = len(self.centres), self.labels >= 0
        labels, weights = self.labels[known], self.weights[known]
        sums, masses = np.zeros((k, self.points.shape[1])), np.zeros(k)
        for p, column in enumerate(self.points.T):
            sums[:, p] = np.bincount(labels, weights * column[known], k)
        masses[:] = np.bincount(labels, weights, k)  # whole numbers where there are no labels
        counts = np.bincount(labels, minlength=k)
        scratch = (
            np.empty((k, k)), np.empty((k, k), np.int64), np.empty(k, np.int64), np.empty(k),
            np.zeros(len(self.labels), bool),
        )  # fmt: skip
        settle(*self[:5], moved, still * still, _ITERATIONS, sums, masses, counts, scratch)
        filled = counts > 0
        masses = masses[filled, None]
        lag = masses * (sums[filled] / masses - self.centres[filled]) ** 2
        return self._replace(inertia=float(self.weights @ self.squares - lag.sum()))


def _in_few_directions(
    sample: Sample, centroids: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and centroids about the mean, in no more than `DIRECTIONS` features; float64."""
    statistics = moments(sample.rows, sample.weights)
    both = [_centred(rows, statistics) for rows in (sample.rows, centroids)]
    if sample.rows.shape[1] > DIRECTIONS:
        with one_blas_thread():
            basis = _directions(both[0], sample.weights, generator(seed, _STREAM + 2))
            both = [rows @ basis for rows in both]
    points, centres = (np.ascontiguousarray(rows, np.float64) for rows in both)
    return points, centres


def _centred(rows: np.ndarray, statistics: Moments) -> np.ndarray:
    """Rows about the mean; float32 where they have many features, whose products take the time."""
    centred = (rows - statistics.mean.astype(rows.dtype)) * spread_scale(statistics)
    return centred.astype(np.float32 if rows.shape[1] > DIRECTIONS else np.float64)


def _directions(rows: np.ndarray, weights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(d, `DIRECTIONS`) float32, the main principal components, most variance first, nearly.

    Two steps of subspace iteration from random directions (Halko, Martinsson and Tropp, *Finding
    structure with randomness*, 2011).
    """
    spare = min(rows.shape[1], DIRECTIONS + 8)
    weights = weights / weights.max()
    basis = random.normal(size=(rows.shape[1], spare)).astype(np.float32)
    for _ in range(2):
        projected = (rows @ basis) * weights[:, None].astype(np.float32)
        basis = np.linalg.qr(rows.T @ projected)[0]
    projected = (rows @ basis).astype(np.float64)
    _, turn = np.linalg.eigh((projected * weights[:, None]).T @ projected)
    return basis @ turn[:, : -DIRECTIONS - 1 : -1].astype(np.float32)


def _means(sample: Sample, fit: _Fit, centroids: np.ndarray) -> np.ndarray:
    """Centroids of a fit in all features; those without rows stay what they were."""
    order = np.argsort(fit.labels, kind="stable")
    counts = np.bincount(fit.labels, minlength=len(centroids))
    filled = counts > 0
    starts = (np.cumsum(counts) - counts)[filled]
    weighted = sample.rows[order] * sample.weights[order, None]
    masses = np.bincount(fit.labels, sample.weights, len(centroids))[filled, None]
    means = centroids.copy()
    means[filled] = np.add.reduceat(weighted, starts, axis=0) / masses
    return means
