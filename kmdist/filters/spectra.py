"""What the FFT of a piece of a tile needs of a bank: piece sizes, pairs of kernels, spectra."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from kmdist.filters.banks import FilterBank

FFT_SIDES = (64, 80, 96, 112, 128, 144, 160, 192, 224, 240, 256, 288, 320, 384, 432, 480, 576)
"""Transform lengths that are quick (3.7–4.4 ns a point a transform) and fit the caches: multiples
of 16 without a prime factor above 5. 304 = 16·19 takes 6.1 ns a point, 640 takes 5.4."""

DROPPED_SHARE = 1e-6
"""Lines of a spectrum are left out while their norm is below this share of the spectrum's: what
single precision loses anyway (4e-7), and 28 % of the first inverse transform saved."""

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
        costs.append((count * side * math.sqrt(1 + side / 2400), piece, side))
    _, piece, side = min(costs)
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
    axis : 0: `lines` are rows of the spectrum, 1: columns. The others are negligible.
    lines, dropped : the lines that are kept and those that are not, as up to two slices each.
    factors : (side_y, side_x) but for the lines left out: conj F(first) + i·conj F(second),
        real where that is real; one array for each slice of `lines`.
    """

    first: int
    second: int
    ones: complex
    axis: int
    lines: tuple[slice, ...]
    dropped: tuple[slice, ...]
    factors: tuple[NDArray[Any], ...]


def split_lines(energy: NDArray[np.float64]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The lines of a spectrum to keep, and the longest run that can go, cyclic.

    Parameters
    ----------
    energy : (n,) energy of each line, not negative; lines go while `DROPPED_SHARE` allows.

    Returns
    -------
    (kept, dropped) : slices that together cover 0 … n; at least one line is kept.
    """
    n = len(energy)
    running = np.concatenate([[0.0], np.cumsum(np.concatenate([energy, energy]))])
    allowed = running[:n] + DROPPED_SHARE**2 * running[n]
    stop = np.searchsorted(running, allowed, side="right") - 1
    length = np.clip(stop - np.arange(n), 0, n - 1)
    start = int(length.argmax())
    end = start + int(length[start])
    return _cyclic(end, start + n, n), _cyclic(start, end, n)


def _cyclic(start: int, stop: int, n: int) -> tuple[slice, ...]:
    """Slices of a ring of n for start … stop, which may pass its end once."""
    if start >= n:
        start, stop = start - n, stop - n
    wrapped = (slice(start, min(stop, n)), slice(0, stop - n))
    return tuple(part for part in wrapped if part.stop > part.start)


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


@lru_cache(maxsize=2)
def pair_spectra(
    bank: FilterBank, side_y: int, side_x: int, *, double: bool = False
) -> tuple[PairSpectrum, ...]:
    """The spectra of a bank for pieces of one size, computed in float64 and kept for reuse.

    About 10 MB for the Leung-Malik bank at 320 × 320 points.

    Parameters
    ----------
    bank : the kernels.
    side_y, side_x : points of the transforms.
    double : factors in float64 or complex128, and no lines left out.
    """
    sums = bank.kernels.sum((1, 2))
    sums[np.abs(sums) < NEGLIGIBLE_SUM] = 0
    result = []
    for first, second in pair_kernels(bank):
        spectrum = _combined_spectrum(bank, first, second, side_y, side_x)
        real = np.abs(spectrum.imag).max() <= 1e-12 * np.abs(spectrum.real).max()
        energy = np.abs(spectrum) ** 2 if not double else np.ones((side_y, side_x))
        split = [split_lines(energy.sum(1)), split_lines(energy.sum(0))]
        saved = [
            sum(part.stop - part.start for part in dropped) / side
            for (_, dropped), side in zip(split, (side_y, side_x), strict=True)
        ]
        axis = int(saved[1] > saved[0])
        lines, dropped = split[axis]
        kept: NDArray[Any] = spectrum.real if real else spectrum
        if not double:
            kept = kept.astype(np.float32 if real else np.complex64)
        factors = tuple(
            np.ascontiguousarray(kept[line] if axis == 0 else kept[:, line]) for line in lines
        )
        ones = complex(sums[first], sums[second] if second >= 0 else 0)
        result.append(PairSpectrum(first, second, ones, axis, lines, dropped, factors))
    return tuple(result)
