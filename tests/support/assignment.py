"""Rows and centroids to assign, and the assignment written out in float64."""

import numpy as np

from kmdist.engine.kernels.frame import Frame, make_frame, moments
from kmdist.engine.kernels.subspace import Subspace


def draw(seed: int, shape: tuple[int, int, int], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and centroids with near ties: centroids lie half-way between rows."""
    n, d, k = shape
    random = np.random.default_rng(seed)
    offset = 100.0 * random.normal() if seed % 2 else 0.0
    rows = (random.normal(size=(n, d)) * 20 + offset + 60).clip(0, 255).astype(dtype)
    pairs = random.integers(0, n, (k, 2))
    centroids = rows[pairs].astype(np.float64).mean(axis=1) + random.normal(size=(k, d)) * 1e-3
    return rows, centroids


def frame_of(rows: np.ndarray, weights: np.ndarray | None = None) -> Frame:
    return make_frame(moments(rows, weights))


def naive(
    rows: np.ndarray, weights: np.ndarray | None, centroids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = rows.astype(np.float64)
    labels = np.array([((centroids - row) ** 2).sum(axis=1).argmin() for row in x])
    w = np.ones(len(x)) if weights is None else weights
    sums = np.zeros(centroids.shape)
    np.add.at(sums, labels, x * w[:, None])
    return labels, sums, np.bincount(labels, weights=w, minlength=len(centroids))


def assert_labels(
    rows: np.ndarray, centroids: np.ndarray, got: np.ndarray, expected: np.ndarray
) -> None:
    """Equal, but where two centroids are equally near to within rounding of float64."""
    for i in np.flatnonzero(got != expected):
        d = ((centroids - rows[i].astype(np.float64)) ** 2).sum(axis=1)
        assert abs(d[got[i]] - d[expected[i]]) <= 1e-12 * max(d[expected[i]], 1e-300)


def some_subspace(random: np.random.Generator, d: int) -> Subspace:
    """Of up to d directions, none of them chosen for the data."""
    m = int(random.integers(1, d + 1))
    basis = np.linalg.qr(random.normal(size=(d, m)))[0]
    return Subspace(basis, 2.0**-23 + float(np.sqrt(8.0 * d * 2.0**-52)))
