"""Merge many small clusters into few that need not be round, through the rows they share.

Each row is tied to its nearest *landmarks* (centroids of many small clusters) with weights that
fall with distance. Two landmarks are alike as far as rows are tied to both: with Z the rows ×
landmarks matrix of weights, the affinity is ZᵀZ, a sum over blocks of rows. Its leading
eigenvectors group the landmarks, and each row takes the group most of its weight is in. This is
landmark-based spectral clustering (Chen, Cai, AAAI 2011), with the landmarks grouped instead of
the rows. Several sets of landmarks, each clustered from another seed, may be used together: what
one set cuts through, another joins.

Per block: `attach`, then `affinity`; merged by `merge_affinities`; then `group_landmarks`, once;
then `vote` per block. Cost: n · p · d to attach n rows to p landmarks, linear in n as p has a
limit (`landmark_count`); the affinity has at most n · (s·r)² and at most p² entries.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from scipy import sparse

import kmdist.kernel_cache  # noqa: F401  before kernels are decorated
from kmdist.estimators.merging import group_by_affinity

_CHUNK_ROWS = 512
_SPARE = 3


@dataclass(frozen=True)
class Landmarks:
    """What rows are tied to.

    Parameters
    ----------
    sets : arrays (p_i, d) float32; all rows are tied to each set.
    scales : squared distance at which the weight has fallen to 1/e, for each set.
    neighbours : r, landmarks of each set that a row is tied to.
    """

    sets: tuple[np.ndarray, ...]
    scales: tuple[float, ...]
    neighbours: int

    @property
    def n(self) -> int:
        """Landmarks in all sets."""
        return sum(len(one) for one in self.sets)


class Attachment(NamedTuple):
    """How rows are tied to landmarks.

    Parameters
    ----------
    numbers : (n, s·r) int32, landmarks numbered through all sets.
    weights : (n, s·r) float64; those of one set add up to 1.
    """

    numbers: np.ndarray
    weights: np.ndarray


def landmark_count(n_rows: int, n_clusters: int, rows_each: int, per_cluster: int) -> int:
    """Landmarks of one set: one for `rows_each` rows, at most `per_cluster` for each cluster.

    The limit keeps the whole method linear in the number of rows.
    """
    return max(1, min(n_rows // rows_each, per_cluster * n_clusters))


def weight_scale(inertia: float, n_rows: int) -> float:
    """Squared distance at which weights fall to 1/e: that to the fourth nearest landmark or so.

    It is 1.4 times the mean squared distance to the nearest, known from the fit: three to five
    neighbours lay at 1.36 to 1.57 times on MNIST and digits.png, and half or twice the scale
    changes the accuracy by less than 0.001.
    """
    return max(1.4 * inertia / n_rows, 1e-12)


@njit(nogil=True, cache=True)
def _least(scores, best):  # type: ignore[no-untyped-def]
    """Indices of the least scores of each row into `best`, ascending; ties: the lowest first."""
    m = best.shape[1]
    values = np.empty(m, np.float32)
    for i in range(len(scores)):
        values[:] = np.inf
        limit = np.float32(np.inf)
        row, found = scores[i], best[i]
        for j in range(row.size):
            if row[j] < limit:
                at = m - 1
                while at > 0 and values[at - 1] > row[j]:
                    values[at], found[at] = values[at - 1], found[at - 1]
                    at -= 1
                values[at], found[at] = row[j], j
                limit = values[m - 1]


@njit(nogil=True, cache=True)
def _rank(rows, landmarks, candidates, distances, index):  # type: ignore[no-untyped-def]
    """Order candidates by exact distance, then number, and keep the first ones."""
    r = index.shape[1]
    for i in range(len(rows)):
        for a in range(candidates.shape[1]):
            j = candidates[i, a]
            total = 0.0
            for c in range(rows.shape[1]):
                difference = np.float64(rows[i, c]) - np.float64(landmarks[j, c])
                total += difference * difference
            at = min(a, r)
            while at > 0 and (
                distances[i, at - 1] > total
                or (distances[i, at - 1] == total and index[i, at - 1] > j)
            ):
                if at < r:
                    distances[i, at], index[i, at] = distances[i, at - 1], index[i, at - 1]
                at -= 1
            if at < r:
                distances[i, at], index[i, at] = total, j


def nearest_landmarks(
    rows: np.ndarray, landmarks: np.ndarray, neighbours: int
) -> tuple[np.ndarray, np.ndarray]:
    """The landmarks nearest to each row.

    Candidates come from float32 products; their order is decided by differences in float64, ties
    going to the lowest number.

    Parameters
    ----------
    rows : (n, d) float32.
    landmarks : (p, d) float32.
    neighbours : r, at most p.

    Returns
    -------
    distances : (n, r) float64, squared, ascending.
    index : (n, r) int32.

    Raises
    ------
    ValueError : fewer landmarks than neighbours, or another number of features.
    """
    n, p = len(rows), len(landmarks)
    if neighbours > p:
        raise ValueError(f"{p} landmarks; each row needs {neighbours}")
    if rows.shape[1] != landmarks.shape[1]:
        raise ValueError(f"rows have {rows.shape[1]} features, landmarks {landmarks.shape[1]}")
    candidates = np.empty((n, min(p, neighbours + _SPARE)), np.int32)
    norms = np.einsum("ij,ij->i", landmarks, landmarks)
    doubled = np.ascontiguousarray(-2.0 * landmarks.T)
    for start in range(0, n, _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        _least(rows[chunk] @ doubled + norms, candidates[chunk])
    distances = np.full((n, neighbours), np.inf)
    index = np.full((n, neighbours), p, np.int32)
    _rank(rows, landmarks, candidates, distances, index)
    return distances, index


def attach(rows: np.ndarray, landmarks: Landmarks) -> Attachment:
    """Tie the rows of a block to landmarks, with weights exp(−d²/scale) that add up to 1 a set.

    Parameters
    ----------
    rows : (n, d) float32.
    """
    indices, weights, first = [], [], 0
    for one, scale in zip(landmarks.sets, landmarks.scales, strict=True):
        distances, index = nearest_landmarks(rows, one, landmarks.neighbours)
        falling = np.exp(-(distances - distances[:, :1]) / scale)
        indices.append(index + np.int32(first))
        weights.append(falling / falling.sum(axis=1, keepdims=True))
        first += len(one)
    return Attachment(np.hstack(indices), np.hstack(weights))


def affinity(attachment: Attachment, n_landmarks: int) -> Any:
    """ZᵀZ of a block: how strongly its rows tie landmarks together.

    Returns
    -------
    (p, p) `scipy.sparse.csr_array` float64
    """
    n, ties = attachment.numbers.shape
    starts = np.arange(0, n * ties + 1, ties)
    z = sparse.csr_array(
        (attachment.weights.ravel(), attachment.numbers.ravel(), starts), shape=(n, n_landmarks)
    )
    product = (z.T @ z).tocsr()
    product.sort_indices()
    return product


def merge_affinities(parts: list[Any]) -> Any:
    """Add affinities of blocks, in order."""
    return sum(parts[1:], parts[0])


def vote(attachment: Attachment, groups: np.ndarray, k: int) -> np.ndarray:
    """The group that most of each row's weight is in; ties go to the lowest.

    Parameters
    ----------
    groups : (p,) of all landmarks, from `group_landmarks`.

    Returns
    -------
    (n,) int32
    """
    n = len(attachment.numbers)
    cells = np.arange(n)[:, None] * k + groups[attachment.numbers]
    shares = np.bincount(cells.ravel(), attachment.weights.ravel(), minlength=n * k)
    return np.asarray(shares.reshape(n, k).argmax(axis=1), dtype=np.int32)


def group_landmarks(landmarks: Landmarks, affinities: Any, k: int) -> np.ndarray:
    """Group landmarks by their affinity; one without rows follows the nearest that has some.

    Parameters
    ----------
    affinities : (p, p), of all rows.
    k : number of groups.

    Returns
    -------
    (p,) int64, 0 … k − 1

    Raises
    ------
    ValueError : fewer landmarks with rows than groups.
    """
    stacked = np.concatenate(landmarks.sets).astype(np.float32)
    labels = group_by_affinity(affinities, k, stacked)
    unused = np.flatnonzero(labels < 0)
    if unused.size:
        used = np.flatnonzero(labels >= 0)
        _, nearest = nearest_landmarks(stacked[unused], np.ascontiguousarray(stacked[used]), 1)
        labels[unused] = labels[used][nearest[:, 0]]
    return labels
