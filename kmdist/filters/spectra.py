"""What the FFT of a piece of a tile needs of a bank: piece sizes, pairs of kernels, spectra."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from kmdist.filters.banks import FilterBank

FFT_SIDES = (64, 80, 96, 112, 128, 144, 160, 192, 256, 320, 384, 448, 480, 560)
"""Transform lengths that are quick with OpenCV (1.6–2.0 ns a point for a whole inverse) and with
SciPy (3.7–4.7 ns): no prime factor above 7. 304 = 16·19 takes 5.9 and 6.1 ns."""

NEGLIGIBLE_SUM = 1e-12
"""A kernel whose sum is below this does not see the mean of the piece."""


def plan_axis(length: int, halo: int, step: int = 1) -> tuple[int, int]:
    """How to cut an axis into pieces: their length and the side of the FFT.

    Parameters
    ----------
    length : pixels without halo, at least 1.
    halo : pixels that each piece needs on either side.
    step : pieces begin at multiples of this, so that pooling cells are never cut.

    Returns
    -------
    (piece, side) : pixels a piece (the last may be shorter), points of a transform.
    """
    sides = [side for side in FFT_SIDES if side >= 2 * halo + step]
    if not sides:
        sides = [int(scipy.fft.next_fast_len(factor * halo + step)) for factor in (4, 8)]
    costs = []
    for side in sides:
        count = math.ceil(length / ((side - 2 * halo) // step * step))
        piece = math.ceil(length / (count * step)) * step
        costs.append((count * side, side, piece))
    _, side, piece = min(costs)
    return piece, side


def pair_kernels(bank: FilterBank) -> list[tuple[int, int]]:
    """Which two kernels share an inverse transform; -1 where the last has no partner.

    The two parts of a quadrature pair belong together. Otherwise an odd kernel goes with an even
    one while there are such: i × (an odd kernel's spectrum) and an even kernel's spectrum are
    both real, so that their sum takes half the memory and half the time to multiply with.
    """
    n = len(bank)
    if bank.quadrature:
        return [(i, i + 1) for i in range(0, n, 2)]
    odd = [i for i in range(n) if np.allclose(bank.kernels[i], -bank.kernels[i, ::-1, ::-1])]
    others = [i for i in range(n) if i not in set(odd)]
    mixed = min(len(odd), len(others))
    rest = odd[mixed:] + others[mixed:]
    if len(rest) % 2:
        rest.append(-1)
    return [
        *zip(others[:mixed], odd[:mixed], strict=True),
        *zip(rest[::2], rest[1::2], strict=True),
    ]


@dataclass(frozen=True)
class PairSpectrum:
    """Two kernels' spectra for one inverse transform.

    Parameters
    ----------
    first, second : kernels in the real and the imaginary part; `second` is -1 for none.
    ones : response of the two to an image of ones, complex.
    factors : (side_y, side_x): conj F(first) + i·conj F(second), real where that is real, divided
        by the number of points, so that the inverse transform need not.
    """

    first: int
    second: int
    ones: complex
    factors: NDArray[Any]


def _combined_spectrum(
    bank: FilterBank, first: int, second: int, side_y: int, side_x: int
) -> NDArray[np.complex128]:
    """conj F(first) + i·conj F(second) of the kernels centred on the origin."""
    embedded = np.zeros((side_y, side_x), np.complex128)
    embedded[: bank.size, : bank.size] = bank.kernels[first]
    if second >= 0:  # conj(F(a − i·b)) = conj F(a) + i·conj F(b)
        embedded[: bank.size, : bank.size] -= 1j * bank.kernels[second]
    centred = np.roll(embedded, (-bank.halo, -bank.halo), (0, 1))
    spectrum: NDArray[np.complex128] = np.conj(scipy.fft.fft2(centred, overwrite_x=True))
    return spectrum


@lru_cache(maxsize=4)
def pair_spectra(
    bank: FilterBank, side_y: int, side_x: int, *, double: bool = False
) -> tuple[PairSpectrum, ...]:
    """The spectra of a bank for pieces of one size, computed in float64 and kept for reuse.

    Parameters
    ----------
    bank : the kernels.
    side_y, side_x : points of the transforms.
    double : factors in double precision, else single: 12 MB for the Leung-Malik bank at 320².
    """
    sums = bank.kernels.sum((1, 2))
    sums[np.abs(sums) < NEGLIGIBLE_SUM] = 0
    result = []
    for first, second in pair_kernels(bank):
        spectrum = _combined_spectrum(bank, first, second, side_y, side_x)
        spectrum /= side_y * side_x
        real = np.abs(spectrum.imag).max() <= 1e-12 * np.abs(spectrum.real).max()
        factors: NDArray[Any] = np.ascontiguousarray(spectrum.real) if real else spectrum
        if not double:
            factors = factors.astype(np.float32 if real else np.complex64)
        factors.flags.writeable = False
        ones = complex(sums[first], sums[second] if second >= 0 else 0)
        result.append(PairSpectrum(first, second, ones, factors))
    return tuple(result)
