"""Greedy k-means++ on rows in memory, and a local search that moves centres it placed badly."""

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
    rows: np.ndarray,
    weights: np.ndarray,
    k: int,
    random: np.random.Generator,
    known: np.ndarray | None = None,
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
    known : (n,) float64, squared distances to centres that there are beside the k, or None.

    Returns
    -------
    (m,) int64 : indices of the chosen rows, in the order of choice, no two rows equal; m < k
        only where there are fewer distinct rows of positive weight.
    """
    trials = 2 + int(np.log(k))
    chosen: list[int] = []
    nearest = known
    if nearest is None:
        total = float(weights.sum())
        first = _draw(np.cumsum(weights), random.random(1) * total)[0]
        chosen = [int(first)]
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


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz", "reassoc"})
def _square(rows, i, centres, j):  # type: ignore[no-untyped-def]
    total = rows.dtype.type(0)
    for p in range(rows.shape[1]):
        t = rows[i, p] - centres[j, p]
        total += t * t
    return np.float64(total)


@njit(nogil=True, cache=True)
def _find_two(rows, centres, i, owners, squares):  # type: ignore[no-untyped-def]
    """The two nearest centres of a row."""
    owners[0, i], owners[1, i] = 0, 0
    squares[0, i], squares[1, i] = np.inf, np.inf
    for j in range(centres.shape[0]):
        _insert(i, j, _square(rows, i, centres, j), owners, squares)


@njit(nogil=True, cache=True)
def _insert(i, j, square, owners, squares):  # type: ignore[no-untyped-def]
    if square < squares[0, i]:
        owners[1, i], squares[1, i] = owners[0, i], squares[0, i]
        owners[0, i], squares[0, i] = j, square
    elif square < squares[1, i]:
        owners[1, i], squares[1, i] = j, square


@njit(nogil=True, cache=True)
def _find_all(rows, centres, owners, squares):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        _find_two(rows, centres, i, owners, squares)


@njit(nogil=True, cache=True)
def _exchange(rows, weights, chosen, centres, owners, squares, losses, distances):  # type: ignore[no-untyped-def]
    """Put row `chosen` in the place of the centre that is missed least, if that is a gain."""
    losses[:] = 0.0
    gain = 0.0
    for i in range(rows.shape[0]):
        t = _square(rows, i, rows, chosen)
        distances[i] = t
        least = min(t, squares[0, i])
        gain += weights[i] * (squares[0, i] - least)
        losses[owners[0, i]] += weights[i] * (min(t, squares[1, i]) - least)
    place = losses.argmin()
    if not losses[place] < gain:
        return False
    centres[place] = rows[chosen]
    for i in range(rows.shape[0]):
        if owners[0, i] == place or owners[1, i] == place:
            _find_two(rows, centres, i, owners, squares)
        else:
            _insert(i, place, distances[i], owners, squares)
    return True


def exchange_centres(
    rows: np.ndarray,
    weights: np.ndarray,
    centres: np.ndarray,
    steps: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Centres after some steps of local search (Lattanzi and Sohler, ICML 2019).

    Each step draws a row in proportion to its weighted squared distance, and puts it in the place
    of the centre whose rows lose least by that, where the potential falls. Draws are stratified: a
    group that keeps a share of the potential of at least two in `steps` is tried, whatever the
    seed.

    Parameters
    ----------
    rows, weights, random : as in `plus_plus`.
    centres : (k, d) of the type of the rows.
    """
    centres = centres.copy()
    owners = np.zeros((2, len(rows)), np.int64)
    squares, distances = np.full((2, len(rows)), np.inf), np.empty(len(rows))
    losses = np.empty(len(centres))
    _find_all(rows, centres, owners, squares)
    for value in (random.permutation(steps) + random.random(steps)) / steps:
        cumulated = np.cumsum(weights * squares[0])
        if not cumulated[-1] > 0:
            break
        chosen = int(_draw(cumulated, np.array([value * cumulated[-1]]))[0])
        _exchange(rows, weights, chosen, centres, owners, squares, losses, distances)
    return centres
