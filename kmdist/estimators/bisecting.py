"""Divisive k-means: `BisectingKMeans` splits clusters and keeps the tree."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from kmdist.engine.kernels.sums import cluster_means
from kmdist.engine.lloyd import Options, State, final_state, iterate, last, predict_rows, run_step
from kmdist.engine.rows import Block, Loader, Rows, is_dask
from kmdist.engine.seeding import INITS, seed_centroids
from kmdist.estimators.model import (
    CentroidModel,
    as_rows,
    checked,
    checked_weights,
    in_chunks,
    pool_for,
    require_int,
    require_one_of,
    require_rows,
    require_tol,
    seed_of,
)

STRATEGIES = ("biggest_inertia", "largest_cluster")


@dataclass
class ClusterTree:
    """How clusters were split; node 0 is all rows.

    Parameters
    ----------
    children : for each node, the numbers of its two parts, or None for a leaf.
    splits : for each node, the (2, d) centroids that part it, or None for a leaf.
    centroids : (d,) mean of each node.
    counts, inertias : Σ w and Σ w‖x − c‖² of each node.
    labels : cluster number of each leaf, −1 for other nodes.
    """

    children: list[tuple[int, int] | None]
    splits: list[np.ndarray | None]
    centroids: list[np.ndarray]
    counts: list[float]
    inertias: list[float]
    labels: list[int]

    def add(self, centroid: np.ndarray, count: float, inertia: float) -> int:
        """A new leaf; returns its number."""
        self.children.append(None)
        self.splits.append(None)
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
            parts, pair = self.children[node], self.splits[node]
            if parts is None or pair is None:
                labels[index] = self.labels[node]
                continue
            side = predict_rows(rows[index], pair)
            stack.extend((part, index[side == i]) for i, part in enumerate(parts))
        return labels


def _part_of(item: tuple[Any, Callable[..., Any], tuple[Any, ...]]) -> tuple[Any, Any]:
    """Rows of a source, and their weights, that a function chooses."""
    source, chosen, how = item
    block: Block = source.open()
    inside = chosen(block.rows, *how)
    return block.rows[inside], None if block.weights is None else block.weights[inside]


def _kept_part(source: Any, chosen: Callable[..., Any], how: tuple[Any, ...]) -> Block:
    return Block(*_part_of((source, chosen, how)))


def part_of_rows(rows: Rows, chosen: Callable[..., np.ndarray], *how: Any) -> Rows:
    """Some of the rows.

    Parameters
    ----------
    rows : Rows; where they are kept, the part is kept too, as a copy.
    chosen : called with rows (n, d) and `how`; importable. (n,) True for those that are taken.
    """
    if rows.kept:
        pool = rows.pool
        future = pool.broadcast(how)
        sources = [pool.submit(_kept_part, source, chosen, future) for source in rows.sources]
        return Rows(pool, sources, rows.dtype, kept=True)
    loaders = [Loader(_part_of, (source, chosen, how)) for source in rows.sources]
    return Rows(rows.pool, loaders, rows.dtype, kept=False)


def _on_side(rows: np.ndarray, pair: np.ndarray, side: int) -> np.ndarray:
    """Rows that lie nearer to one centroid of a pair (2, d) than to the other."""
    return np.asarray(predict_rows(rows, pair) == side)


class BisectingKMeans(CentroidModel):
    """Divisive k-means: split one cluster in two until there are k; the tree is kept.

    Steinbach, Karypis, Kumar (KDD Workshop on Text Mining, 2000).

    Parameters
    ----------
    n_clusters : int, k.
    init : ``'k-means++'``, ``'k-means||'`` or ``'random'``.
    max_iter, tol, random_state : of each split in two, as in `kmdist.KMeans`.
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
        init: str = "k-means++",
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
        require_tol(self.tol)
        require_one_of("bisecting_strategy", self.bisecting_strategy, STRATEGIES)
        require_one_of("init", self.init, INITS)
        X = checked(self, X, reset=True)
        weights = checked_weights(sample_weight, X)
        with pool_for(X) as pool:
            rows, _ = as_rows(X, weights, pool)
            require_rows(rows, self.n_clusters)
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
        tree = ClusterTree([], [], [], [], [], [])
        parts = {tree.add(*_measure(rows)): rows}
        sizes = tree.inertias if self.bisecting_strategy == "biggest_inertia" else tree.counts
        while len(tree.leaves()) < self.n_clusters:
            open_nodes = [node for node in parts if _divisible(parts[node])]
            if not open_nodes:
                break
            node = max(open_nodes, key=lambda n: (sizes[n], -n))
            whole = parts.pop(node)
            state = self._split(whole, seed + 7919 * node)
            if not state.counts.all():  # too near to each other for their type to part them
                continue
            halves = [part_of_rows(whole, _on_side, state.centroids, side) for side in (0, 1)]
            left, right = (tree.add(*_measure(half)) for half in halves)
            parts |= {left: halves[0], right: halves[1]}
            tree.children[node], tree.splits[node] = (left, right), state.centroids
        return tree

    def _split(self, rows: Rows, seed: int) -> State:
        options = Options(max_iter=self.max_iter, tol=self.tol)
        states = [
            last(iterate(rows, seed_centroids(rows, 2, self.init, seed, attempt), options))
            for attempt in range(self.n_init)
        ]
        return min(states, key=lambda state: state.inertia)


def _measure(rows: Rows) -> tuple[np.ndarray, float, float]:
    """Mean, weight and inertia of some rows: two passes."""
    guess = rows.moments.mean[None].astype(rows.centroid_dtype)
    mean = cluster_means(run_step(rows, guess), guess).astype(rows.centroid_dtype)
    done = final_state(rows, State(mean, np.zeros(1), np.inf, 0))
    return mean[0], float(done.counts[0]), done.inertia


def _divisible(rows: Rows) -> bool:
    """Whether there are two distinct rows."""
    return bool((rows.moments.high > rows.moments.low).any()) and rows.moments.n_counted > 1
