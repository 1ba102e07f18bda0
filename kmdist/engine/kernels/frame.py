"""The frame of a fit: what makes sums exact and labels equal to those of float64 arithmetic.

**Sums.** Every term w·x is split on a grid on which sums lose nothing
(`kmdist.engine.kernels.sums`), so that they do not depend on the order, the chunking, or on whether
a block was summed afresh or by differences.

**Labels.** Scores are computed in float32 as ‖c‖² − 2x·c. Where another centroid lies within
the bound of their rounding error, the distances are computed again in float64 from the
differences. The labels are therefore those of float64, ties going to the lowest index, whatever
shift and scale the scores have and whatever instructions the compiler chose.

**Moments** are one pass of plain statistics over a block: extent, digits, mean, variance, what is
not finite. Rows of weight zero do not count: they are checked, and belong to the reach of the rows
alone.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kmdist.engine.kernels import NO_WEIGHTS, as_kernel_rows, kernel, kernel_chunks
from kmdist.engine.kernels.sums import Digits, Grid, digits_of, make_grid, no_digits


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


@kernel()
def _accumulate(rows, weights, pivot, first, second):  # type: ignore[no-untyped-def]
    """Sums of w(x − pivot) and w(x − pivot)²."""
    for i in range(rows.shape[0]):
        weight = weights[i] if weights.size else 1.0
        for p in range(rows.shape[1]):
            t = np.float64(rows[i, p]) - pivot[p]
            first[p] += weight * t
            second[p] += weight * t * t


@kernel()
def _add_whole(rows, sums):  # type: ignore[no-untyped-def]
    """Add whole numbers, and their squares, to (2, d) uint64, exactly."""
    for i in range(rows.shape[0]):
        for p in range(rows.shape[1]):
            x = np.uint64(rows[i, p])
            sums[0, p] += x
            sums[1, p] += x * x


_TOGETHER = 131_072
"""Values that are looked at together, so that they stay in the cache; measured for 8 to 784
features."""


class _Scan:
    """What is found of the rows of a block, chunk by chunk."""

    def __init__(self, pivot: np.ndarray, dtype: np.dtype) -> None:
        d = len(pivot)
        self.pivot, self.sums = pivot, np.zeros((2, d))
        self.whole = np.zeros((2, d), np.uint64)
        self.floats = dtype.kind == "f"
        ends = (np.inf, -np.inf) if self.floats else (np.iinfo(dtype).max, 0)
        self.extent = np.array([np.full(d, ends[0], dtype), np.full(d, ends[1], dtype)])
        self.reach = np.array([np.full(d, np.inf), np.full(d, -np.inf)])
        # Sizes as integers, of which one is subtracted so that zero is the largest.
        self.unsigned = np.dtype(f"u{dtype.itemsize}")
        self.least = np.full(d, np.iinfo(self.unsigned).max, self.unsigned)
        self.bits = np.zeros(d if dtype == np.float64 else 0, np.int64)

    def add(self, part: np.ndarray, weights: np.ndarray | None) -> tuple[int, int] | None:
        """Row and column of the first value that is not finite, or None."""
        counted, finite = part, True
        if weights is not None and not weights.all():
            others, counted, weights = part[weights == 0], part[weights > 0], weights[weights > 0]
            finite = not self.floats or bool(np.isfinite(others).all())
            self.reach[0] = np.minimum(self.reach[0], others.min(axis=0))
            self.reach[1] = np.maximum(self.reach[1], others.max(axis=0))
        step = max(1, _TOGETHER // part.shape[1])
        for first in range(0, len(counted), step):
            here = slice(first, first + step)
            self._accumulate(counted[here], None if weights is None else weights[here])
        finite = finite and (not self.floats or bool(np.isfinite(self.sums[0]).all()))
        return None if finite else _first_bad(part)

    def _accumulate(self, rows: np.ndarray, weights: np.ndarray | None) -> None:
        """Sums of w(x − pivot) and w(x − pivot)², extent and digits of rows that count."""
        if weights is None and not self.floats:
            long, rest = _side_by_side(rows)
            sums = np.zeros((2, long.shape[1]), np.uint64)
            _add_whole(long, sums)
            self.whole += sums.reshape(2, -1, rows.shape[1]).sum(axis=1)
            _add_whole(rest, self.whole)
        else:
            _accumulate(rows, NO_WEIGHTS if weights is None else weights, self.pivot, *self.sums)
        self.extent[0] = np.minimum(self.extent[0], _reduce(np.minimum, rows))
        self.extent[1] = np.maximum(self.extent[1], _reduce(np.maximum, rows))
        if self.floats:
            sizes = rows.view(self.unsigned) << self.unsigned.type(1)  # without the sign
            sizes -= self.unsigned.type(1)
            self.least = np.minimum(self.least, _reduce(np.minimum, sizes))
        if self.bits.size:
            self.bits |= _reduce(np.bitwise_or, rows.view(np.int64))

    def mean_and_m2(self, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """Of rows of a total weight; of whole numbers without weights as of real arithmetic."""
        if self.whole.any():
            first, second = self.whole.astype(object)
            n = int(weight)
            m2 = (second * n - first * first) / n
            return (first / n).astype(np.float64), m2.astype(np.float64)
        offset = self.sums[0] / weight if weight > 0 else np.zeros(len(self.pivot))
        m2 = np.maximum(self.sums[1] - weight * offset * offset, 0.0)
        return self.pivot + offset, m2

    def digits(self) -> Digits:
        """Of the rows that count; whole numbers of other types are known to be that."""
        extent = self.extent.astype(np.float64)
        most = np.where(extent[0] <= extent[1], np.abs(extent).max(axis=0), 0.0)
        if not self.floats:
            return Digits(most, np.ones(len(most)), np.zeros(len(most), np.int64))
        sizes = self.least + self.unsigned.type(1) >> self.unsigned.type(1)
        least = sizes.view(self.extent.dtype).astype(np.float64)
        least[sizes == 0] = np.inf
        # float32 has 24 digits, of which the first is not among the bits.
        bits = self.bits if self.bits.size else np.full(len(most), 1 << 29, np.int64)
        return Digits(most, least, bits)


def _side_by_side(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in lines of many where they are short, which vectors are faster over; and the rest."""
    n, d = values.shape
    times = max(1, 512 // d)
    whole = n - n % times if n >= 3 * times else 0
    return values[:whole].reshape(-1, times * d if whole else d), values[whole:]


def _reduce(operation: np.ufunc, values: np.ndarray) -> np.ndarray:
    """Reduction over axis 0."""
    long, rest = _side_by_side(values)
    if len(long):
        long = operation.reduce(long, axis=0).reshape(-1, values.shape[1])
    return np.asarray(operation.reduce(np.concatenate([long, rest]), axis=0))


_LOOK_ROWS = 4096


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
    scan, bad = _scan(rows[:0] if bad_weight else rows, weights, pivot)
    with np.errstate(over="ignore", invalid="ignore"):  # of values that are refused afterwards
        total = float(n) if weights is None else float(weights[counting].sum())
        mean, m2 = scan.mean_and_m2(total)
        outlying = (total * (mean - pivot) ** 2 > _OUTLYING * m2).any()
    if outlying and bad is None and not scan.whole.any():
        scan, _ = _scan(rows, weights, mean)
        mean, m2 = scan.mean_and_m2(total)
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


_OUTLYING = 4096.0
"""Squared distances of the first row from the mean, in variances, from which on so many digits of
the variance are lost that it is taken from the mean instead."""


def _scan(
    rows: np.ndarray, weights: np.ndarray | None, pivot: np.ndarray
) -> tuple[_Scan, tuple[int, int, int, float] | None]:
    """What is found of all rows, and the first value that is not finite, as in `Moments`."""
    scan = _Scan(pivot, as_kernel_rows(rows[:0]).dtype)
    for start, chunk in kernel_chunks(rows):
        part = as_kernel_rows(chunk)
        place = scan.add(part, None if weights is None else weights[start : start + len(part)])
        if place is not None:
            return scan, (0, start + place[0], place[1], float(part[place]))
    return scan, None


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


_UNIT_ROUNDOFF = 2.0**-24
"""Of float32."""

_LONGEST = 2.0**60
"""Of rows and centroids in the frame, so that scores do not overflow float32."""

BLUR = 2.0**-50
"""Added to lengths in bounds of errors, for what underflows in float32 (less than 2^−149 each
time): (d + 8) · 2^−24 · 2^−100 is more than that can add up to."""


class Frame(NamedTuple):
    """Constants of one fit, the same for each of its blocks.

    Parameters
    ----------
    shift : (d,) float64, subtracted from rows and centroids for their scores; zeros where that
        gains nothing.
    scale : power of two that brings distances into the range of float32.
    max_norm : bound on ‖x − shift‖ · scale over all rows.
    fold : whether float32 rows may be read as they are, the shift being folded into the norms
        of the centroids; it then costs accuracy of the scores instead of a copy of each tile.
    grid : on which rows and weights are summed.
    """

    shift: np.ndarray
    scale: float
    max_norm: float
    fold: bool
    grid: Grid

    def same(self, other: "Frame") -> bool:
        """Whether sums and bounds in this frame are those of the other."""
        return self[1:4] == other[1:4] and all(
            np.array_equal(a, b)
            for a, b in zip((self.shift, *self.grid), (other.shift, *other.grid), strict=True)
        )


def make_frame(m: Moments) -> Frame:
    """Choose the frame for rows of known statistics.

    Raises
    ------
    ValueError : squared distances, or sums of rows or weights, would overflow float64.

    Notes
    -----
    Rows are shifted only where their mean is more than twice as long as their spread, and
    tiles of float32 rows copied for it only where it is more than eight times as long.
    """
    mean, variance = m.mean, m.variance
    with np.errstate(over="ignore", invalid="ignore"):
        offset, spread = float(mean @ mean), float(variance.sum())
        shifted = offset > 4.0 * spread
        # Few bits of the mean, so that float32 holds them.
        shift = _coarse(mean, np.sqrt(variance)) if shifted else np.zeros_like(mean)
        low, high = m.reach
        extent = np.maximum(np.abs(high - shift), np.abs(low - shift))
    norm = check_reach(extent, m.weight)
    scale = 1.0 if 1e-12 < norm < 1e15 or norm == 0 else _unit_scale(norm)
    return Frame(
        shift=shift,
        scale=scale,
        max_norm=norm * scale,
        fold=scale == 1.0 and offset <= 64.0 * spread,
        grid=make_grid(m.digits, m.weight_digits, m.n_rows),
    )


def frame_within(low: float, high: float, n: int, centroids: np.ndarray) -> Frame:
    """The frame in which n rows are labelled, and not summed: centroids stand for their moments.

    Parameters
    ----------
    low, high : least and largest of all values of the rows.
    """
    d, exact = centroids.shape[1], centroids.astype(np.float64)
    lowest, highest = np.full(d, low), np.full(d, high)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, m2 = exact.mean(axis=0), n * exact.var(axis=0)
    reach = np.stack([lowest, highest])
    return make_frame(Moments((n,), (n,), float(n), mean, m2, lowest, highest, reach, no_digits(d)))


def check_reach(extent: np.ndarray, weight: float) -> float:
    """Length of the longest row within an extent (d,), once it is known that no sum overflows.

    Raises
    ------
    ValueError : squared distances of such rows, or their sum for a total weight, overflow float64.
    """
    norm = _length(extent)
    if not math.isfinite(4.0 * norm * norm * max(weight, 1.0)):
        raise ValueError(
            f"rows or centroids reach a length of {norm:g}: their squared distances, or the sum "
            "of these, are too large for float64; rescale the data or the weights"
        )
    return norm


def _length(extent: np.ndarray) -> float:
    """Length of a vector whose squares may overflow or underflow."""
    most = float(extent.max(initial=0.0))
    if most == 0.0 or not math.isfinite(most):
        return most
    with np.errstate(over="ignore"):
        return most * float(np.sqrt(((extent / most) ** 2).sum()))


def _unit_scale(length: float) -> float:
    """Power of two that brings a length to about one, as far as it is a float64 itself."""
    return math.ldexp(1.0, min(-math.frexp(length)[1], 1000))


def spread_scale(m: Moments) -> float:
    """Power of two that squared distances between rows that count need, so as to be float64."""
    with np.errstate(over="ignore"):
        span = _length(m.high - m.low)
    return 1.0 if 1e-12 < span < 1e15 or span == 0 else _unit_scale(span)


def _coarse(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The mean rounded to a power of two near an eighth of the spread, or to 24 bits."""
    step = np.maximum(spread / 8.0, np.abs(mean) * (2.0 * _UNIT_ROUNDOFF))
    step = np.where(step > 0, np.exp2(np.floor(np.log2(np.where(step > 0, step, 1.0)))), 1.0)
    return np.asarray(np.round(mean / step) * step)


def reaching(frame: Frame, centroids: np.ndarray) -> Frame:
    """The frame, scaled down where centroids lie so far outside that scores would overflow."""
    with np.errstate(over="ignore"):
        longest = float(np.abs((centroids - frame.shift) * frame.scale).max(initial=0.0))
        longest *= math.sqrt(centroids.shape[1])
    if longest <= _LONGEST:
        return frame
    farthest = _length(np.abs(centroids - frame.shift).max(axis=0))
    scale = min(_unit_scale(farthest), frame.scale)
    norm = frame.max_norm * (scale / frame.scale)
    return frame._replace(scale=scale, max_norm=norm, fold=False)


class Panel(NamedTuple):
    """Centroids in the form the score kernels read.

    Parameters
    ----------
    scores : (vectors, d + 1, lanes) float32, centroids side by side in vectors of 16, or in one of
        8: line 0 holds ‖c‖², line p + 1 holds −2c_p; lanes beyond k can never be nearest.
    centroids : (k, d) float64, as given.
    slack : bound on the rounding error of a difference of two scores, for any row.
    gamma : relative rounding error of a score.
    max_norm : longest centroid in the frame, and the shift's length where it is folded in.
    near : length of the shortest centroid; `max_norm` where centroids cannot be too far away to
        matter (`kmdist.engine.kernels.nearest.error_bound`).
    """

    scores: np.ndarray
    centroids: np.ndarray
    slack: float
    gamma: float
    max_norm: float
    near: float


PAD = np.float32(3e38)


def make_panel(centroids: np.ndarray, frame: Frame, *, folded: bool = False) -> Panel:
    """Bring centroids into the frame and the layout of the score kernels.

    Parameters
    ----------
    centroids : (k, d) floating point, finite.
    frame : Frame
    folded : for rows as they are, not shifted: −2(x − m)·c is −2x·c + 2m·c.

    Returns
    -------
    Panel
    """
    exact = np.ascontiguousarray(centroids, dtype=np.float64)
    local = (exact - frame.shift) * frame.scale
    k, d = exact.shape
    squares = (local * local).sum(axis=1)
    lanes = 8 if k <= 8 else 16
    lines = np.zeros((-(-k // lanes) * lanes, d + 1), np.float32)
    lines[:, 0] = PAD
    lines[:k, 0] = squares + 2.0 * (local @ frame.shift) if folded else squares
    lines[:k, 1:] = -2.0 * local
    scores = np.ascontiguousarray(lines.reshape(-1, lanes, d + 1).transpose(0, 2, 1))
    moved = float(np.sqrt(frame.shift @ frame.shift)) if folded else 0.0
    longest = float(np.sqrt(squares.max())) + moved + BLUR
    # d + 1 roundings of the sum, and one each of x, c and ‖c‖², with room to spare.
    gamma = (d + 8) * _UNIT_ROUNDOFF
    slack = 2.0 * gamma * (longest + frame.max_norm + moved) ** 2
    shortest = float(np.sqrt(squares.min())) + BLUR
    near = longest if folded or gamma > 0.1 else shortest
    return Panel(scores, exact, slack, gamma, longest, near)
