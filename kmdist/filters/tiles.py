"""Responses of a filter bank on one tile, by FFT, handed over as they are made.

A tile comes with a halo of `FilterBank.halo` pixels on each side. It is cut into pieces for
which an FFT is quick; a piece costs one forward transform and one complex inverse transform for
two kernels: one kernel's response is its real part, the other's its imaginary part. Nothing is
stored: 48 responses of a 4,096² tile take 3.2 GB.

Where OpenCV was built with Intel's IPP (its wheels for x86), `cv2.dft` does the transforms in
single precision: 1.9 ns a point for an inverse of 480², against 4.2 with scipy.fft that skips
the rows of the halo, with smaller errors (1.5e-7 against 2.0e-7), and the same to the bit for
any alignment and number of threads. Elsewhere scipy.fft does them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray

from kmdist.filters.banks import FilterBank

Box = tuple[int, int, int, int]
"""y0, x0, y1, x1 in pixels of the image; y1 and x1 are not part of it."""


USE_OPENCV = bool(cv2.ipp.useIPP())
"""Without IPP, `cv2.dft` is slower than scipy.fft."""


BT601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), as OpenCV has them."""

TUTORIAL_GREY = (0.25, 0.5, 0.25)
"""Weights of the walk-through."""


def grey(
    pixels: NDArray[Any],
    weights: tuple[float, float, float] = BT601,
    *,
    white: float = 1.0,
) -> NDArray[np.float32]:
    """Grey values of an image, float32.

    Parameters
    ----------
    pixels : (h, w) or (h, w, c) with c = 1, 3 or 4 in the order red, green, blue, alpha.
    weights : of red, green and blue; the sum is taken from left to right in float32.
    white : divide by this: 255 makes 8-bit values 0 … 1.

    Raises
    ------
    ValueError : another shape.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 2:
        return pixels.astype(np.float32) * np.float32(1 / white)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise ValueError(f"expected (y, x) or (y, x, c) with c = 1, 3 or 4, got {pixels.shape}")
    scaled = np.array(weights, np.float32) * np.float32(1 / white)
    if pixels.dtype == np.uint8:
        out = np.empty(pixels.shape[:2], np.float32)
        _weigh(pixels, scaled, out)
        return out
    result: NDArray[np.float32] = pixels[..., 0].astype(np.float32) * scaled[0]
    result += pixels[..., 1].astype(np.float32) * scaled[1]
    result += pixels[..., 2].astype(np.float32) * scaled[2]
    return result


@njit(nogil=True, cache=True)
def _weigh(pixels, weights, out):  # type: ignore[no-untyped-def]
    red, green, blue = weights[0], weights[1], weights[2]
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            value = np.float32(pixels[y, x, 0]) * red
            value += np.float32(pixels[y, x, 1]) * green
            value += np.float32(pixels[y, x, 2]) * blue
            out[y, x] = value


@dataclass(frozen=True)
class Piece:
    """Two kernels' responses on a part of a tile.

    Parameters
    ----------
    rows, columns : where the part lies in the tile without its halo.
    first, second : kernels whose responses are ``values.real`` and ``values.imag``; `second` is
        -1 where there is none.
    buffer : complex64, C-contiguous, valid until the next piece is asked for.
    y, x : where the responses begin in the buffer.
    """

    rows: slice
    columns: slice
    first: int
    second: int
    buffer: NDArray[np.complex64]
    y: int
    x: int

    @property
    def box(self) -> Box:
        """The responses' part of the buffer."""
        height, width = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        return self.y, self.x, self.y + height, self.x + width

    @property
    def values(self) -> NDArray[np.complex64]:
        """(height, width) complex64, a view."""
        y0, x0, y1, x1 = self.box
        return self.buffer[y0:y1, x0:x1]


def reflected(positions: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Fold positions outside [0, length) back by reflect-101, as often as it takes.

    OpenCV's default border (``gfedcb|abcdefgh|gfedcba``); a single pixel repeats itself.
    """
    if length < 1:
        raise ValueError(f"length: expected at least 1, got {length}")
    if length == 1:
        return np.zeros_like(positions)
    period = 2 * (length - 1)
    folded = np.mod(positions, period)
    return np.minimum(folded, period - folded)


def with_halo(
    pixels: NDArray[Any],
    window: Box,
    halo: int,
    *,
    origin: tuple[int, int] = (0, 0),
    image_shape: tuple[int, int] | None = None,
) -> NDArray[Any]:
    """Cut a window with its halo, reflected at the true edges of the image only.

    Parameters
    ----------
    pixels : (h, w) or (h, w, c): the image, or the part of it that starts at `origin`.
    window : y0, x0, y1, x1 in the image.
    halo : pixels to add on each side.
    origin : row and column of ``pixels[0, 0]`` in the image.
    image_shape : rows and columns of the whole image; by default `pixels` is all of it.

    Returns
    -------
    (y1 − y0 + 2 halo, x1 − x0 + 2 halo[, c]) of the dtype of `pixels`, a copy.

    Raises
    ------
    ValueError : `pixels` lacks a row or column that is needed: it must cover `read_window`.
    """
    y0, x0, y1, x1 = window
    taken = []
    for axis, (start, stop) in enumerate(((y0, y1), (x0, x1))):
        length = (image_shape or pixels.shape)[axis]
        index = reflected(np.arange(start - halo, stop + halo), length) - origin[axis]
        if index.size and (index.min() < 0 or index.max() >= pixels.shape[axis]):
            raise ValueError(
                f"axis {axis}: the window {start}:{stop} with a halo of {halo} needs positions "
                f"{index.min() + origin[axis]}..{index.max() + origin[axis]} of the image, got "
                f"{origin[axis]}..{origin[axis] + pixels.shape[axis] - 1}"
            )
        taken.append(index)
    rows, columns = pixels[taken[0]], taken[1]
    padded = np.empty((len(rows), len(columns), *pixels.shape[2:]), pixels.dtype)
    width = (image_shape or pixels.shape)[1]
    left, right = max(0, halo - x0), len(columns) - max(0, x1 + halo - width)
    padded[:, :left] = rows[:, columns[:left]]
    padded[:, left:right] = rows[:, columns[left] : columns[left] + right - left]
    padded[:, right:] = rows[:, columns[right:]]
    return padded


def read_window(window: Box, halo: int, image_shape: tuple[int, int]) -> Box:
    """The part of the image to read for `with_halo`: the window and its halo, clipped."""
    y0, x0, y1, x1 = window
    height, width = image_shape
    return max(0, y0 - halo), max(0, x0 - halo), min(height, y1 + halo), min(width, x1 + halo)


def _forward(part: NDArray[Any], sides: tuple[int, int]) -> NDArray[Any]:
    """The spectrum of a real piece with zeros behind it."""
    if part.dtype == np.float64 or not USE_OPENCV:
        spectrum: NDArray[Any] = scipy.fft.fft2(part, sides)
        return spectrum
    embedded = np.zeros(sides, np.float32)
    embedded[: part.shape[0], : part.shape[1]] = part
    return cv2.dft(embedded, flags=cv2.DFT_COMPLEX_OUTPUT).view(np.complex64)[..., 0]


def _inverse_in_place(work: NDArray[Any], rows: slice, columns: slice) -> None:
    """The inverse transform, not divided by the number of points, right in rows and columns."""
    if work.dtype == np.complex64 and USE_OPENCV:
        channels = work.view(np.float32).reshape(*work.shape, 2)
        cv2.dft(channels, channels, flags=cv2.DFT_INVERSE | cv2.DFT_COMPLEX_OUTPUT)
        return
    for axis, part in ((1, work), (0, work[:, columns])):
        transformed = scipy.fft.ifft(part, axis=axis, norm="forward", overwrite_x=True)
        if not np.may_share_memory(transformed, part):  # overwrite_x permits, no more
            part[...] = transformed


def pieces(
    padded: NDArray[Any],
    bank: FilterBank,
    step: int = 1,
    prepare: Callable[[NDArray[Any]], NDArray[np.float32]] | None = None,
    image_shape: tuple[int, int] | None = None,
) -> Iterator[Piece]:
    """Correlate a tile with every kernel of a bank, two kernels and one piece at a time.

    Parameters
    ----------
    padded : (h + 2 halo, w + 2 halo) float32, finite; see `with_halo`.
    bank : the kernels.
    step : pieces begin at multiples of `step` rows and columns of the tile.
    prepare : makes (y, x) float32 of a part of `padded`, which may then be of any type and have
        channels: 8-bit pixels take a quarter of the memory.
    image_shape : rows and columns of the image that the tile belongs to: pieces have the size
        that is best for it, and the tile must begin where one does. None: best for the tile.

    Yields
    ------
    Piece: for each part of the tile all pairs of kernels, in the order of `pair_kernels`.

    Raises
    ------
    ValueError : not two-dimensional, or no larger than its halo.

    Notes
    -----
    The mean of a piece is taken out before the transform and put back as mean × Σ kernel, so
    that a small response on a bright ground keeps its digits. Error against direct correlation
    in float64: below 3e-6 of the largest response. Tiles narrower than the halo are transformed
    in double precision: reflection can make kernels cancel there altogether.
    """
    halo = bank.halo
    if (padded.ndim != 2 and prepare is None) or min(padded.shape[:2]) <= 2 * halo:
        raise ValueError(f"expected (y, x) with a halo of {halo} on each side, got {padded.shape}")
    height, width = padded.shape[0] - 2 * halo, padded.shape[1] - 2 * halo
    planned = image_shape or (height, width)
    piece_y, side_y = plan_axis(planned[0], halo, step)
    piece_x, side_x = plan_axis(planned[1], halo, step)
    double = min(planned) <= halo
    real, compound = (np.float64, np.complex128) if double else (np.float32, np.complex64)
    pairs = pair_spectra(bank, side_y, side_x, double=double)
    work = np.empty((side_y, side_x), compound)
    for y in range(0, height, piece_y):
        rows = slice(y, min(y + piece_y, height))
        for x in range(0, width, piece_x):
            columns = slice(x, min(x + piece_x, width))
            part = padded[y : rows.stop + 2 * halo, x : columns.stop + 2 * halo]
            part = part if prepare is None else prepare(part)
            mean = real(part.mean(dtype=np.float64))
            spectrum = _forward(part - mean, (side_y, side_x))
            inner = slice(halo, halo + rows.stop - y), slice(halo, halo + columns.stop - x)
            for pair in pairs:
                _multiply(spectrum, pair.factors, work)
                _inverse_in_place(work, *inner)
                if pair.ones:
                    work[inner] += compound(float(mean) * pair.ones)
                single = work.astype(np.complex64, copy=False)
                yield Piece(rows, columns, pair.first, pair.second, single, halo, halo)


def tile_responses(padded: NDArray[np.float32], bank: FilterBank) -> NDArray[np.float32]:
    """All responses of one tile, stored.

    Parameters
    ----------
    padded : (h + 2 halo, w + 2 halo) float32; see `with_halo`.

    Returns
    -------
    (h, w, len(bank)) float32.
    """
    halo = bank.halo
    shape = (padded.shape[0] - 2 * halo, padded.shape[1] - 2 * halo, len(bank))
    out = np.empty(shape, np.float32)
    for piece in pieces(padded, bank):
        out[piece.rows, piece.columns, piece.first] = piece.values.real
        if piece.second >= 0:
            out[piece.rows, piece.columns, piece.second] = piece.values.imag
    return out


@njit(nogil=True, cache=True)
def _multiply(spectrum, factors, out):  # type: ignore[no-untyped-def]
    """``out = spectrum * factors``: (h, w) complex by real or complex, all C-contiguous.

    NumPy would convert real factors to complex first.
    """
    for y in range(factors.shape[0]):
        row, factor, target = spectrum[y], factors[y], out[y]
        for x in range(len(factor)):
            target[x] = row[x] * factor[x]


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
