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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from kmdist.filters.banks import FilterBank
from kmdist.filters.cells import CELL, average_modulus, average_pair, multiply
from kmdist.filters.spectra import pair_spectra, plan_axis

Box = tuple[int, int, int, int]
"""y0, x0, y1, x1 in pixels of the image; y1 and x1 are not part of it."""


USE_OPENCV = bool(cv2.ipp.useIPP())
"""Without IPP, `cv2.dft` is slower than scipy.fft."""


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

    def average_cells(self, cells: NDArray[np.float32], *, quadrature: bool) -> None:
        """Write the mean magnitudes over cells of 4 × 4 px.

        Parameters
        ----------
        cells : (rows, columns, features) float32, C-contiguous, of the whole tile.
        quadrature : one feature for the pair, its modulus; else one for each kernel.
        """
        values = self.buffer.view(np.float32)
        y, x = self.rows.start // CELL, self.columns.start // CELL
        if quadrature:
            average_modulus(values, self.box, cells, y, x, self.first // 2)
        else:
            average_pair(values, self.box, cells, y, x, self.first, self.second)


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
                multiply(spectrum, pair.factors, work)
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
