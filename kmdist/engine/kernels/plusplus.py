"""Greedy k-means++ on rows in memory."""

import numpy as np
from numba import njit

_TOGETHER = 3
"""Candidates that are tried in one reading of the rows."""


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _closer(rows, candidates, nearest, weights, out):  # type: ignore[no-untyped-def]
    """Squared distances after adding each of three centres, and their weighted sums."""
    first, second, third = 0.0, 0.0, 0.0
    zero = rows.dtype.type(0)
    for i in range(rows.shape[0]):
        a, b, c = zero, zero, zero
        for p in range(rows.shape[1]):
            x = rows[i, p]
            t, u, v = x - candidates[0, p], x - candidates[1, p], x - candidates[2, p]
            a += t * t
            b += u * u
            c += v * v
        known, weight = nearest[i], weights[i]
        out[0, i] = min(np.float64(a), known)
        out[1, i] = min(np.float64(b), known)
        out[2, i] = min(np.float64(c), known)
        first += weight * out[0, i]
        second += weight * out[1, i]
        third += weight * out[2, i]
    return first, second, third


def _try(
    rows: np.ndarray, chosen: np.ndarray, nearest: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sum and squared distances after adding each of some rows as a centre."""
    m = len(chosen)
    padded = np.resize(chosen, -(-m // _TOGETHER) * _TOGETHER)
    sums, distances = np.empty(len(padded)), np.empty((len(padded), len(rows)))
    for first in range(0, len(padded), _TOGETHER):
        here = slice(first, first + _TOGETHER)
        sums[here] = _closer(rows, rows[padded[here]], nearest, weights, distances[here])
    return sums[:m], distances


def plus_plus(
    rows: np.ndarray, weights: np.ndarray, k: int, random: np.random.Generator
) -> np.ndarray:
    """Choose k rows as centres by greedy k-means++.

    Of ``2 + ⌊ln k⌋`` candidates, drawn in proportion to their weighted squared distances, the
    one that lowers the potential most is taken (Arthur and Vassilvitskii, SODA 2007; the greedy
    variant is theirs too).

    Parameters
    ----------
    rows : (n, d) float32 or float64, centred.
    weights : (n,) float64; rows of weight zero are never chosen.
    k : centres wanted.
    random : where numbers come from.

    Returns
    -------
    (m,) int64 : indices of the chosen rows, in the order of choice, no two rows equal; m < k
        only where there are fewer distinct rows of positive weight.
    """
    trials = 2 + int(np.log(k))
    total = float(weights.sum())
    first = _draw(np.cumsum(weights), random.random(1) * total)[0]
    chosen = [int(first)]
    nearest = np.full(len(rows), np.inf)
    nearest = _try(rows, np.array([first]), np.full(len(rows), np.inf), weights)[1][0]
    while len(chosen) < k:
        cumulated = np.cumsum(weights * nearest)
        if not cumulated[-1] > 0:
            break
        drawn = np.unique(_draw(cumulated, random.random(trials) * cumulated[-1]))
        sums, distances = _try(rows, drawn, nearest, weights)
        best = int(sums.argmin())
        chosen.append(int(drawn[best]))
        nearest = distances[best]
    return np.array(chosen, dtype=np.int64)


def _draw(cumulated: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices whose share of the total holds the values; never one of share zero."""
    index = np.searchsorted(cumulated, values, side="right")
    last = int(np.searchsorted(cumulated, cumulated[-1], side="left"))
    return np.asarray(np.minimum(index, last))
