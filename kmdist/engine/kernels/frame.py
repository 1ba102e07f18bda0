"""The frame of a fit: what makes sums exact and labels equal to those of float64 arithmetic.

**Sums.** Every term w·x is split on a grid on which sums lose nothing
(`kmdist.engine.kernels.grid`), so that they do not depend on the order, the chunking, or on whether
a block was summed afresh or by differences.

**Labels.** Scores are computed in float32 as ‖c‖² − 2x·c. Where another centroid lies within
the bound of their rounding error, the distances are computed again in float64 from the
differences. The labels are therefore those of float64, ties going to the lowest index, whatever
shift and scale the scores have and whatever instructions the compiler chose.
"""

import math
from typing import NamedTuple

import numpy as np

from kmdist.engine.kernels.grid import Grid, make_grid
from kmdist.engine.kernels.moments import Moments

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
