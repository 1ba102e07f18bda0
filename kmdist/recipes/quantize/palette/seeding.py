"""Initial centroids of a palette: k-means++ on a summary of the colours, refined on it.

Seeding on all colours costs more than the fit itself (747 ms against 173 ms for 191,267
colours and k = 256). A summary of 16 k cells, refined where colours are spread widest, ends at
the same inertia (mean of 6 seeds: +0.1 % on 12 photographs together, -0.1 % on each of four)
in 15 ms. A random sample of 20,000 pixels does as well but takes longer.
"""

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from kmdist.engine.kernels.distances import plus_plus
from kmdist.engine.lloyd import predict_rows
from kmdist.recipes.quantize.kernels.color_tree import ColorTree, build_tree, sum_chunk

_CELLS_PER_CENTROID = 16
_MIN_CELLS = 2048
_REFINEMENTS = 12
# Final inertia against one attempt, means of 8 seeds, 6 photographs and 12 together: -1.1 % at
# k = 8, -1.6 % at 16, -1.2 % at 32, -0.2 % at 64, for a tenth more time.
_ATTEMPTED_SEEDS = 128
_MAX_ATTEMPTS = 8
_MAX_SINGLE_COLORS = 1 << 18
_MOST_DRAWN = 20_000

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]


def pace(iteration: int) -> float:
    """How many times as far as to the means of their clusters centroids go in an iteration.

    Any pace below 2 lowers the inertia, which is quadratic for each assignment; of 1.5 … 1.9 this
    takes the fewest iterations (28 in place of 36 on 24 photographs, k = 256, to 0.3 % less
    inertia). Every fourth step is Lloyd's own, which ends where no label changes.
    """
    return 1.8 if iteration % 4 else 1.0


def random_stream(seed: int, start: int) -> np.random.Generator:
    """Random numbers of one start of one seed: a Philox counter stream (Salmon et al., 2011)."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, start], np.uint64)))


def random_seeds(
    points: Float32Array, weights: npt.NDArray[np.int64], k: int, random: np.random.Generator
) -> Float32Array:
    """Draw k of n distinct points without replacement, with probability by weight.

    Efraimidis and Spirakis (2006): the k smallest of n exponential variates over weights. Each
    colour's variate comes from its place in the sorted histogram, whatever order the pixels
    were counted in.

    Returns
    -------
    (k, 3) float32, in order of drawing.
    """
    keys = random.exponential(size=len(points)) / weights
    return points[np.argsort(keys, kind="stable")[:k]]


def plus_plus_seeds(
    codes: npt.NDArray[np.uint32],
    points: Float32Array,
    weights: npt.NDArray[np.int64],
    k: int,
    random: np.random.Generator,
) -> Float32Array:
    """Seed by greedy k-means++ on a summary of the points, and refine there by Lloyd's method.

    The best of several attempts, which cost little where k is small and matter most there.

    Parameters
    ----------
    codes : (n,) uint32, ascending colour codes.
    points : (n, 3) float32, n ≥ k.
    weights : (n,) int64.

    Returns
    -------
    (k, 3) float32, different wherever refinement leaves them so.
    """
    size = max(_MIN_CELLS, _CELLS_PER_CENTROID * k)
    codes, points, masses = summarize(codes, points, weights, size)
    tree = build_tree(codes, points, masses)
    best_explained, best = -np.inf, points[:k]
    for _ in range(min(_MAX_ATTEMPTS, max(1, _ATTEMPTED_SEEDS // k))):
        # As many candidates a centre as scikit-learn tries.
        uniforms = random.random((k, 2 + int(math.log(k))))
        seeds = points[seed_indices(points, masses, uniforms)]
        for i in range(_REFINEMENTS):
            means, explained = _refine(tree, seeds)
            seeds += np.float32(pace(i + 1)) * (means - seeds)
        if explained > best_explained:
            best_explained, best = explained, seeds
    return best


def drawn_seeds(
    points: Float32Array,
    weights: npt.NDArray[np.int64],
    k: int,
    random: np.random.Generator,
    known: Float64Array | None = None,
) -> Float32Array:
    """Seed by greedy k-means++ on at most 20,000 points, drawn by weight.

    Those drawn stand for the others: none weighs less than its share of the pixels.

    Parameters
    ----------
    points : (n, d) float32, n ≥ k.
    weights : (n,) int64.
    known : (n,) squared distances to centroids that there are besides, or None.

    Returns
    -------
    (k, d) float32, different.
    """
    if len(points) > _MOST_DRAWN:
        keys = random.exponential(size=len(points)) / weights
        drawn = np.sort(np.argsort(keys, kind="stable")[:_MOST_DRAWN])
        share = weights.sum() // _MOST_DRAWN
        points, weights = points[drawn], np.maximum(weights[drawn], share)
        known = known if known is None else known[drawn]
    masses = weights.astype(np.float64)
    mean = np.average(points, axis=0, weights=masses).astype(np.float32)
    return points[plus_plus(points - mean, masses, k, random, known)]


def seeds_beside(
    locked: Float32Array,
    points: Float32Array,
    weights: npt.NDArray[np.int64],
    k: int,
    random: np.random.Generator,
) -> Float32Array:
    """Seed k centroids where there are m already; fewer where fewer points differ from those.

    Parameters
    ----------
    locked : (m, d) float32. points : (n, d) float32. weights : (n,) int64.

    Returns
    -------
    (at most k, d) float32, different.
    """
    nearest = locked[predict_rows(points, locked)].astype(np.float64)
    known = ((points - nearest) ** 2).sum(axis=1)
    free = known > 0
    if not k or int(free.sum()) <= k:
        return points[free][:k]
    return drawn_seeds(points[free], weights[free], k, random, known[free])


def _refine(tree: ColorTree, seeds: Float32Array) -> tuple[Float32Array, float]:
    """Means of the seeds' clusters, and Σ w‖mean‖², which is high where inertia is low."""
    sums = np.zeros((len(seeds), 4))
    for chunk in range(tree.n_chunks):
        sums += sum_chunk(tree, chunk, seeds)
    refined = seeds.copy()
    filled = sums[:, 3] > 0
    refined[filled] = sums[filled, :3] / sums[filled, 3:]
    explained = (sums[filled, :3] ** 2).sum(axis=1) / sums[filled, 3]
    return refined, float(explained.sum())


def summarize(
    codes: npt.NDArray[np.uint32],
    points: Float32Array,
    weights: npt.NDArray[np.int64],
    size: int,
) -> tuple[npt.NDArray[np.uint32], Float32Array, Float64Array]:
    """Replace points by the means of about `size` cells of the colour cube.

    Starting from the whole cube, the cell with the largest Σ w‖x − mean‖² is divided into its
    up to eight children until there are `size` cells or more.

    Parameters
    ----------
    codes : (n,) uint32, ascending.
    points : (n, 3) float32.
    weights : (n,) int64.

    Returns
    -------
    codes (m,) uint32: the lowest of each cell, ascending; means (m, 3) float32; weights (m,)
    float64. At least min(n, size) and fewer than size + 8 of them, or all of n ≤ size points.
    """
    if len(codes) <= size:
        return codes, points, weights.astype(np.float64)
    # Of millions of colours, pairs of neighbouring values a channel are fine enough to start
    # from; it bounds the memory of the moments.
    cells = codes >> np.uint32(0 if len(codes) <= _MAX_SINGLE_COLORS else 3)
    first = _first_of_runs(cells)
    starts = first[_adaptive_starts(cells[first], _moments(points, weights, first), size)]
    moments = _moments(points, weights, starts)
    means = (moments[:, 1:4] / moments[:, :1]).astype(np.float32)
    return codes[starts], means, moments[:, 0]


def _first_of_runs(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.diff(values, prepend=~values[:1]))


def _moments(
    points: Float32Array, weights: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]
) -> Float64Array:
    """Σw, Σwx, Σwy, Σwz and Σw‖x‖² of runs of points, (runs, 5)."""
    moments = np.zeros((len(starts), 5))
    _add_moments(points, weights, np.append(starts, len(points)), moments)
    return moments


# Loops take a fifth of the time of `np.add.reduceat` on columns.
@njit(nogil=True, cache=True)
def _add_moments(points, weights, starts, moments):  # type: ignore[no-untyped-def]
    for run in range(starts.size - 1):
        for i in range(starts[run], starts[run + 1]):
            weight = np.float64(weights[i])
            x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
            moments[run, 0] += weight
            moments[run, 1] += weight * x
            moments[run, 2] += weight * y
            moments[run, 3] += weight * z
            moments[run, 4] += weight * (x * x + y * y + z * z)


@njit(nogil=True, cache=True)
def _add_runs(rows, starts, sums):  # type: ignore[no-untyped-def]
    for run in range(starts.size - 1):
        for i in range(starts[run], starts[run + 1]):
            for column in range(rows.shape[1]):
                sums[run, column] += rows[i, column]


def _adaptive_starts(
    codes: npt.NDArray[np.uint32], moments: Float64Array, size: int
) -> npt.NDArray[np.int64]:
    """First of the cells, of which `codes` are the codes, in each cell of the summary.

    A cell's scatter is at least that of each cell in it, so dividing the worst first means
    dividing exactly the cells above some threshold.
    """
    starts = [np.arange(len(codes))]
    scatters: list[Float64Array] = []
    first_children: list[npt.NDArray[np.int64]] = []
    while len(codes) > 1 or not scatters:
        parents = codes >> np.uint32(3)
        first = _first_of_runs(parents)
        first_children.append(np.append(first, len(codes)))
        of_children, moments = moments, np.zeros((len(first), 5))
        _add_runs(of_children, first_children[-1], moments)
        x, y, z = moments[:, 1:4].T  # `sum` over three takes four times as long
        scatters.append(moments[:, 4] - (x * x + y * y + z * z) / moments[:, 0])
        starts.append(starts[-1][first])
        codes = parents[first]
    scatter = np.concatenate(scatters)
    n_children = np.concatenate([np.diff(first) for first in first_children])
    divided = np.zeros(len(scatter), np.bool_)
    divided[_worst_first(scatter, n_children, size)] = True
    is_start = np.zeros(len(starts[0]), np.bool_)
    is_start[0] = True
    offset = 0
    for level, first in enumerate(first_children):
        of_divided = np.repeat(divided[offset : offset + len(first) - 1], np.diff(first))
        is_start[starts[level][of_divided]] = True
        offset += len(first) - 1
    return np.flatnonzero(is_start)


def _worst_first(
    scatter: Float64Array, n_children: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.int64]:
    """Cells to divide, by scatter, descending, until there are `size` cells.

    Only as many as that may take are sorted: all of them take ten times as long.
    """
    wanted = size
    while True:
        wanted = min(2 * wanted, len(scatter))
        least = np.partition(scatter, len(scatter) - wanted)[len(scatter) - wanted]
        some = np.flatnonzero(scatter >= least)
        order = some[np.argsort(-scatter[some], kind="stable")]
        n_cells = 1 + np.cumsum(n_children[order] - 1)
        if n_cells[-1] >= size or wanted == len(scatter):
            return order[: np.searchsorted(n_cells, size) + 1]


# Points are visited in runs of this many, with a box around each: a candidate gains nothing in a
# run whose points all have a nearer centre already.
_RUN = 16


def seed_indices(
    points: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float64],
    uniforms: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """Choose k of n weighted points by greedy k-means++.

    Each centre is the best, in remaining Σ w‖x − c‖², of several candidates drawn with
    probability proportional to their present share of it.

    Parameters
    ----------
    points : (n, 3) float32, n ≥ k, distinct.
    weights : (n,) float64, positive.
    uniforms : (k, trials) float64 in [0, 1): the random numbers.

    Returns
    -------
    (k,) int64, all different.

    Raises
    ------
    ValueError : fewer points than rows of `uniforms`.
    """
    n, k = len(points), len(uniforms)
    if n < k:
        raise ValueError(f"{k} centres need at least {k} points, received {n}")
    firsts = np.arange(0, n, _RUN)
    low, high = np.minimum.reduceat(points, firsts), np.maximum.reduceat(points, firsts)
    chosen = np.empty(k, np.int64)
    shares = (weights / weights.sum()).astype(np.float32)
    nearest, farthest = np.full(n, np.inf, np.float32), np.full(len(firsts), np.inf, np.float32)
    cumulated = np.empty(n, np.float64)
    _greedy(points, low, high, shares, uniforms, nearest, farthest, cumulated, chosen)
    return chosen


@njit(nogil=True, cache=True)
def _draw(cumulated, uniform, shares, distances):  # type: ignore[no-untyped-def]
    """Index drawn by `uniform`; never a point at distance zero while another is left."""
    wanted = uniform * cumulated[-1]
    i, end = 0, cumulated.size - 1
    while i < end:
        middle = (i + end) // 2
        if cumulated[middle] <= wanted:
            i = middle + 1
        else:
            end = middle
    while i > 0 and distances[i] * shares[i] == 0:
        i -= 1
    return i


@njit(nogil=True, cache=True, inline="always")
def _is_reached(x, y, z, low, high, run, farthest):  # type: ignore[no-untyped-def]
    """Whether a point may be nearer to a point of a run than what is its nearest centre now."""
    zero = np.float32(0)
    dx = max(low[run, 0] - x, x - high[run, 0], zero)
    dy = max(low[run, 1] - y, y - high[run, 1], zero)
    dz = max(low[run, 2] - z, z - high[run, 2], zero)
    return dx * dx + dy * dy + dz * dz < farthest[run]


@njit(nogil=True, cache=True)
def _greedy(  # type: ignore[no-untyped-def]
    points, low, high, shares, uniforms, nearest, farthest, cumulated, chosen
):
    k, trials = uniforms.shape
    n, n_runs = shares.size, farthest.size
    for step in range(k):
        total = 0.0
        for i in range(n):
            # The first is drawn by weight alone.
            total += np.float64(shares[i]) * (nearest[i] if step > 0 else 1.0)
            cumulated[i] = total
        most, best = -np.inf, 0
        for t in range(1 if step == 0 else trials):
            candidate = _draw(cumulated, uniforms[step, t], shares, nearest)
            x, y, z = points[candidate, 0], points[candidate, 1], points[candidate, 2]
            gain = 0.0
            for run in range(n_runs):
                if step > 0 and not _is_reached(x, y, z, low, high, run, farthest):
                    continue
                for i in range(run * _RUN, min(run * _RUN + _RUN, n)):
                    distance = (
                        (points[i, 0] - x) ** 2 + (points[i, 1] - y) ** 2 + (points[i, 2] - z) ** 2
                    )
                    if distance < nearest[i] and step > 0:
                        gain += shares[i] * np.float64(nearest[i] - distance)
            if gain > most:
                most, best = gain, candidate
        chosen[step] = best
        x, y, z = points[best, 0], points[best, 1], points[best, 2]
        for run in range(n_runs):
            if not _is_reached(x, y, z, low, high, run, farthest):
                continue
            farthest[run] = 0
            for i in range(run * _RUN, min(run * _RUN + _RUN, n)):
                distance = (
                    (points[i, 0] - x) ** 2 + (points[i, 1] - y) ** 2 + (points[i, 2] - z) ** 2
                )
                nearest[i] = min(nearest[i], distance)
                farthest[run] = max(farthest[run], nearest[i])
