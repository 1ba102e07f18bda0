"""Join clusters to fewer: Ward's tree of weighted centroids, or spectral clustering of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from kmdist.arguments import checked_arguments
from kmdist.estimators.model import require_one_of


@dataclass(frozen=True)
class Merged:
    """Clusters joined to fewer.

    Parameters
    ----------
    labels : (k,) int64, the new cluster 0 … m − 1 of each old one, in order of first member.
    centroids : (m, d) float64, weighted means of the members.
    counts : (m,) their summed counts.
    linkage : (k − 1, 4) float64, the whole tree as SciPy's ``linkage`` gives it (for Ward).
    """

    labels: np.ndarray
    centroids: np.ndarray
    counts: np.ndarray
    linkage: np.ndarray


@checked_arguments
def merge_clusters(
    centroids: np.ndarray | Sequence[Any],
    counts: np.ndarray | Sequence[Any],
    n_clusters: int,
    *,
    method: str = "ward",
    affinity: np.ndarray | Sequence[Any] | None = None,
) -> Merged:
    """Join clusters to fewer.

    Parameters
    ----------
    centroids : (k, d). counts : (k,), positive for clusters that have rows.
    n_clusters : m, at most k.
    method : ``'ward'``: the pair whose union adds least inertia first (Ward, 1963);
        ``'spectral'``: by the leading eigenvectors of the normalised affinity, which follows
        clusters that are not round; see `group_by_affinity`.
    affinity : (k, k) symmetric, not negative, for ``'spectral'``: how strongly rows tie two
        clusters together, for instance how often they are a row's two nearest.

    Raises
    ------
    ValueError : shapes do not fit, m is not in 1 … k, the affinity is missing, or fewer than m
        clusters are tied by it.
    """
    centroids = np.asarray(centroids, dtype=np.float64)
    counts = np.asarray(counts, dtype=np.float64)
    k, n_clusters = len(centroids), int(n_clusters)  # of NumPy, it may overflow
    if centroids.ndim != 2 or counts.shape != (k,):
        raise ValueError(f"counts {counts.shape} do not fit centroids {centroids.shape}")
    if not (np.isfinite(centroids).all() and np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("centroids and counts must be finite, and no count negative")
    if not 1 <= n_clusters <= k:
        raise ValueError(f"n_clusters={n_clusters} must be in 1 … {k}, the clusters there are")
    require_one_of("method", method, ("ward", "spectral"))
    if method == "ward":
        tree = ward_linkage(centroids, counts)
        labels = _cut(tree, k, n_clusters)
    else:
        if affinity is None or np.shape(affinity) != (k, k):
            raise ValueError(f"method='spectral' needs affinity of shape ({k}, {k})")
        tree = np.empty((0, 4))
        ties = np.asarray(affinity, dtype=np.float64)
        if not (np.isfinite(ties).all() and (ties >= 0).all()):
            raise ValueError("affinity must be finite and not negative")
        groups = group_by_affinity((ties + ties.T) / 2, n_clusters, centroids)
        labels = np.maximum(groups, 0)  # one that is tied to nothing joins the first
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    labels = order[inverse]
    joined = np.bincount(labels, weights=counts, minlength=n_clusters)
    sums = np.zeros((len(joined), centroids.shape[1]))
    np.add.at(sums, labels, centroids * counts[:, None])
    return Merged(labels, sums / np.where(joined > 0, joined, 1.0)[:, None], joined, tree)


def ward_linkage(centroids: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ward's tree of weighted points; O(k²) memory, O(k²) to O(k³) time.

    Parameters
    ----------
    centroids : (k, d) float64. counts : (k,) float64.

    Returns
    -------
    (k − 1, 4) float64 : joined nodes a < b, √(2 · added inertia), number of old clusters.
    """
    k = len(centroids)
    # Scaled by a power of two, so that squares neither overflow nor underflow.
    exponent = np.frexp(np.abs(centroids).max(initial=0.0))[1]
    points, weights = np.ldexp(centroids, -exponent), np.maximum(counts.astype(np.float64), 0.0)
    sizes, names = np.ones(k), np.arange(k)
    alive = np.ones(k, dtype=bool)
    cost = cdist(points, points, "sqeuclidean")  # from differences, whatever all have in common
    cost *= weights[:, None] * weights / np.maximum(weights[:, None] + weights, 1e-300)
    np.fill_diagonal(cost, np.inf)
    nearest, least = cost.argmin(axis=1), cost.min(axis=1)
    tree = np.empty((k - 1, 4))
    for step in range(k - 1):
        a = int(np.where(alive, least, np.inf).argmin())
        b = int(nearest[a])
        if b < a:
            a, b = b, a
        pair = sorted((names[a], names[b]))
        tree[step] = (
            pair[0],
            pair[1],
            np.ldexp(np.sqrt(2 * cost[a, b]), exponent),
            sizes[a] + sizes[b],
        )
        total = weights[a] + weights[b]
        share = weights[b] / total if total > 0 else 0.5
        points[a] += (points[b] - points[a]) * share
        weights[a], sizes[a], names[a] = total, sizes[a] + sizes[b], k + step
        alive[b] = False
        cost[b], cost[:, b] = np.inf, np.inf
        gaps = ((points - points[a]) ** 2).sum(axis=1)
        row = gaps * weights * total / np.maximum(weights + total, 1e-300)
        row[~alive], row[a] = np.inf, np.inf
        cost[a], cost[:, a] = row, row
        stale = alive & ((nearest == a) | (nearest == b))
        stale[a] = True
        for i in np.flatnonzero(stale):
            nearest[i], least[i] = cost[i].argmin(), cost[i].min()
        closer = alive & (row < least)
        nearest[closer], least[closer] = a, row[closer]
    return tree


def _cut(tree: np.ndarray, k: int, n_clusters: int) -> np.ndarray:
    """Labels after the first k − n_clusters joins."""
    parent = np.arange(2 * k - 1)
    for step in range(k - n_clusters):
        parent[int(tree[step, 0])] = parent[int(tree[step, 1])] = k + step
    for node in range(2 * k - 2, -1, -1):
        parent[node] = parent[parent[node]]
    return parent[:k]


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
