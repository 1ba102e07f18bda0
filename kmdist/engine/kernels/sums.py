"""Exact sums: of rows and weights per cluster, and of numbers that are not negative.

Rows may come and go in any order. A number is split into pieces, each a multiple of its level's
grid and so small that float64 holds any sum of as many pieces as there are rows without rounding
(the pre-rounding of Demmel and Nguyen, *Fast reproducible floating-point summation*, 2013, and the
bins of Ahrens, Demmel and Nguyen, *Algorithms for efficient reproducible floating point summation*,
2020). There are as many levels as the digits of the data need for no digit to be lost: one for
bytes and other small whole numbers, two or three for most measurements, some fifty for the whole
range of float64. A sum is then that of real arithmetic, whatever other rows, columns and clusters
hold, and a row can be taken from it again without a trace.

Of numbers that are not negative, over the whole range of float64, a sum is kept as whole multiples
of 2^(32 i − 1088) for all i (the small superaccumulator of Neal, *Fast exact summation using small
and large superaccumulators*, 2015), so that any order and any partition give the same bits.
"""

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from kmdist.engine.kernels import NO_WEIGHTS, kernel

_MANTISSA = 52
_LEAST_EXPONENT = -1074
_FRACTION = (1 << _MANTISSA) - 1
_ROWS_AT_ONCE = 1 << 16
"""Of which NumPy makes copies."""


@intrinsic
def float_bits(context, value):  # type: ignore[no-untyped-def]
    """The bits of a float64 as int64."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), generate


class Digits(NamedTuple):
    """Which binary digits the numbers of some columns have.

    Parameters
    ----------
    most, least : (d,) float64, the largest |x| and the least that is not zero; zero and infinity
        where there are none.
    bits : (d,) int64, all bits that are set in any of them.
    """

    most: np.ndarray
    least: np.ndarray
    bits: np.ndarray

    @property
    def quanta(self) -> np.ndarray:
        """(d,) exponents of powers of two that all numbers of a column are multiples of."""
        trailing = [_trailing_zeros(int(bits) & _FRACTION) for bits in self.bits]
        return np.maximum(_exponents(self.least) - _MANTISSA + trailing, _LEAST_EXPONENT)

    def merge(self, other: "Digits") -> "Digits":
        """Of the numbers of both."""
        return Digits(
            np.maximum(self.most, other.most),
            np.minimum(self.least, other.least),
            self.bits | other.bits,
        )


def no_digits(d: int) -> Digits:
    """Of no numbers in d columns."""
    return Digits(np.zeros(d), np.full(d, np.inf), np.zeros(d, np.int64))


def digits_of(values: np.ndarray) -> Digits:
    """Of float64 numbers (n,), as one column."""
    found = values[values != 0]
    if not found.size:
        return no_digits(1)
    sizes = np.abs(found)
    bits = np.bitwise_or.reduce(found.view(np.int64))
    return Digits(sizes.max(keepdims=True), sizes.min(keepdims=True), np.array([bits]))


def _trailing_zeros(bits: int) -> int:
    return (bits & -bits).bit_length() - 1 if bits else _MANTISSA


def _exponents(values: np.ndarray) -> np.ndarray:
    """e with 2^e ≤ value; 0 for zero and infinity."""
    usable = np.isfinite(values) & (values > 0)
    exponents: np.ndarray = np.frexp(np.where(usable, values, 1.0))[1].astype(np.int64) - 1
    return exponents


class Grid(NamedTuple):
    """How rows and weights are split into pieces.

    Parameters
    ----------
    rows : (levels − 1, d) float64. Adding one of these numbers to what is left of w·x, and
        subtracting it again, rounds to the level's grid; what is left after them all is the last
        piece.
    weights : (levels − 1,) float64, the same for weights, which may have another number of levels.
    """

    rows: np.ndarray
    weights: np.ndarray


def make_grid(rows: Digits, weights: Digits | None, n: int) -> Grid:
    """The grid of sums of up to n rows of some digits, weighted or not.

    Raises
    ------
    ValueError : such sums overflow.
    """
    if weights is None:
        return Grid(_levels(rows.most, rows.quanta, n), np.empty(0))
    heaviest, lightest = float(weights.most[0]), weights.least
    # A product is a multiple of the product of the quanta, and of its own last digit.
    last = _exponents(rows.least) + _exponents(lightest) - _MANTISSA
    quanta = np.maximum(np.maximum(last, rows.quanta + weights.quanta), _LEAST_EXPONENT)
    with np.errstate(over="ignore"):
        most = rows.most * heaviest
    return Grid(_levels(most, quanta, n), _levels(weights.most, weights.quanta, n)[:, 0])


def _levels(most: np.ndarray, quanta: np.ndarray, n: int) -> np.ndarray:
    """(levels − 1, d) float64, from the largest sizes and the quanta of d columns."""
    count_bits = max(2, math.ceil(math.log2(max(n, 1))))
    used = most > 0
    tops = np.where(np.isinf(most), 1024, _exponents(most) + 1)
    if tops.max(initial=0) + count_bits > 1022:
        raise ValueError(
            f"{n:,} numbers of up to {most.max():g}, sample_weight times X, overflow float64 when "
            "they are added; rescale the data or the weights"
        )
    grids = tops + count_bits - 53
    magics = []
    while (used & (grids > quanta)).any():
        magics.append(np.ldexp(1.5, np.maximum(grids, _LEAST_EXPONENT) + 52))
        grids = grids + count_bits - 54
    return np.array(magics, np.float64).reshape(len(magics), len(most))


class PartialSums(NamedTuple):
    """Per-cluster sums of some rows, exact on the levels of a grid (`kmdist.engine.kernels.sums`).

    Parameters
    ----------
    sums : (k, levels, d) float64; the sum over the levels is Σ w·x.
    counts : (k, levels of the weights) float64, of Σ w.
    """

    sums: np.ndarray
    counts: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """(k,) float64, Σ w."""
        return add_levels(self.counts)

    @property
    def totals(self) -> np.ndarray:
        """(k, d) float64, Σ w·x."""
        return add_levels(self.sums)


def no_sums(k: int, d: int, grid: Grid) -> PartialSums:
    """Of no rows."""
    levels, weight_levels = len(grid.rows) + 1, len(grid.weights) + 1
    return PartialSums(np.zeros((k, levels, d)), np.zeros((k, weight_levels)))


def merge_sums(parts: list[PartialSums]) -> PartialSums:
    """Add partial sums; exact, hence the same in any order."""
    sums, counts = parts[0].sums.copy(), parts[0].counts.copy()
    for part in parts[1:]:
        sums += part.sums
        counts += part.counts
    return PartialSums(sums, counts)


def add_levels(pieces: np.ndarray) -> np.ndarray:
    """Sums over axis 1, as if in twice the precision of float64 (Ogita, Rump and Oishi, 2005)."""
    total, rest = pieces[:, 0], np.zeros_like(pieces[:, 0])
    for level in range(1, pieces.shape[1]):
        piece = pieces[:, level]
        added = total + piece
        back = added - total
        rest = rest + ((total - (added - back)) + (piece - back))
        total = added
    return total + rest


def cluster_means(sums: PartialSums, centroids: np.ndarray) -> np.ndarray:
    """(k, d) float64, the mean of each cluster; its centroid where it has no rows."""
    weights = sums.weights
    filled = weights > 0
    means = centroids.astype(np.float64)
    means[filled] = sums.totals[filled] / weights[filled, None]
    return means


def sum_by_label(values: np.ndarray, labels: np.ndarray, k: int, magics: np.ndarray) -> np.ndarray:
    """(k, levels, d) float64, exact sums of values (n, d) per label on the levels of a `Grid`."""
    d = values.shape[1]
    places = (labels[:, None].astype(np.intp) * d + np.arange(d)).ravel()
    sums = np.empty((k, len(magics) + 1, d))
    for level in range(len(magics) + 1):
        last = level == len(magics)
        pieces = values if last else (values + magics[level]) - magics[level]
        sums[:, level] = np.bincount(places, pieces.ravel(), k * d).reshape(k, d)
        values = values - pieces
    return sums


def weight_pieces(weights: np.ndarray | None, grid: Grid) -> list[np.ndarray | None]:
    """The weights on each level of the grid, on which sums of them are exact; None: all one."""
    if weights is None:
        return [None]
    pieces: list[np.ndarray | None] = []
    for magic in grid.weights:
        piece = (weights + magic) - magic
        pieces.append(piece)
        weights = weights - piece
    return [*pieces, weights]


def weigh_labels(labels: np.ndarray, weights: np.ndarray | None, k: int, grid: Grid) -> np.ndarray:
    """(k, levels of the weights) float64, Σ w per label; exact, so that few are added at once."""
    total = np.zeros((k, 1 if weights is None else len(grid.weights) + 1))
    for first in range(0, len(labels), _ROWS_AT_ONCE):
        here = slice(first, first + _ROWS_AT_ONCE)
        if weights is None:
            total[:, 0] += np.bincount(labels[here], minlength=k)
        else:
            some = weights[here, None]
            total += sum_by_label(some, labels[here], k, grid.weights[:, None])[:, :, 0]
    return total


@kernel(inline="always")
def move_rows(rows, moved, n, labels, weights, grid, out, left):  # type: ignore[no-untyped-def]
    """Take rows and their weights from the sums of their clusters to those of their labels.

    Many at a time: to take arrays out of tuples counts their users, which for a row of 8 features
    is three times the work of adding it.

    Parameters
    ----------
    moved : (m,) int64, rows, and (m,) int32, the clusters that they leave, −1 for none. n : of
        these that move.
    grid : tuple of a `Grid`. out : tuple of `PartialSums`.
    left : (d,) float64, scratch.
    """
    row_grid, weight_grid = grid
    sums, counts = out
    places, before = moved
    d, levels = rows.shape[1], row_grid.shape[0]
    for at in range(n):
        i, old = places[at], before[at]
        for turn in range(2 if old >= 0 else 1):
            j = old if turn else labels[i]
            # Pieces of −w·x are those of w·x with the other sign.
            count = weights[i] if weights.size else 1.0
            count = -count if turn else count
            for p in range(d):
                left[p] = np.float64(rows[i, p]) * count
            for level in range(weight_grid.size):
                part = (count + weight_grid[level]) - weight_grid[level]
                count -= part
                counts[j, level] += part
            counts[j, weight_grid.size] += count
            level, bits = 0, np.int64(1)
            while level < levels and bits != 0:
                bits = np.int64(0)
                for p in range(d):
                    t, magic = left[p], row_grid[level, p]
                    piece = (t + magic) - magic
                    rest = t - piece
                    left[p] = rest
                    bits |= float_bits(rest) << 1  # type: ignore[call-arg]  # a zero has a sign
                    sums[j, level, p] += piece
                level += 1
            if bits != 0:
                for p in range(d):
                    sums[j, levels, p] += left[p]


BINS = 68
"""Of 32 bits each: 2^−1088 up to 2^1088."""

_UNIT = 1088


def no_totals(k: int) -> np.ndarray:
    """(k, BINS) int64: k sums of nothing."""
    return np.zeros((k, BINS), np.int64)


@njit(nogil=True, cache=True, inline="always")
def add_exactly(bins, j, value):  # type: ignore[no-untyped-def]
    """Add a finite number that is not negative to sum j."""
    bits = float_bits(value)  # type: ignore[call-arg,var-annotated]
    exponent = bits >> 52
    digits = bits & 0xFFFFFFFFFFFFF
    if exponent > 0:
        digits |= 1 << 52
    else:
        exponent = 1
    place = exponent - 1075 + 1088
    bin, shift = place >> 5, place & 31
    low = (digits & 0xFFFFFFFF) << shift  # of at most 63 bits
    high = (digits >> 32) << shift
    bins[j, bin] += low & 0xFFFFFFFF
    bins[j, bin + 1] += (low >> 32) + (high & 0xFFFFFFFF)
    bins[j, bin + 2] += high >> 32


@njit(nogil=True, cache=True)
def _add_all(values, weights, bins):  # type: ignore[no-untyped-def]
    for i in range(values.size):
        add_exactly(bins, 0, values[i] * weights[i] if weights.size else values[i])


def weighted_bins(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """(1, BINS) int64, Σ w·value of float64 numbers (n,) that are not negative."""
    bins = no_totals(1)
    _add_all(values, NO_WEIGHTS if weights is None else weights, bins)
    return carry(bins)


def merge_bins(parts: list[np.ndarray]) -> np.ndarray:
    """Add sums of several blocks."""
    return np.sum(parts, axis=0)


def carry(bins: np.ndarray) -> np.ndarray:
    """The same sums with less than 2^32 in each bin, so that as many again can be added."""
    carried = bins.copy()
    for i in range(BINS - 1):
        carried[:, i + 1] += carried[:, i] >> 32
        carried[:, i] &= 0xFFFFFFFF
    return carried


def bins_of(whole: int, bits: int) -> np.ndarray:
    """(BINS,) int64, the sum that is a whole number · 2^−bits, not negative."""
    up = _UNIT - bits
    units = whole << up if up >= 0 else whole >> -up
    return np.array([units >> 32 * i & 0xFFFFFFFF for i in range(BINS)], np.int64)


def totals_of(bins: np.ndarray) -> np.ndarray:
    """(k,) float64, the sums, correctly rounded; infinite where they overflow."""
    return np.array([_rounded(row) for row in bins.tolist()], np.float64)


def _rounded(row: list[int]) -> float:
    whole = 0
    for value in reversed(row):
        whole = (whole << 32) + value
    try:
        return whole / (1 << _UNIT)
    except OverflowError:
        return float("inf")
