"""Groups of what is tied together, from the spectrum of their affinities."""

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

DENSE_LANDMARKS = 512
"""Up to this many, all eigenvectors at once are faster than ARPACK."""


def group_by_affinity(affinities: Any, k: int, positions: np.ndarray) -> np.ndarray:
    """Group what is tied together by the leading eigenvectors of the normalised affinity.

    Rows of the eigenvectors, at unit length (Ng, Jordan, Weiss, 2001), are grouped by pivoted QR
    (Damle, Minden, Ying, Information and Inference 8, 2019), which needs no random numbers, and
    then by weighted Lloyd iterations from there. What falls into more than k pieces without any
    tie between them has no k leading eigenvectors: the pieces are joined across the least gaps.

    Parameters
    ----------
    affinities : (p, p) symmetric, not negative; sparse or dense.
    k : number of groups.
    positions : (p, d), for the gaps between pieces.

    Returns
    -------
    (p,) int64, 0 … k − 1; −1 for one that is tied to nothing, not even itself.

    Raises
    ------
    ValueError : fewer are tied than groups are asked for.
    """
    affinities = sparse.csr_array(affinities)
    degrees = np.asarray(affinities.sum(axis=1)).ravel()
    used = np.flatnonzero(degrees > 0)
    if len(used) < k:
        raise ValueError(f"{len(used)} landmarks have rows; they cannot form {k} groups")
    inner = affinities[used][:, used].tocsr()
    labels = np.full(len(degrees), -1, np.int64)
    n_pieces, pieces = connected_components(inner, directed=False)
    if n_pieces > k:
        labels[used] = _join_pieces(pieces, n_pieces, np.asarray(positions)[used], k)
        return labels
    vectors = _leading_vectors(inner, degrees[used], k)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(lengths, 1e-300)
    labels[used] = _lloyd(unit, degrees[used], _by_pivots(unit), k)
    return labels


def _join_pieces(pieces: np.ndarray, n_pieces: int, positions: np.ndarray, k: int) -> np.ndarray:
    """Single linkage of whole pieces: those with the least gap between members join first.

    Returns
    -------
    (p,) int64, 0 … k − 1, in order of first member.
    """
    from scipy.spatial.distance import cdist

    members = [positions[pieces == piece].astype(np.float64) for piece in range(n_pieces)]
    gaps = np.full((n_pieces, n_pieces), np.inf)
    for a in range(n_pieces):
        for b in range(a):
            gaps[a, b] = gaps[b, a] = cdist(members[a], members[b], "sqeuclidean").min()
    group = np.arange(n_pieces)
    for _ in range(n_pieces - k):
        a, b = sorted(divmod(int(gaps.argmin()), n_pieces))
        group[group == b] = a
        gaps[a] = gaps[:, a] = np.minimum(gaps[a], gaps[b])
        gaps[b] = gaps[:, b] = gaps[a, a] = np.inf
    _, first, inverse = np.unique(group[pieces], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _leading_vectors(affinities: Any, degrees: np.ndarray, k: int) -> np.ndarray:
    """(p, k) eigenvectors of D^−½ A D^−½ with the largest eigenvalues."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    p = len(degrees)
    scaling = sparse.diags_array(1.0 / np.sqrt(degrees))
    normalised = (scaling @ affinities @ scaling).tocsr()
    if p > DENSE_LANDMARKS and k < p // 8:
        first = np.sqrt(degrees / degrees.sum())
        try:
            vectors = eigsh(normalised, k, which="LA", v0=first, ncv=4 * k + 20, tol=1e-7)[1]
            return np.asarray(vectors)
        except ArpackNoConvergence:
            pass  # many components of equal weight: all eigenvectors, then
    return np.asarray(eigh(normalised.toarray(), subset_by_index=[p - k, p - 1])[1])


def _by_pivots(rows: np.ndarray) -> np.ndarray:
    """First groups: k rows that differ most span the others; each row goes to its largest part."""
    from scipy.linalg import qr, svd

    k = rows.shape[1]
    pivots = qr(rows.T, pivoting=True)[2][:k]
    left, _, right = svd(rows[pivots].T)
    return np.asarray(np.abs(rows @ (left @ right)).argmax(axis=1))


def _lloyd(points: np.ndarray, weights: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Weighted k-means of a few thousand points in memory, from given labels, 100 rounds at most.

    A group that runs empty takes the point farthest from its centre.
    """
    for _ in range(100):
        membership = np.zeros((len(points), k))
        membership[np.arange(len(points)), labels] = weights
        totals = membership.sum(axis=0)
        centres = (membership.T @ points) / np.maximum(totals, 1e-300)[:, None]
        distances = ((centres**2).sum(axis=1) - 2.0 * (points @ centres.T)) + 1.0
        distances[:, totals <= 0] = np.inf
        new = distances.argmin(axis=1)
        for empty in np.setdiff1d(np.arange(k), new):
            crowded = np.bincount(new, minlength=k)[new] > 1
            own = np.where(crowded, distances[np.arange(len(points)), new], -np.inf)
            new[own.argmax()] = empty
            distances[own.argmax(), empty] = 0.0
        if np.array_equal(new, labels):
            break
        labels = new
    return labels
