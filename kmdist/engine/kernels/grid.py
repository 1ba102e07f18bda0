"""Grids on which sums of floating point numbers are exact, whatever their order.

A number is split into pieces, each a multiple of its level's grid and so small that float64 holds
any sum of as many pieces as there are rows without rounding (the pre-rounding of Demmel and Nguyen,
*Fast reproducible floating-point summation*, 2013, and the bins of Ahrens, Demmel and Nguyen,
*Algorithms for efficient reproducible floating point summation*, 2020). There are as many levels
as the digits of the data need for no digit to be lost: one for bytes and other small whole
numbers, two or three for most measurements, some fifty for the whole range of float64. A sum is
then that of real arithmetic, whatever other rows, columns and clusters hold, and a row can be taken
from it again without a trace.
"""

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_MANTISSA = 52
_LEAST_EXPONENT = -1074
_FRACTION = (1 << _MANTISSA) - 1


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
