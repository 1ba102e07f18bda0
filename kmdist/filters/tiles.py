"""Responses of a filter bank on one tile, by FFT, handed over as they are made.

A tile comes with a halo of `FilterBank.halo` pixels on each side. It is cut into pieces for
which an FFT is quick; a piece costs one forward transform and one complex inverse transform for
two kernels: one kernel's response is its real part, the other's its imaginary part. Between the
two halves of the inverse transform the lines that belong to the halo are dropped, and before it
those where both spectra vanish. Nothing is stored: 48 responses of a 4,096² tile take 3.2 GB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from kmdist.filters.banks import FilterBank
from kmdist.filters.cells import multiply
from kmdist.filters.spectra import PairSpectrum, pair_spectra, plan_axis

Box = tuple[int, int, int, int]
"""y0, x0, y1, x1 in pixels of the image; y1 and x1 are not part of it."""


@dataclass(frozen=True)
class Piece:
    """Two kernels' responses on a part of a tile.

    Parameters
    ----------
    rows, columns : where the part lies in the tile without its halo.
    first, second : kernels whose responses are ``values.real`` and ``values.imag``; `second` is
        -1 where there is none.
    values : (height, width) complex64, rows contiguous, valid until the next piece is asked for.
    """

    rows: slice
    columns: slice
    first: int
    second: int
    values: NDArray[np.complex64]


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
    pixels: NDArray[np.float32],
    window: Box,
    halo: int,
    *,
    origin: tuple[int, int] = (0, 0),
    image_shape: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
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
    return pixels[taken[0]][:, taken[1]]


def read_window(window: Box, halo: int, image_shape: tuple[int, int]) -> Box:
    """The part of the image to read for `with_halo`: the window and its halo, clipped."""
    y0, x0, y1, x1 = window
    height, width = image_shape
    return max(0, y0 - halo), max(0, x0 - halo), min(height, y1 + halo), min(width, x1 + halo)


def _inverse(
    spectrum: NDArray[Any],
    pair: PairSpectrum,
    work: NDArray[Any],
    rows: slice,
    columns: slice,
) -> NDArray[Any]:
    """The inverse transform of spectrum × pair, the given rows and columns only, in `work`."""
    along_rows = pair.axis == 0

    def on(lines: slice) -> tuple[slice, slice]:
        return (lines, slice(None)) if along_rows else (slice(None), lines)

    for lines in pair.dropped:
        work[on(lines)] = 0
    for lines, factors in zip(pair.lines, pair.factors, strict=True):
        part = work[on(lines)]
        multiply(spectrum[on(lines)], factors, part)
        transformed = scipy.fft.ifft(part, axis=1 - pair.axis, overwrite_x=True)
        if not np.shares_memory(transformed, part):  # overwrite_x permits, it does not promise
            part[...] = transformed
    half = work[:, columns] if along_rows else work[rows]
    values: NDArray[Any] = scipy.fft.ifft(half, axis=pair.axis, overwrite_x=True)
    return values[rows] if along_rows else values[:, columns]


def pieces(padded: NDArray[np.float32], bank: FilterBank, *, step: int = 1) -> Iterator[Piece]:
    """Correlate a tile with every kernel of a bank, two kernels and one piece at a time.

    Parameters
    ----------
    padded : (h + 2 halo, w + 2 halo) float32, finite; see `with_halo`.
    bank : the kernels.
    step : pieces begin at multiples of `step` rows and columns of the tile.

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
    if padded.ndim != 2 or min(padded.shape) <= 2 * halo:
        raise ValueError(f"expected (y, x) with a halo of {halo} on each side, got {padded.shape}")
    height, width = padded.shape[0] - 2 * halo, padded.shape[1] - 2 * halo
    piece_y, side_y = plan_axis(height, halo, step)
    piece_x, side_x = plan_axis(width, halo, step)
    double = min(height, width) <= halo
    real, compound = (np.float64, np.complex128) if double else (np.float32, np.complex64)
    pairs = pair_spectra(bank, side_y, side_x, double=double)
    work = np.empty((side_y, side_x), compound)
    for y in range(0, height, piece_y):
        rows = slice(y, min(y + piece_y, height))
        for x in range(0, width, piece_x):
            columns = slice(x, min(x + piece_x, width))
            part = padded[y : rows.stop + 2 * halo, x : columns.stop + 2 * halo]
            mean = real(part.mean(dtype=np.float64))
            spectrum = scipy.fft.fft2(part - mean, (side_y, side_x))
            inner = slice(halo, halo + rows.stop - y), slice(halo, halo + columns.stop - x)
            for pair in pairs:
                values = _inverse(spectrum, pair, work, *inner)
                if pair.ones:
                    values += compound(float(mean) * pair.ones)
                single = values.astype(np.complex64, copy=False)
                yield Piece(rows, columns, pair.first, pair.second, single)


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


BT601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), as OpenCV has them."""

TUTORIAL_GREY = (0.25, 0.5, 0.25)
"""Weights of the walk-through."""


def grey(pixels: NDArray[Any], weights: tuple[float, float, float] = BT601) -> NDArray[np.float32]:
    """Grey values of an image, in the units of its own, float32.

    Parameters
    ----------
    pixels : (h, w) or (h, w, c) with c = 1, 3 or 4 in the order red, green, blue, alpha.
    weights : of red, green and blue; the sum is taken from left to right in float32.
    """
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"expected (y, x) or (y, x, c) with c = 1, 3 or 4, got {pixels.shape}")
    if pixels.shape[2] == 1:
        return pixels[..., 0].astype(np.float32)
    red, green, blue = (np.float32(weight) for weight in weights)
    result: NDArray[np.float32] = pixels[..., 0].astype(np.float32) * red
    result += pixels[..., 1].astype(np.float32) * green
    result += pixels[..., 2].astype(np.float32) * blue
    return result
