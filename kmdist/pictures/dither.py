"""Error diffusion into a palette (Floyd and Steinberg, 1976), band of rows after band of rows."""

import numpy as np
import numpy.typing as npt
from numba import njit

import kmdist.kernel_cache  # noqa: F401  before kernels are decorated

_LEFT_TO_RIGHT = 0


class Ditherer:
    """Dithers one picture, top to bottom, into the nearest colours of a palette.

    Rows alternate in direction, which breaks the diagonal threads of one-way diffusion. Errors
    are integers of 1/16, passed on without remainder unless an amount is given, so the result is
    the same on every machine and however the picture is cut into bands. Values are clamped to what
    a display shows before the nearest colour is looked for: colours outside the palette's hull
    would otherwise pile up errors that smear far below them.

    Parameters
    ----------
    palette : (k, 3) uint8 sRGB, 1 ≤ k ≤ 65,535. Nearest is meant in sRGB; ties to the lowest
        index.
    width : columns of the picture.
    amount : share of each error that is passed on, 0 … 1, in steps of 1/256.

    Memory: 33.6 MB of table, of which the pages of colours that occur are used.

    Raises
    ------
    ValueError : the palette is not (k, 3) uint8, or too large.
    """

    def __init__(self, palette: npt.NDArray[np.uint8], width: int, amount: float = 1) -> None:
        if palette.ndim != 2 or palette.shape[1] != 3 or palette.dtype != np.uint8:
            raise ValueError(
                f"palette must be (k, 3) uint8, received {palette.shape} {palette.dtype}"
            )
        if not 1 <= len(palette) < 1 << 16:
            raise ValueError(f"palette has {len(palette)} colours; allowed are 1 to 65,535")
        self._palette = np.ascontiguousarray(palette.T.astype(np.int32))
        self._width = width
        self._amount = np.int32(round(256 * amount))
        self._next_row = 0
        # Two rows of errors for the pixels, with a column to spare at either end.
        self._errors = np.zeros((2, width + 2, 3), np.int32)
        # Index + 1 of the colour nearest to each value met so far; 0: not met.
        self._nearest = np.zeros(1 << 24, np.uint16)

    def __call__(
        self, rgb: npt.NDArray[np.uint8], skip: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.unsignedinteger]:
        """Dither the next rows.

        Parameters
        ----------
        rgb : (rows, width, 3) uint8.
        skip : (rows, width), True where the pixel has no colour: it gets index 0, and neither
            takes nor passes errors.

        Returns
        -------
        (rows, width) uint8, or uint16 where k > 256: indices into the palette. 70 ns a
        pixel of a 12-megapixel photograph, 160 of a small one.

        Raises
        ------
        ValueError : shapes differ from what was announced.
        """
        if rgb.ndim != 3 or rgb.shape[1:] != (self._width, 3) or rgb.dtype != np.uint8:
            raise ValueError(
                f"rows must be (rows, {self._width}, 3) uint8, received {rgb.shape} {rgb.dtype}"
            )
        if skip is None:
            skip = np.zeros((1, 1), np.bool_)
        elif skip.shape != rgb.shape[:2]:
            raise ValueError(f"rows are {rgb.shape[:2]} but the mask is {skip.shape}")
        few = self._palette.shape[1] <= 256
        out: npt.NDArray[np.unsignedinteger] = np.empty(
            rgb.shape[:2], np.uint8 if few else np.uint16
        )
        picture = (self._next_row, self._errors, self._nearest, self._amount)
        _diffuse(rgb, skip, self._palette, *picture, out)
        self._next_row += len(rgb)
        return out


@njit(nogil=True, cache=True)
def _diffuse(  # type: ignore[no-untyped-def]
    rgb, skip, palette, first_row, errors, nearest, amount, out
):
    height, width = out.shape
    masked = skip.shape[0] == height and skip.shape[1] == width
    distances = np.empty(palette.shape[1], np.int32)
    for y in range(height):
        row = first_row + y
        here, below = errors[row & 1], errors[(row + 1) & 1]
        below[:] = 0
        step = 1 if row & 1 == _LEFT_TO_RIGHT else -1
        x = 0 if step == 1 else width - 1
        for _ in range(width):
            if masked and skip[y, x]:
                out[y, x] = 0
                x += step
                continue
            red = _clamped(rgb[y, x, 0], here[x + 1, 0])
            green = _clamped(rgb[y, x, 1], here[x + 1, 1])
            blue = _clamped(rgb[y, x, 2], here[x + 1, 2])
            r, g, b = (red + 8) >> 4, (green + 8) >> 4, (blue + 8) >> 4
            code = (r << 16) | (g << 8) | b
            if nearest[code] == 0:
                nearest[code] = _find(palette, r, g, b, distances) + 1
            index = np.int32(nearest[code]) - 1
            out[y, x] = index
            error = amount * (red - 16 * palette[0, index]) >> 8
            _pass_on(here, below, x + 1, step, 0, error)
            error = amount * (green - 16 * palette[1, index]) >> 8
            _pass_on(here, below, x + 1, step, 1, error)
            error = amount * (blue - 16 * palette[2, index]) >> 8
            _pass_on(here, below, x + 1, step, 2, error)
            x += step


@njit(nogil=True, cache=True, inline="always")
def _clamped(value, error):  # type: ignore[no-untyped-def]
    """A channel and its errors, in sixteenths."""
    return min(max(16 * np.int32(value) + error, 0), 16 * 255)


@njit(nogil=True, cache=True, inline="always")
def _pass_on(here, below, x, step, channel, error):  # type: ignore[no-untyped-def]
    """7/16 ahead, 3/16 below and behind, 5/16 below, the rest below and ahead."""
    ahead, behind, under = (7 * error) >> 4, (3 * error) >> 4, (5 * error) >> 4
    here[x + step, channel] += ahead
    below[x - step, channel] += behind
    below[x, channel] += under
    below[x + step, channel] += error - ahead - behind - under


@njit(nogil=True, cache=True)
def _find(palette, r, g, b, distances):  # type: ignore[no-untyped-def]
    """Index of the nearest colour; loops apart from each other, so that they vectorise."""
    for i in range(distances.size):
        dr, dg, db = palette[0, i] - r, palette[1, i] - g, palette[2, i] - b
        distances[i] = dr * dr + dg * dg + db * db
    least = distances[0]
    for i in range(distances.size):
        least = min(least, distances[i])
    for i in range(distances.size):
        if distances[i] == least:
            return i
    return 0
