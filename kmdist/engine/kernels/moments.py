"""One pass of plain statistics over a block: extent, mean, variance, and whether it is finite."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from kmdist.engine.kernels.assign import _NO_WEIGHTS, as_kernel_rows, kernel_chunks


@dataclass(frozen=True)
class Moments:
    """Statistics of the features of some rows; merge with `merge_moments`.

    Parameters
    ----------
    lengths : rows of each block, in block order.
    weight : Σ w, float64.
    largest_weight : largest weight; 1 without weights.
    positive : rows whose weight is not zero.
    mean, m2 : (d,) float64, weighted mean and Σ w(x − mean)².
    low, high : (d,) float64, extent over all rows.
    bad : (block within `lengths`, row in it, column, value) of the first value that is not
        finite, or None.
    bad_weight : (block, row, value) of the first weight that is negative or not finite, or None.
    """

    lengths: tuple[int, ...]
    weight: float
    largest_weight: float
    positive: int
    mean: np.ndarray
    m2: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bad: tuple[int, int, int, float] | None = None
    bad_weight: tuple[int, int, float] | None = None

    @property
    def n_rows(self) -> int:
        """Rows in all blocks."""
        return sum(self.lengths)

    @property
    def variance(self) -> np.ndarray:
        """(d,) float64, weighted variance of each feature."""
        return self.m2 / self.weight if self.weight > 0 else np.zeros_like(self.m2)


@njit(nogil=True, cache=True)
def _accumulate(rows, weights, pivot, first, second, low, high):  # type: ignore[no-untyped-def]
    """Sums of w(x − pivot) and w(x − pivot)², extent; the first row that is not finite or −1."""
    for i in range(rows.shape[0]):
        weight = weights[i] if weights.size else 1.0
        check = 0.0
        for p in range(rows.shape[1]):
            x = np.float64(rows[i, p])
            t = x - pivot[p]
            check += x - x
            first[p] += weight * t
            second[p] += weight * t * t
            low[p] = x if x < low[p] else low[p]
            high[p] = x if x > high[p] else high[p]
        if check != 0.0:
            return i
    return -1


def moments(rows: np.ndarray, weights: np.ndarray | None = None) -> Moments:
    """Statistics of one block.

    Parameters
    ----------
    rows : (n, d) real numbers.
    weights : (n,) float64 or None (all one).

    Returns
    -------
    Moments

    Raises
    ------
    ValueError : rows are not two-dimensional, or the number of weights differs.
    """
    if rows.ndim != 2:
        raise ValueError(f"expected rows of shape (n, d), received an array of shape {rows.shape}")
    n, d = rows.shape
    low, high = np.full(d, np.inf), np.full(d, -np.inf)
    bad_weight = _first_bad_weight(weights, n)
    if n == 0 or bad_weight:
        zeros = np.zeros(d)
        return Moments((n,), 0.0, 0.0, 0, zeros, zeros, low, high, None, bad_weight)
    pivot = rows[0].astype(np.float64)
    if not np.isfinite(pivot).all():
        pivot = np.zeros(d)
    first, second = np.zeros(d), np.zeros(d)
    bad = None
    for start, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        weight = _NO_WEIGHTS if weights is None else weights[start : start + len(part)]
        row = _accumulate(part, weight, pivot, first, second, low, high)
        if row >= 0:
            column = int(np.flatnonzero(~np.isfinite(part[row]))[0])
            bad = (0, start + int(row), column, float(part[row, column]))
            break
    total = float(n) if weights is None else float(weights.sum())
    with np.errstate(over="ignore", invalid="ignore"):  # of values that are refused afterwards
        offset = first / total if total > 0 else np.zeros(d)
        mean, m2 = pivot + offset, np.maximum(second - total * offset * offset, 0.0)
    return Moments(
        lengths=(n,),
        weight=total,
        largest_weight=1.0 if weights is None else float(weights.max()),
        positive=n if weights is None else int(np.count_nonzero(weights)),
        mean=mean,
        m2=m2,
        low=low,
        high=high,
        bad=bad,
    )


def _first_bad_weight(weights: np.ndarray | None, n: int) -> tuple[int, int, float] | None:
    if weights is None:
        return None
    if weights.shape != (n,):
        raise ValueError(f"{n} rows but weights of shape {weights.shape}")
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    return (0, int(wrong[0]), float(weights[wrong[0]])) if wrong.size else None


def merge_moments(parts: list[Moments]) -> Moments:
    """Join the statistics of neighbouring blocks (Chan, Golub, LeVeque 1983)."""
    merged = parts[0]
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts[1:]:
            merged = _merge_two(merged, part)
    return merged


def _merge_two(a: Moments, b: Moments) -> Moments:
    weight = a.weight + b.weight
    share = b.weight / weight if weight > 0 else 0.0
    delta = b.mean - a.mean
    blocks = len(a.lengths)
    bad, bad_weight = a.bad, a.bad_weight
    if bad is None and b.bad is not None:
        bad = (b.bad[0] + blocks, *b.bad[1:])
    if bad_weight is None and b.bad_weight is not None:
        bad_weight = (b.bad_weight[0] + blocks, *b.bad_weight[1:])
    return Moments(
        lengths=a.lengths + b.lengths,
        weight=weight,
        largest_weight=max(a.largest_weight, b.largest_weight),
        positive=a.positive + b.positive,
        mean=a.mean + delta * share,
        m2=a.m2 + b.m2 + delta * delta * (a.weight * share),
        low=np.minimum(a.low, b.low),
        high=np.maximum(a.high, b.high),
        bad=bad,
        bad_weight=bad_weight,
    )
