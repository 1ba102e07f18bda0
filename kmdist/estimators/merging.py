"""Join clusters to fewer: Ward's tree of weighted centroids, or spectral clustering of them."""

from dataclasses import dataclass

import numpy as np

from kmdist.estimators.affinity import group_by_affinity
from kmdist.estimators.parameters import require_one_of


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


def merge_clusters(
    centroids: np.ndarray,
    counts: np.ndarray,
    n_clusters: int,
    *,
    method: str = "ward",
    affinity: np.ndarray | None = None,
) -> Merged:
    """Join clusters to fewer.

    Parameters
    ----------
    centroids : (k, d). counts : (k,), positive for clusters that have rows.
    n_clusters : m, at most k.
    method : ``'ward'``: the pair whose union adds least inertia first (Ward, 1963);
        ``'spectral'``: by the leading eigenvectors of the normalised affinity, which follows
        clusters that are not round; see `kmdist.estimators.affinity.group_by_affinity`.
    affinity : (k, k) symmetric, not negative, for ``'spectral'``: how strongly rows tie two
        clusters together, for instance how often they are a row's two nearest.

    Raises
    ------
    ValueError : shapes do not fit, m is not in 1 … k, the affinity is missing, or fewer than m
        clusters are tied by it.
    """
    centroids = np.asarray(centroids, dtype=np.float64)
    counts = np.asarray(counts, dtype=np.float64)
    k = len(centroids)
    if centroids.ndim != 2 or counts.shape != (k,):
        raise ValueError(f"counts {counts.shape} do not fit centroids {centroids.shape}")
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
        labels = _spectral(np.asarray(affinity, dtype=np.float64), n_clusters, centroids)
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
    points, weights = centroids.copy(), np.maximum(counts.astype(np.float64), 0.0)
    sizes, names = np.ones(k), np.arange(k)
    alive = np.ones(k, dtype=bool)
    squares = (points * points).sum(axis=1)
    cost = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0.0)
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
        tree[step] = pair[0], pair[1], np.sqrt(2 * cost[a, b]), sizes[a] + sizes[b]
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


def _spectral(affinity: np.ndarray, n_clusters: int, centroids: np.ndarray) -> np.ndarray:
    """Groups of clusters; one that is tied to nothing joins the first."""
    return np.maximum(group_by_affinity((affinity + affinity.T) / 2, n_clusters, centroids), 0)
