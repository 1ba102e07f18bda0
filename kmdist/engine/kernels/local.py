"""Lloyd's algorithm on rows in memory of which few change: only what moves is looked at again.

A row whose centre has stayed can only go to one that has moved; so can one whose centre has come
nearer (Kaukoranta, Fränti and Nevalainen, *A fast exact GLA based on code vector activity
detection*, 2000). Of these only such count as are nearer to its own centre than twice the row is
(Hamerly, SDM 2010), and a distance is given up once it exceeds the least. All in float64 and in one
order: the same bits on every processor.
"""

import numpy as np
from numba import njit

from kmdist.engine.kernels import kernel

_EIGHT = 8


@njit(nogil=True, cache=True, inline="always")
def _square(one, i, other, j, limit):  # type: ignore[no-untyped-def]
    """‖x − y‖², or a part of it that is not below a limit."""
    d, total, p = one.shape[1], 0.0, 0
    while p + _EIGHT <= d:
        a, b = one[i, p] - other[j, p], one[i, p + 1] - other[j, p + 1]
        c, e = one[i, p + 2] - other[j, p + 2], one[i, p + 3] - other[j, p + 3]
        f, g = one[i, p + 4] - other[j, p + 4], one[i, p + 5] - other[j, p + 5]
        h, k = one[i, p + 6] - other[j, p + 6], one[i, p + 7] - other[j, p + 7]
        total += ((a * a + b * b) + (c * c + e * e)) + ((f * f + g * g) + (h * h + k * k))
        if not total < limit:
            return total
        p += _EIGHT
    while p < d:
        a = one[i, p] - other[j, p]
        total += a * a
        p += 1
    return total


@njit(nogil=True, cache=True)
def _list_neighbours(gaps, moved, widest, order, lengths):  # type: ignore[no-untyped-def]
    """The centres that rows of each can go to, nearest first; see `settle` for the arrays."""
    k = gaps.shape[0]
    for j in range(k):
        length, reach = 0, 4.0 * widest[j]
        for b in range(k):
            if b != j and (moved[j] or moved[b]) and gaps[j, b] < reach:
                at = length
                while at > 0 and gaps[j, order[j, at - 1]] > gaps[j, b]:
                    order[j, at] = order[j, at - 1]
                    at -= 1
                order[j, at] = b
                length += 1
        lengths[j] = length


@njit(nogil=True, cache=True)
def _move_to_means(centres, moved, still, sums, masses, counts):  # type: ignore[no-untyped-def]
    """Move centres that are farther from the means of their rows than they may; whether any was."""
    any_moved = False
    for j in range(centres.shape[0]):
        moved[j] = False
        if counts[j] == 0 or not masses[j] > 0.0:
            continue
        step = 0.0
        for p in range(centres.shape[1]):
            t = sums[j, p] / masses[j] - centres[j, p]
            step += t * t
        if step > still:
            moved[j], any_moved = True, True
            for p in range(centres.shape[1]):
                centres[j, p] = sums[j, p] / masses[j]
    return any_moved


@kernel()
def settle(  # type: ignore[no-untyped-def]
    points, weights, centres, labels, squares, moved, still, most, sums, masses, counts, scratch
):
    """Iterate until no centre moves by more than a distance; labels and squares end up right.

    Parameters
    ----------
    points, weights : (n, d) and (n,) float64.
    centres : (k, d) float64; changed.
    labels : (n,) int32; −1 where a row has no centre yet. squares : (n,) float64, of distances to
        them; infinite there. Both are changed.
    moved : (k,) bool, which centres are not those that labels and squares are of.
    still : square of the distance below which a centre stays where it is.
    most : iterations.
    sums, masses, counts : (k, d), (k,) float64 and (k,) int64 of rows by label; changed.
    scratch : gaps (k, k), order (k, k) int64, lengths (k,) int64, widest (k,), further (n,) bool.

    Returns
    -------
    Iterations done.
    """
    n, d = points.shape
    k = centres.shape[0]
    gaps, order, lengths, widest, further = scratch
    for j in range(k):
        for i in range(k):
            gaps[j, i] = _square(centres, j, centres, i, np.inf)
    turn = 0
    while True:
        for j in range(k):
            widest[j] = 0.0 if moved[j] or turn == 0 else widest[j]
        for i in range(n):
            j = labels[i]
            if j < 0 or not (moved[j] or turn == 0):
                continue
            if moved[j]:
                own = _square(points, i, centres, j, np.inf)
                further[i] = own > squares[i]
                squares[i] = own
            widest[j] = max(widest[j], squares[i])
        _list_neighbours(gaps, moved, widest, order, lengths)
        for i in range(n):
            old = labels[i]
            if old >= 0 and lengths[old] == 0:
                continue
            label, least = old, squares[i]
            if old < 0:
                for b in range(k):
                    t = _square(points, i, centres, b, least)
                    if t < least:
                        least, label = t, b
            else:
                reach = 4.0 * least
                for at in range(lengths[old]):
                    b = order[old, at]
                    if not gaps[old, b] < reach:
                        break
                    if moved[b] or (moved[old] and further[i]):
                        t = _square(points, i, centres, b, least)
                        if t < least:
                            least, label = t, b
            if label != old:
                weight = weights[i]
                if old >= 0:
                    masses[old] -= weight
                    counts[old] -= 1
                    for p in range(d):
                        sums[old, p] -= weight * points[i, p]
                masses[label] += weight
                counts[label] += 1
                for p in range(d):
                    sums[label, p] += weight * points[i, p]
                labels[i], squares[i] = label, least
                widest[label] = max(widest[label], least)
        if turn == most:
            return turn
        turn += 1
        if not _move_to_means(centres, moved, still, sums, masses, counts):
            return turn
        for j in range(k):
            if moved[j]:
                for b in range(k):
                    gaps[j, b] = _square(centres, j, centres, b, np.inf)
                    gaps[b, j] = gaps[j, b]


@kernel()
def find_losses(points, weights, centres, labels, squares, gaps, order, losses):  # type: ignore[no-untyped-def]
    """Add up by centre what its rows would lose without it.

    Parameters
    ----------
    points, weights, centres, labels, squares : as of `settle`, of labels that are right.
    gaps, order : (k, k), distances between centres, and the others of each by them, itself first.
    losses : (k,) float64, zeros; changed.
    """
    for i in range(points.shape[0]):
        own, least = labels[i], np.inf
        distance = np.sqrt(squares[i])
        for at in range(1, centres.shape[0]):
            j = order[own, at]
            nearest = gaps[own, j] - distance
            if nearest > 0.0 and nearest * nearest >= least:
                break
            t = _square(points, i, centres, j, least)
            least = min(t, least)
        losses[own] += weights[i] * (least - squares[i])
