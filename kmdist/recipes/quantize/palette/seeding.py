"""Initial centroids of a palette: k-means++ on a summary of the colours, refined on it.

Seeding on all colours costs more than the fit itself (747 ms against 173 ms for 191,267
colours and k = 256). A summary of 16 k cells, refined where colours are spread widest, ends at
the same inertia (mean of 6 seeds: +0.1 % on 12 photographs together, -0.1 % on each of four)
in 15 ms. A random sample of 20,000 pixels does as well but takes longer.
"""

import math
from heapq import heappop, heappush

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
    first = np.arange(len(codes))
    if len(codes) > _MAX_SINGLE_COLORS:
        first = np.flatnonzero(np.diff(codes >> np.uint32(3), prepend=~(codes[:1] >> np.uint32(3))))
    cumulated = np.zeros((len(first) + 1, 5))
    np.cumsum(_moments(points, weights, first), axis=0, out=cumulated[1:])
    starts = np.empty(size + 8, np.int64)
    n = _divide(codes[first], cumulated, size, starts)
    starts = first[np.sort(starts[:n])]
    moments = _moments(points, weights, starts)
    means = (moments[:, 1:4] / moments[:, :1]).astype(np.float32)
    return codes[starts], means, moments[:, 0]


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
def _scatter(cumulated, start, end):  # type: ignore[no-untyped-def]
    """Σ w‖x − mean‖² of a run of points."""
    squares = 0.0
    for axis in range(1, 4):
        squares += (cumulated[end, axis] - cumulated[start, axis]) ** 2
    return (
        cumulated[end, 4]
        - cumulated[start, 4]
        - squares / (cumulated[end, 0] - cumulated[start, 0])
    )


@njit(nogil=True, cache=True)
def _divide(codes, cumulated, size, starts):  # type: ignore[no-untyped-def]
    """Write the first of the points of each cell, in no order, and return how many there are."""
    n, waiting = 0, [(-_scatter(cumulated, 0, codes.size), 0, codes.size, 24)]
    while len(waiting) > 0 and n + len(waiting) < size:
        _, start, end, bits = heappop(waiting)
        bits -= 3
        while start < end:
            after, above = start + 1, end
            child = np.int64(codes[start]) >> bits
            while after < above:
                middle = (after + above) // 2
                if np.int64(codes[middle]) >> bits == child:
                    after = middle + 1
                else:
                    above = middle
            if after - start > 1 and bits > 0:
                heappush(waiting, (-_scatter(cumulated, start, after), start, after, bits))
            else:
                starts[n] = start
                n += 1
            start = after
    for _, start, _, _ in waiting:
        starts[n] = start
        n += 1
    return n


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
    n_runs = -(-n // _RUN)
    columns = np.empty((3, n_runs * _RUN), np.float32)
    columns[:, :n], columns[:, n:] = points.T, points[-1:].T
    shares = np.zeros(n_runs * _RUN, np.float32)
    shares[:n] = weights / weights.sum()
    of_runs = columns.reshape(3, n_runs, _RUN)
    low, high = of_runs.min(axis=2), of_runs.max(axis=2)
    chosen = np.empty(k, np.int64)
    # Before the first is chosen, each counts by its weight alone.
    nearest, farthest = np.ones_like(shares), np.full(n_runs, np.inf, np.float32)
    masses = shares.reshape(n_runs, _RUN).sum(axis=1, dtype=np.float64)
    reached = np.empty(n_runs, np.int32)
    lanes = np.empty(_RUN, np.float32)
    _greedy(columns, low, high, shares, uniforms, nearest, farthest, masses, reached, lanes, chosen)
    return chosen


@njit(nogil=True, cache=True)
def _draw(masses, uniform, shares, nearest):  # type: ignore[no-untyped-def]
    """Point drawn by `uniform`; never one at distance zero while another is left."""
    total = 0.0
    for run in range(masses.size):
        total += masses[run]
    left, drawn = uniform * total, 0
    for run in range(masses.size):
        if masses[run] > 0:
            drawn = run
            if left < masses[run]:
                break
            left -= masses[run]
    first, place = drawn * _RUN, drawn * _RUN
    for i in range(first, first + _RUN):
        mass = np.float64(shares[i]) * nearest[i]
        if mass > 0:
            place = i
            if left < mass:
                break
            left -= mass
    return place


@njit(nogil=True, cache=True, inline="always")
def _reach(x, y, z, low, high, farthest, reached):  # type: ignore[no-untyped-def]
    """Mark the runs in which a point may be nearer than what is the nearest centre now."""
    zero = np.float32(0)
    for run in range(farthest.size):
        dx = max(max(low[0, run] - x, x - high[0, run]), zero)
        dy = max(max(low[1, run] - y, y - high[1, run]), zero)
        dz = max(max(low[2, run] - z, z - high[2, run]), zero)
        reached[run] = dx * dx + dy * dy + dz * dz < farthest[run]


@njit(nogil=True, cache=True)
def _greedy(  # type: ignore[no-untyped-def]
    points, low, high, shares, uniforms, nearest, farthest, masses, reached, lanes, chosen
):
    k, trials = uniforms.shape
    zero = np.float32(0)
    for step in range(k):
        most, best = -np.inf, 0
        for t in range(1 if step == 0 else trials):
            candidate = _draw(masses, uniforms[step, t], shares, nearest)
            if step == 0:
                best = candidate
                break
            x, y, z = points[0, candidate], points[1, candidate], points[2, candidate]
            _reach(x, y, z, low, high, farthest, reached)
            lanes[:] = 0
            for run in range(farthest.size):
                if reached[run]:
                    for lane in range(_RUN):
                        i = run * _RUN + lane
                        dx, dy, dz = points[0, i] - x, points[1, i] - y, points[2, i] - z
                        gain = nearest[i] - (dx * dx + dy * dy + dz * dz)
                        lanes[lane] += shares[i] * (gain if gain > zero else zero)
            gained = 0.0
            for lane in range(_RUN):
                gained += lanes[lane]
            if gained > most:
                most, best = gained, candidate
        chosen[step] = best
        x, y, z = points[0, best], points[1, best], points[2, best]
        _reach(x, y, z, low, high, farthest, reached)
        for run in range(farthest.size):
            if reached[run]:
                far, mass = zero, 0.0
                for i in range(run * _RUN, run * _RUN + _RUN):
                    dx, dy, dz = points[0, i] - x, points[1, i] - y, points[2, i] - z
                    distance = dx * dx + dy * dy + dz * dz
                    if step == 0 or distance < nearest[i]:
                        nearest[i] = distance
                    far = max(far, nearest[i])
                    mass += np.float64(shares[i]) * nearest[i]
                farthest[run], masses[run] = far, mass
