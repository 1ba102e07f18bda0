"""Greedy k-means++ on rows in memory."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _closer(rows, candidate, nearest, weights, out):  # type: ignore[no-untyped-def]
    """Squared distances after adding a centre, and their weighted sum."""
    total = 0.0
    for i in range(rows.shape[0]):
        s = rows.dtype.type(0)
        for p in range(rows.shape[1]):
            t = rows[i, p] - candidate[p]
            s += t * t
        least = min(np.float64(s), nearest[i])
        out[i] = least
        total += weights[i] * least
    return total


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
    _closer(rows, rows[first], nearest, weights, nearest)
    trial, best = np.empty(len(rows)), np.empty(len(rows))
    while len(chosen) < k:
        cumulated = np.cumsum(weights * nearest)
        if not cumulated[-1] > 0:
            break
        potential = np.inf
        for candidate in np.unique(_draw(cumulated, random.random(trials) * cumulated[-1])):
            value = _closer(rows, rows[candidate], nearest, weights, trial)
            if value < potential:
                potential, index = value, int(candidate)
                trial, best = best, trial
        chosen.append(index)
        nearest, best = best, nearest
    return np.array(chosen, dtype=np.int64)


def _draw(cumulated: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices whose share of the total holds the values; never one of share zero."""
    index = np.searchsorted(cumulated, values, side="right")
    last = int(np.searchsorted(cumulated, cumulated[-1], side="left"))
    return np.asarray(np.minimum(index, last))
