"""Sums of numbers that are not negative, exact over the whole range of float64.

A sum is kept as whole multiples of 2^(32 i − 1088) for all i (the small superaccumulator of Neal,
*Fast exact summation using small and large superaccumulators*, 2015), so that any order and any
partition give the same bits.
"""

import numpy as np
from numba import njit

from kmdist.engine.kernels.chunks import NO_WEIGHTS
from kmdist.engine.kernels.grid import float_bits

BINS = 68
"""Of 32 bits each: 2^−1088 up to 2^1088."""

_UNIT = 1088


def no_totals(k: int) -> np.ndarray:
    """(k, BINS) int64: k sums of nothing."""
    return np.zeros((k, BINS), np.int64)


@njit(nogil=True, cache=True)
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
