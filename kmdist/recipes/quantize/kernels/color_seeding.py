"""Greedy k-means++ on weighted colours (Arthur and Vassilvitskii, 2007)."""

import numpy as np
import numpy.typing as npt
from numba import njit

# Partial sums are kept in this many lanes, in float32: a potential only has to rank a few
# candidates, and a fixed number of lanes gives the same sum on every processor.
_LANES = 16


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
    padded = (n + _LANES - 1) // _LANES * _LANES
    columns = np.zeros((3, padded), np.float32)
    columns[:, :n] = points.T
    shares = np.zeros(padded, np.float32)
    shares[:n] = weights / weights.sum()
    chosen = np.empty(k, np.int64)
    nearest = np.ones(padded, np.float32)
    cumulated = np.empty(n, np.float64)
    _greedy(columns, shares, uniforms, nearest, cumulated, np.empty(_LANES, np.float32), chosen)
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


@njit(nogil=True, cache=True)
def _greedy(  # type: ignore[no-untyped-def]
    points, shares, uniforms, nearest, cumulated, lanes, chosen
):
    k, trials = uniforms.shape
    n, padded = cumulated.size, shares.size
    for step in range(k):
        total = 0.0
        for i in range(n):
            total += np.float64(shares[i]) * nearest[i]
            cumulated[i] = total
        best_potential = np.inf
        best = 0
        for t in range(1 if step == 0 else trials):
            candidate = _draw(cumulated, uniforms[step, t], shares, nearest)
            cx, cy, cz = points[0, candidate], points[1, candidate], points[2, candidate]
            lanes[:] = 0
            for start in range(0, padded, _LANES):
                for lane in range(_LANES):
                    i = start + lane
                    x, y, z = points[0, i] - cx, points[1, i] - cy, points[2, i] - cz
                    distance = x * x + y * y + z * z
                    kept = nearest[i]
                    lanes[lane] += shares[i] * (distance if distance < kept else kept)
            potential = 0.0
            for lane in range(_LANES):
                potential += lanes[lane]
            if potential < best_potential:
                best_potential, best = potential, candidate
        chosen[step] = best
        cx, cy, cz = points[0, best], points[1, best], points[2, best]
        for i in range(padded):
            x, y, z = points[0, i] - cx, points[1, i] - cy, points[2, i] - cz
            distance = x * x + y * y + z * z
            if step == 0 or distance < nearest[i]:
                nearest[i] = distance
