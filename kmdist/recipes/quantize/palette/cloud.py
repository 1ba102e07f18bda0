"""The distinct colours of a collection in their space, and the steps of k-means on them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from kmdist.engine.kernels.manhattan import assign_manhattan, count_values, medians_of_counts
from kmdist.engine.lloyd import predict_rows
from kmdist.errors import UsageError
from kmdist.images.color import alpha_from_space, alpha_to_space, to_space, to_srgb
from kmdist.recipes.quantize.kernels.color_tree import (
    ColorTree,
    Sums,
    build_tree,
    label_chunk,
    sum_chunk,
)
from kmdist.recipes.quantize.kernels.histogram import Colors

T = TypeVar("T")
Float32Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.unsignedinteger]


def fit_memory_bytes(n_colors: int) -> int:
    """Most memory that a `ColorCloud` of `n_colors` and a fit of it take, histogram included.

    Between the passes a cloud holds 42 bytes a colour; the peak is the summary for seeding.
    """
    return 110 * n_colors + (32 << 20)


@dataclass(frozen=True)
class ColorCloud:
    """A histogram's colours as weighted points, ready for any number of fits.

    Attributes
    ----------
    colors : the histogram, with at least one colour.
    space : one of `kmdist.images.color.SPACES`.
    threads : for passes over more than 65,536 colours. Results do not depend on it.

    Raises
    ------
    UsageError : no colours.
    """

    colors: Colors
    space: str = "rgb"
    threads: int = 1

    def __post_init__(self) -> None:
        if len(self.colors) == 0:
            raise UsageError("there is no colour to fit a palette to: no pixel was counted")

    @cached_property
    def points(self) -> npt.NDArray[np.float32]:
        """Coordinates of the colours, (n, 3) float32."""
        return to_space(self.colors.rgb, self.space)

    @staticmethod
    def of(colors: Colors, space: str = "rgb", threads: int = 1, *, alpha: bool) -> "ColorCloud":
        """A cloud of colours that have alpha, or have none."""
        return (AlphaCloud if alpha else ColorCloud)(colors, space, threads)

    def placed(self, colors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Coordinates of sRGB colours (k, 3)."""
        return to_space(colors, self.space)

    def shown(self, centroids: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
        """(k, 3) uint8 sRGB that a display can show of centroids."""
        return to_srgb(centroids, self.space)

    @cached_property
    def tree(self) -> ColorTree:
        """The points in their cells; int64 weights where coordinates are integers."""
        counts = self.colors.counts
        weights = counts if self.space == "rgb" else counts.astype(np.float64)
        return build_tree(self.colors.codes, self.points, weights)

    @property
    def variance(self) -> float:
        """Mean of the variances of the three coordinates, over all pixels."""
        total = self.tree.leaf_sums.sum(axis=0).astype(np.float64)
        square_of_mean = float(((total[:3] / total[3]) ** 2).sum())
        return max(0.0, (self.tree.squares / float(total[3]) - square_of_mean) / 3)

    def map_chunks(self, function: Callable[[int], T]) -> list[T]:
        """Results of `function` for every chunk of the tree, in their order."""
        chunks = range(self.tree.n_chunks)
        if min(self.threads, len(chunks)) == 1:
            return [function(chunk) for chunk in chunks]
        with ThreadPoolExecutor(self.threads) as executor:
            return list(executor.map(function, chunks))


class AlphaCloud(ColorCloud):
    """Colours with alpha: points of six coordinates, see `kmdist.images.color.alpha_to_space`."""

    @cached_property
    def points(self) -> npt.NDArray[np.float32]:
        """Coordinates of the colours, (n, 6) float32."""
        return alpha_to_space(self.colors.rgba, self.space)

    @property
    def is_opaque(self) -> bool:
        """Whether all colours are."""
        return self.colors.n_opaque == len(self.colors)

    @property
    def variance(self) -> float:
        """Mean of the variances of the six coordinates, over all pixels."""
        mean = np.average(self.points, axis=0, weights=self.colors.counts)
        squares = (self.points.astype(np.float64) - mean) ** 2
        return float(np.average(squares.mean(axis=1), weights=self.colors.counts))

    def placed(self, colors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Coordinates of sRGB colours (k, 4), or (k, 3), which are opaque."""
        if colors.shape[1] == 3:
            colors = np.pad(colors, ((0, 0), (0, 1)), constant_values=255)
        return alpha_to_space(colors, self.space)

    def shown(self, centroids: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
        """(k, 4) uint8 sRGB with alpha."""
        return alpha_from_space(centroids, self.space)


class Means:
    """The steps of Lloyd's method (1982): squared distances and means."""

    relaxes = True

    @staticmethod
    def step(
        cloud: ColorCloud, centroids: Float32Array, n_locked: int = 0
    ) -> tuple[npt.NDArray[np.int64], float, Float32Array, int]:
        """Assign every colour and move the centroids to the means.

        Parameters
        ----------
        n_locked : of the first centroids, which are not repaired where their clusters are empty.

        Returns
        -------
        counts (k,) int64 and inertia of the assignment to `centroids`; the next centroids (k, 3);
        how many of them stand where an empty cluster was repaired. Inertia is Σ w‖x − c‖² by
        expansion, good to 1e-12 of Σ w‖x‖².
        """
        parts = cloud.map_chunks(lambda chunk: sum_chunk(cloud.tree, chunk, centroids))
        sums: Sums = sum(parts[1:], parts[0])
        c, s = centroids.astype(np.float64), sums.astype(np.float64)
        explained = 2 * (c * s[:, :3]).sum() - ((c * c).sum(axis=1) * s[:, 3]).sum()
        inertia = max(0.0, float(cloud.tree.squares - explained))
        counts = sums[:, 3].astype(np.int64)
        n_repaired = 0
        if not counts[n_locked:].all():
            sums, n_repaired = _repair(cloud, centroids, n_locked)
        filled = sums[:, 3] > 0
        updated = centroids.copy()
        updated[filled] = sums[filled, :3] / sums[filled, 3:]
        return counts, inertia, updated, n_repaired

    @staticmethod
    def assign(
        cloud: ColorCloud, centroids: Float32Array
    ) -> tuple[Labels, npt.NDArray[np.int64], float]:
        """Nearest centroid of every colour, with distances in float64; ties to the lowest index.

        Returns
        -------
        labels (n,) uint8, or uint16 where k > 256; counts (k,) int64; inertia Σ w‖x − c‖² from
        differences in float64.
        """
        labels, sums, inertia = _label(cloud, centroids)
        return labels, sums[:, 3].astype(np.int64), inertia


class AlphaMeans:
    """The steps of Lloyd's method on an `AlphaCloud`; inertia is the mean over black and white."""

    relaxes = True

    @staticmethod
    def step(
        cloud: ColorCloud, centroids: Float32Array, n_locked: int = 0
    ) -> tuple[npt.NDArray[np.int64], float, Float32Array, int]:
        """Assign every colour and move the centroids to the means; as `Means.step`."""
        k, weights = len(centroids), cloud.colors.counts
        labels, costs = _nearest_with_alpha(cloud, centroids)
        counts = _members(labels, weights, k)
        moves = pick_members(costs, labels, weights, counts, n_locked)
        for color, cluster in moves:
            labels[color] = cluster
        filled = _members(labels, weights, k)
        updated = centroids.copy()
        for axis, column in enumerate(cloud.points.T):
            sums = np.bincount(labels, weights * column.astype(np.float64), k)
            updated[filled > 0, axis] = (sums / np.maximum(filled, 1))[filled > 0]
        return counts, float(costs.sum()) / 2, updated, len(moves)

    @staticmethod
    def assign(
        cloud: ColorCloud, centroids: Float32Array
    ) -> tuple[Labels, npt.NDArray[np.int64], float]:
        """Nearest centroid of every colour; ties to the lowest index; as `Means.assign`."""
        labels, costs = _nearest_with_alpha(cloud, centroids)
        counts = _members(labels, cloud.colors.counts, len(centroids))
        small: Labels = labels.astype(np.uint8 if len(centroids) <= 256 else np.uint16)
        return small, counts, float(costs.sum()) / 2


def _nearest_with_alpha(
    cloud: ColorCloud, centroids: Float32Array
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Nearest centroid of every colour, and w‖x − c‖² in float64."""
    labels = predict_rows(cloud.points, centroids)
    differences = cloud.points.astype(np.float64) - centroids[labels]
    return labels, cloud.colors.counts * (differences**2).sum(axis=1)


def _members(
    labels: npt.NDArray[np.integer], weights: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.int64]:
    counts = np.zeros(k, np.int64)
    np.add.at(counts, labels, weights)
    return counts


class Medians:
    """The steps of k-medians: Manhattan distances and medians.

    Values are 8-bit integers and so are their (lower) medians: distances, inertia and medians are
    exact. Only in `rgb`; elsewhere coordinates cannot be counted.
    """

    relaxes = False

    @staticmethod
    def step(
        cloud: ColorCloud, centroids: Float32Array, n_locked: int = 0
    ) -> tuple[npt.NDArray[np.int64], float, Float32Array, int]:
        """Assign every colour and move the centroids to the medians; parameter of `Means.step`.

        Returns
        -------
        counts (k,) int64 and inertia Σ w Σ|x − c| of the assignment to `centroids`; the next
        centroids (k, 3); how many of them stand where an empty cluster was repaired.
        """
        k, weights = len(centroids), cloud.colors.counts
        labels, distances = assign_manhattan(cloud.points, centroids)
        rgb, members = cloud.colors.rgb, weights.astype(np.float64)
        values = count_values(rgb, members, labels, k)
        counts = values[:, 0].sum(axis=1).astype(np.int64)
        moves: list[tuple[int, int]] = []
        if not counts[n_locked:].all():
            moves = pick_members(members * distances, labels, weights, counts, n_locked)
            for color, cluster in moves:
                labels[color] = cluster
            values = count_values(rgb, members, labels, k)
        updated = medians_of_counts(values).astype(np.float32)
        empty = ~values[:, 0].any(axis=1)
        updated[empty] = centroids[empty]
        return counts, _inertia(weights, distances), updated, len(moves)

    @staticmethod
    def assign(
        cloud: ColorCloud, centroids: Float32Array
    ) -> tuple[Labels, npt.NDArray[np.int64], float]:
        """Nearest centroid of every colour; ties to the lowest index.

        Returns
        -------
        labels (n,) uint8, or uint16 where k > 256; counts (k,) int64; inertia Σ w Σ|x − c|.
        """
        k, weights = len(centroids), cloud.colors.counts
        labels, distances = assign_manhattan(cloud.points, centroids)
        counts = _members(labels, weights, k)
        small: Labels = labels.astype(np.uint8 if k <= 256 else np.uint16)
        return small, counts, _inertia(weights, distances)


def _label(cloud: ColorCloud, centroids: Float32Array) -> tuple[Labels, Sums, float]:
    k, tree = len(centroids), cloud.tree
    labels: Labels = np.empty(len(tree), np.uint8 if k <= 256 else np.uint16)
    parts: list[Sums] = [np.zeros((k, 4), tree.weights.dtype) for _ in range(tree.n_chunks)]
    inertias = cloud.map_chunks(
        lambda chunk: label_chunk(tree, chunk, centroids, labels, parts[chunk])
    )
    return labels, sum(parts[1:], parts[0]), float(sum(inertias))


def _repair(cloud: ColorCloud, centroids: Float32Array, n_locked: int) -> tuple[Sums, int]:
    """Sums after giving empty clusters a colour each, and how many got one."""
    labels, sums, _ = _label(cloud, centroids)
    counts = cloud.colors.counts
    differences = cloud.points.astype(np.float64) - centroids[labels]
    costs = counts * (differences**2).sum(axis=1)
    moves = pick_members(costs, labels, counts, sums[:, 3].astype(np.int64), n_locked)
    for color, cluster in moves:
        row = np.append(cloud.points[color], np.float32(1)).astype(sums.dtype)
        row *= sums.dtype.type(counts[color])
        sums[labels[color]] -= row
        sums[cluster] = row
    return sums, len(moves)


def _inertia(weights: npt.NDArray[np.int64], distances: npt.NDArray[np.float64]) -> float:
    return float((weights * distances).sum())


def pick_members(
    costs: npt.NDArray[np.float64],
    labels: npt.NDArray[np.integer],
    weights: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    n_locked: int = 0,
) -> list[tuple[int, int]]:
    """Give each empty cluster the colour that adds most to the inertia.

    Colours are taken in order of cost, descending, then of index; one that is all its cluster
    has stays there, and one that costs nothing is not moved. Empty clusters are served in
    order of index.

    Parameters
    ----------
    costs : (n,) what each colour adds to the inertia.
    labels : (n,) cluster of each colour.
    weights : (n,) pixels of each colour.
    counts : (k,) pixels of each cluster.
    n_locked : of the first clusters, which may be empty.

    Returns
    -------
    Pairs of a colour and the empty cluster that takes it.
    """
    left = counts.copy()
    waiting = (n_locked + np.flatnonzero(counts[n_locked:] == 0)).tolist()[::-1]
    moves: list[tuple[int, int]] = []
    if not waiting:
        return moves
    for color in np.argsort(-costs, kind="stable").tolist():
        if not waiting or costs[color] == 0:
            break
        donor = labels[color]
        if left[donor] > weights[color]:
            left[donor] -= weights[color]
            moves.append((color, waiting.pop()))
    return moves
