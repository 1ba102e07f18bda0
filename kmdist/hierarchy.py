"""Hierarchies of clusters, both ways: `BisectingKMeans` splits, `merge_clusters` joins."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from kmdist.centroid_model import CentroidModel, in_chunks, predict_rows
from kmdist.dask_rows import is_dask
from kmdist.estimators import require_int, require_one_of, seed_of
from kmdist.inputs import as_rows, checked, checked_weights, pool_for
from kmdist.lloyd import Options, finish, iterate, last
from kmdist.rows import Block, Loader, Rows
from kmdist.seeding import INITS, seed_centroids
from kmdist.state import State

STRATEGIES = ("biggest_inertia", "largest_cluster")


@dataclass
class ClusterTree:
    """How clusters were split; node 0 is all rows.

    Parameters
    ----------
    children : for each node, the numbers of its two parts, or None for a leaf.
    centroids : (d,) mean of each node.
    counts, inertias : Σ w and Σ w‖x − c‖² of each node.
    labels : cluster number of each leaf, −1 for other nodes.
    """

    children: list[tuple[int, int] | None]
    centroids: list[np.ndarray]
    counts: list[float]
    inertias: list[float]
    labels: list[int]

    def add(self, centroid: np.ndarray, count: float, inertia: float) -> int:
        """A new leaf; returns its number."""
        self.children.append(None)
        self.centroids.append(centroid)
        self.counts.append(count)
        self.inertias.append(inertia)
        self.labels.append(-1)
        return len(self.children) - 1

    def leaves(self) -> list[int]:
        """Leaves from left to right."""
        found, stack = [], [0]
        while stack:
            node = stack.pop()
            parts = self.children[node]
            if parts is None:
                found.append(node)
            else:
                stack.extend(reversed(parts))
        return found

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Cluster of each row: from the root, the nearer part at each split.

        Returns
        -------
        (n,) int32
        """
        labels = np.empty(len(rows), np.int32)
        stack = [(0, np.arange(len(rows)))]
        while stack:
            node, index = stack.pop()
            parts = self.children[node]
            if parts is None:
                labels[index] = self.labels[node]
                continue
            pair = np.stack([self.centroids[part] for part in parts])
            side = predict_rows(rows[index], pair)
            stack.extend((part, index[side == i]) for i, part in enumerate(parts))
        return labels


def _part_of(item: tuple[Any, np.ndarray, int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows of a source that lie nearer to one centroid of a pair."""
    source, pair, side = item
    block: Block = source.open()
    inside = predict_rows(block.rows, pair) == side
    return block.rows[inside], None if block.weights is None else block.weights[inside]


def _kept_part(source: Any, pair: np.ndarray, side: int) -> Block:
    return Block(*_part_of((source, pair, side)))


def part_of_rows(rows: Rows, pair: np.ndarray, side: int) -> Rows:
    """The rows nearer to one centroid of a pair than to the other.

    Parameters
    ----------
    rows : Rows; where they are kept, the part is kept too, as a copy.
    pair : (2, d) centroids.
    side : 0 or 1.
    """
    if rows.kept:
        pool = rows.pool
        future = pool.broadcast(pair)
        sources = [pool.submit(_kept_part, source, future, side) for source in rows.sources]
        return Rows(pool, sources, rows.dtype, kept=True)
    loaders = [Loader(_part_of, (source, pair, side)) for source in rows.sources]
    return Rows(rows.pool, loaders, rows.dtype, kept=False)


class BisectingKMeans(CentroidModel):
    """Divisive k-means: split one cluster in two until there are k; the tree is kept.

    Steinbach, Karypis, Kumar (KDD Workshop on Text Mining, 2000).

    Parameters
    ----------
    n_clusters : int, k.
    init, max_iter, tol, random_state : of each split in two, as in `kmdist.KMeans`.
    n_init : attempts at each split, of which the one of least inertia is kept.
    bisecting_strategy : split the cluster of ``'biggest_inertia'`` or the ``'largest_cluster'``.

    Attributes
    ----------
    cluster_centers_ : (k, d), means of the leaves from left to right.
    tree_ : ClusterTree.
    labels_, inertia_ : as in `kmdist.KMeans`. `predict` walks the tree.

    Notes
    -----
    A split costs about as much as `KMeans(2)` on the rows of the cluster that is split. Kept
    rows are copied once in all; others are loaded and filtered in every pass.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | Callable[..., Any] = "k-means++",
        n_init: int = 1,
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
        bisecting_strategy: str = "biggest_inertia",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.bisecting_strategy = bisecting_strategy

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "BisectingKMeans":
        """Split until there are k clusters.

        Parameters
        ----------
        X, y, sample_weight : as in `kmdist.KMeans.fit`.
        """
        for name in ("n_clusters", "n_init", "max_iter"):
            require_int(name, getattr(self, name))
        require_one_of("bisecting_strategy", self.bisecting_strategy, STRATEGIES)
        require_one_of("init", self.init, INITS)
        X = checked(self, X, reset=True)
        weights = checked_weights(sample_weight, X)
        with pool_for(X) as pool:
            rows, _ = as_rows(X, weights, pool)
            if rows.n_rows < self.n_clusters:
                raise ValueError(
                    f"n_samples={rows.n_rows} should be >= n_clusters={self.n_clusters}."
                )
            self.tree_ = self._grow(rows)
        leaves = self.tree_.leaves()
        for label, leaf in enumerate(leaves):
            self.tree_.labels[leaf] = label
        self.cluster_centers_ = np.stack([self.tree_.centroids[leaf] for leaf in leaves])
        self.inertia_ = float(sum(self.tree_.inertias[leaf] for leaf in leaves))
        if len(leaves) < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({len(leaves)}) found smaller than n_clusters "
                f"({self.n_clusters}): no cluster left has two distinct rows.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.labels_ = self.predict(X)
        return self

    def predict(self, X: Any) -> Any:
        """Cluster of each row, by walking the tree.

        Returns
        -------
        (n,) int32; a lazy Dask array for Dask input.
        """
        X = self._checked_input(X)
        if is_dask(X):
            return X.map_blocks(
                self.tree_.predict, dtype=np.int32, drop_axis=1, meta=np.empty(0, np.int32)
            )
        return in_chunks(self.tree_.predict, X)

    def _grow(self, rows: Rows) -> ClusterTree:
        seed = seed_of(self.random_state)
        tree = ClusterTree([], [], [], [], [])
        mean = rows.moments.mean.astype(rows.centroid_dtype)
        total = finish(rows, mean[None])
        parts = {tree.add(mean, float(total.counts[0]), float(total.inertia[0])): rows}
        while len(parts) < self.n_clusters:
            sizes = tree.inertias if self.bisecting_strategy == "biggest_inertia" else tree.counts
            open_nodes = [node for node in parts if _divisible(parts[node])]
            if not open_nodes:
                break
            node = max(open_nodes, key=lambda n: (sizes[n], -n))
            whole = parts.pop(node)
            state = self._split(whole, seed + 7919 * node)
            done = finish(whole, state.centroids)
            children = []
            for side in (0, 1):
                child = tree.add(
                    state.centroids[side], float(done.counts[side]), float(done.inertia[side])
                )
                parts[child] = part_of_rows(whole, state.centroids, side)
                children.append(child)
            tree.children[node] = (children[0], children[1])
        return tree

    def _split(self, rows: Rows, seed: int) -> State:
        options = Options(max_iter=self.max_iter, tol=self.tol)
        states = [
            last(iterate(rows, seed_centroids(rows, 2, self.init, seed, attempt), options))
            for attempt in range(self.n_init)
        ]
        return min(states, key=lambda state: state.inertia)


def _divisible(rows: Rows) -> bool:
    """Whether there are two distinct rows."""
    return bool((rows.moments.high > rows.moments.low).any()) and rows.moments.positive > 1


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
    random_state: int = 0,
) -> Merged:
    """Join clusters to fewer.

    Parameters
    ----------
    centroids : (k, d). counts : (k,), positive for clusters that have rows.
    n_clusters : m, at most k.
    method : ``'ward'``: the pair whose union adds least inertia first (Ward, 1963);
        ``'spectral'``: k-means on the leading eigenvectors of the normalised affinity (Ng,
        Jordan, Weiss, 2001), which follows clusters that are not round.
    affinity : (k, k) symmetric, not negative, for ``'spectral'``: how strongly rows tie two
        clusters together, for instance how often they are a row's two nearest.
    random_state : of the k-means of ``'spectral'``.

    Raises
    ------
    ValueError : shapes do not fit, m is not in 1 … k, or the affinity is missing.
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
        labels = _spectral(np.asarray(affinity, dtype=np.float64), n_clusters, random_state)
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


def _spectral(affinity: np.ndarray, n_clusters: int, random_state: int) -> np.ndarray:
    from kmdist.estimators import KMeans

    affinity = (affinity + affinity.T) / 2
    degrees = affinity.sum(axis=1)
    scale = 1.0 / np.sqrt(np.maximum(degrees, 1e-300))
    _, vectors = np.linalg.eigh(affinity * scale[:, None] * scale)
    leading = vectors[:, -n_clusters:]
    leading = leading / np.maximum(np.linalg.norm(leading, axis=1, keepdims=True), 1e-300)
    model = KMeans(n_clusters, n_init=10, random_state=random_state)
    return np.asarray(model.fit_predict(np.ascontiguousarray(leading)))
