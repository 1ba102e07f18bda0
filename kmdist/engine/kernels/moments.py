"""One pass of plain statistics over a block: extent, digits, mean, variance, what is not finite.

Rows of weight zero do not count: they are checked, and belong to the reach of the rows alone.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from kmdist.engine.kernels.chunks import NO_WEIGHTS, as_kernel_rows, kernel_chunks
from kmdist.engine.kernels.grid import Digits, digits_of, float_bits


@dataclass(frozen=True)
class Moments:
    """Statistics of the features of some rows; merge with `merge_moments`.

    Parameters
    ----------
    lengths : rows of each block, in block order.
    counted : rows of each block whose weight is not zero.
    weight : Σ w, float64.
    mean, m2 : (d,) float64, weighted mean and Σ w(x − mean)².
    low, high : (d,) float64, extent over the rows that count.
    reach : (2, d) float64, least and largest value over all rows.
    digits : of the rows that count.
    weight_digits : of the weights, or None without weights.
    bad : (block within `lengths`, row in it, column, value) of the first value that is not
        finite, or None.
    bad_weight : (block, row, value) of the first weight that is negative or not finite, or None.
    """

    lengths: tuple[int, ...]
    counted: tuple[int, ...]
    weight: float
    mean: np.ndarray
    m2: np.ndarray
    low: np.ndarray
    high: np.ndarray
    reach: np.ndarray
    digits: Digits
    weight_digits: Digits | None = None
    bad: tuple[int, int, int, float] | None = None
    bad_weight: tuple[int, int, float] | None = None

    @property
    def n_rows(self) -> int:
        """Rows in all blocks."""
        return sum(self.lengths)

    @property
    def n_counted(self) -> int:
        """Rows whose weight is not zero."""
        return sum(self.counted)

    @property
    def variance(self) -> np.ndarray:
        """(d,) float64, weighted variance of each feature."""
        return self.m2 / self.weight if self.weight > 0 else np.zeros_like(self.m2)


@njit(nogil=True, cache=True, inline="always")
def _extend(rows, four, extent, least, bits):  # type: ignore[no-untyped-def]
    """Extent and digits of rows that count, four at a time to save stores."""
    low, high = extent
    a, b, c, e = four
    for p in range(rows.shape[1]):
        x, y, z, w = rows[a, p], rows[b, p], rows[c, p], rows[e, p]
        less, more = (x, y) if x < y else (y, x)
        lesser, greater = (z, w) if z < w else (w, z)
        less = less if less < lesser else lesser
        more = more if more > greater else greater
        low[p] = less if less < low[p] else low[p]
        high[p] = more if more > high[p] else high[p]
    for p in range(least.size):
        smallest = least[p]
        x, y, z, w = abs(rows[a, p]), abs(rows[b, p]), abs(rows[c, p]), abs(rows[e, p])
        smallest = least[p]
        x, y = x if x > 0 else smallest, y if y > 0 else smallest
        z, w = z if z > 0 else smallest, w if w > 0 else smallest
        x, z = x if x < y else y, z if z < w else w
        x = x if x < z else z
        least[p] = x if x < smallest else smallest
    for p in range(bits.size):
        bits[p] |= (
            float_bits(np.float64(rows[a, p]))  # type: ignore[call-arg]
            | float_bits(np.float64(rows[b, p]))  # type: ignore[call-arg]
            | float_bits(np.float64(rows[c, p]))  # type: ignore[call-arg]
            | float_bits(np.float64(rows[e, p]))  # type: ignore[call-arg]
        )


@njit(nogil=True, cache=True)
def _accumulate(rows, weights, pivot, sums, extent, least, bits):  # type: ignore[no-untyped-def]
    """Sums of w(x − pivot) and w(x − pivot)², extent and digits of rows that count.

    Extent and least size are of the type of the rows, whose vectors hold more of them.
    """
    first, second = sums
    four, held = np.zeros(4, np.int64), 0
    for i in range(rows.shape[0] + 1):
        if i < rows.shape[0]:
            weight = weights[i] if weights.size else 1.0
            if weight == 0.0:
                continue
            for p in range(rows.shape[1]):
                t = np.float64(rows[i, p]) - pivot[p]
                first[p] += weight * t
                second[p] += weight * t * t
            four[held] = i
            held += 1
        elif held > 0:
            four[held:] = four[0]
            held = 4
        if held == 4:  # in one place, which is compiled once
            _extend(rows, four, extent, least, bits)
            held = 0


_LOOK_ROWS = 4096


class _Scan:
    """What is found of the rows of a block, chunk by chunk."""

    def __init__(self, pivot: np.ndarray, dtype: np.dtype) -> None:
        d = len(pivot)
        self.pivot, self.sums = pivot, np.zeros((2, d))
        self.floats = dtype.kind == "f"
        ends = (np.inf, -np.inf) if self.floats else (np.iinfo(dtype).max, 0)
        self.extent = np.array([np.full(d, ends[0], dtype), np.full(d, ends[1], dtype)])
        self.reach = np.array([np.full(d, np.inf), np.full(d, -np.inf)])
        self.least = np.full(d if self.floats else 0, np.inf, dtype)
        self.bits = np.zeros(d if dtype == np.float64 else 0, np.int64)

    def add(self, part: np.ndarray, weights: np.ndarray | None) -> tuple[int, int] | None:
        """Row and column of the first value that is not finite, or None."""
        given = NO_WEIGHTS if weights is None else weights
        _accumulate(
            part, given, self.pivot, tuple(self.sums), tuple(self.extent), self.least, self.bits
        )
        finite = not self.floats or bool(np.isfinite(self.sums[0]).all())
        if weights is not None and not weights.all():
            others = part[weights == 0]
            finite = finite and bool(np.isfinite(others).all())
            self.reach[0] = np.minimum(self.reach[0], others.min(axis=0))
            self.reach[1] = np.maximum(self.reach[1], others.max(axis=0))
        return None if finite else _first_bad(part)

    def digits(self) -> Digits:
        """Of the rows that count; whole numbers of other types are known to be that."""
        extent = self.extent.astype(np.float64)
        most = np.where(extent[0] <= extent[1], np.abs(extent).max(axis=0), 0.0)
        if self.bits.size:
            return Digits(most, self.least.astype(np.float64), self.bits)
        # float32 has 24 digits, of which the first is not among the bits.
        bits = np.full(len(most), 1 << 29 if self.floats else 0, np.int64)
        least = self.least.astype(np.float64) if self.floats else np.ones(len(most))
        return Digits(most, least, bits)


def _first_bad(rows: np.ndarray) -> tuple[int, int] | None:
    """Row and column of the first value that is not finite."""
    for start in range(0, len(rows), _LOOK_ROWS):
        bad = ~np.isfinite(rows[start : start + _LOOK_ROWS])
        if bad.any():
            row = int(bad.any(axis=1).argmax())
            return start + row, int(bad[row].argmax())
    return None


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
    bad_weight = _first_bad_weight(weights, n)
    counting = np.ones(n, bool) if weights is None or bad_weight else weights > 0
    n_counted = int(np.count_nonzero(counting))
    pivot = rows[counting.argmax()].astype(np.float64) if n_counted else np.zeros(d)
    if not np.isfinite(pivot).all():
        pivot = np.zeros(d)
    scan, bad = _Scan(pivot, as_kernel_rows(rows[:0]).dtype), None
    for start, chunk in kernel_chunks(rows[:0] if bad_weight else rows):
        part = as_kernel_rows(chunk)
        place = scan.add(part, None if weights is None else weights[start : start + len(part)])
        if place is not None:
            bad = (0, start + place[0], place[1], float(part[place]))
            break
    total = float(n) if weights is None else float(weights[counting].sum())
    with np.errstate(over="ignore", invalid="ignore"):  # of values that are refused afterwards
        offset = scan.sums[0] / total if total > 0 else np.zeros(d)
        mean, m2 = pivot + offset, np.maximum(scan.sums[1] - total * offset * offset, 0.0)
    low, high = scan.extent.astype(np.float64)
    if not n_counted:
        low, high = np.full(d, np.inf), np.full(d, -np.inf)
    return Moments(
        lengths=(n,),
        counted=(n_counted,),
        weight=total,
        mean=mean,
        m2=m2,
        low=low,
        high=high,
        reach=np.stack([np.minimum(low, scan.reach[0]), np.maximum(high, scan.reach[1])]),
        digits=scan.digits(),
        weight_digits=None if weights is None or bad_weight else digits_of(weights),
        bad=bad,
        bad_weight=bad_weight,
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
    weighted = [part.weight_digits for part in (a, b) if part.weight_digits is not None]
    return Moments(
        lengths=a.lengths + b.lengths,
        counted=a.counted + b.counted,
        weight=weight,
        mean=a.mean + delta * share,
        m2=a.m2 + b.m2 + delta * delta * (a.weight * share),
        low=np.minimum(a.low, b.low),
        high=np.maximum(a.high, b.high),
        reach=np.stack([np.minimum(a.reach[0], b.reach[0]), np.maximum(a.reach[1], b.reach[1])]),
        digits=a.digits.merge(b.digits),
        weight_digits=weighted[0].merge(weighted[-1]) if weighted else None,
        bad=bad,
        bad_weight=bad_weight,
    )
