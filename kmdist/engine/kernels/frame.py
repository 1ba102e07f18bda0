"""The frame of a fit: what makes sums exact and labels equal to those of float64 arithmetic.

**Sums.** Every term w·(x − shift) is rounded to a grid 2⁻⁵² of the largest sum that can occur,
by adding and subtracting a constant (the pre-rounding of Demmel and Nguyen, *Fast reproducible
floating-point summation*, 2013). Sums of such terms are exact in float64, so that they do not
depend on the order, the chunking, or on whether a block was summed afresh or by differences.
For n rows the grid is max|x − shift| · n · 2⁻⁵²: at a billion rows still finer than float32.

**Labels.** Scores are computed in float32 as ‖c‖² − 2x·c. Where another centroid lies within
the bound of their rounding error, the distances are computed again in float64 from the
differences. The labels are therefore those of float64, ties going to the lowest index, whatever
instructions the compiler chose.
"""

import math
from typing import NamedTuple

import numpy as np

_UNIT_ROUNDOFF = 2.0**-24
"""Of float32."""


class Frame(NamedTuple):
    """Constants of one fit, the same for each of its blocks.

    Parameters
    ----------
    shift : (d,) float64, subtracted from rows and centroids; zeros where that gains nothing.
    scale : power of two that brings distances into the range of float32.
    sum_magic : 1.5 · 2⁵² · grid of the sums; adding and subtracting it rounds to the grid.
    weight_magic : the same for sums of weights.
    max_norm : bound on ‖x − shift‖ · scale over all rows.
    fold : whether float32 rows may be read as they are, the shift being folded into the norms
        of the centroids; it then costs accuracy of the scores instead of a copy of each tile.
    """

    shift: np.ndarray
    scale: float
    sum_magic: float
    weight_magic: float
    max_norm: float
    fold: bool

    def same(self, other: "Frame") -> bool:
        """Whether sums in this frame may be added to sums in the other."""
        return self[1:] == other[1:] and np.array_equal(self.shift, other.shift)


def make_frame(
    low: np.ndarray, high: np.ndarray, mean: np.ndarray, variance: np.ndarray, weight: float
) -> Frame:
    """Choose the frame for data of known extent.

    Parameters
    ----------
    low, high, mean, variance : (d,) float64, per feature.
    weight : float, an upper bound on the sum of the weights.

    Returns
    -------
    Frame

    Notes
    -----
    Rows are shifted only where their mean is more than twice as long as their spread, and
    tiles of float32 rows copied for it only where it is more than eight times as long.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        offset, spread = float(mean @ mean), float(variance.sum())
    shifted = offset > 4.0 * spread
    # Few bits of the mean, so that its last ones (which depend on the blocks) do not matter.
    shift = _coarse(mean, np.sqrt(variance)) if shifted else np.zeros_like(mean)
    extent = np.maximum(np.abs(high - shift), np.abs(low - shift))
    with np.errstate(over="ignore"):
        norm = float(np.sqrt((extent * extent).sum()))
    if not math.isfinite(norm) or norm > 1e150:
        raise ValueError(
            f"rows reach a length of {norm:g}, too large for squares in float64 (limit 1e150); "
            "rescale the data"
        )
    scale = 1.0 if 1e-12 < norm < 1e15 or norm == 0 else 2.0 ** -math.frexp(norm)[1]
    return Frame(
        shift=shift,
        scale=scale,
        sum_magic=_magic(float(extent.max(initial=0.0)) * weight),
        weight_magic=_magic(weight),
        max_norm=norm * scale,
        fold=scale == 1.0 and offset <= 64.0 * spread,
    )


def _coarse(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The mean rounded to a power of two near an eighth of the spread, or to 24 bits."""
    step = np.maximum(spread / 8.0, np.abs(mean) * _UNIT_ROUNDOFF)
    step = np.where(step > 0, np.exp2(np.floor(np.log2(np.where(step > 0, step, 1.0)))), 1.0)
    return np.asarray(np.round(mean / step) * step)


def _magic(bound: float) -> float:
    """1.5 · 2⁵² times a grid on which sums up to `bound` are exact."""
    if bound <= 0:
        return 0.0
    return 1.5 * 2.0 ** (math.frexp(bound)[1] + 1)


class Panel(NamedTuple):
    """Centroids in the form the score kernels read.

    Parameters
    ----------
    scores : (d + 1, k padded) float32: row 0 holds ‖c‖², row p + 1 holds −2c_p; the columns
        beyond k can never be nearest.
    centroids : (k, d) float64, as given.
    slack : bound on the rounding error of a difference of two scores, for any row.
    gamma : relative rounding error of a score.
    max_norm : longest centroid in the frame, and the shift's length where it is folded in.
    """

    scores: np.ndarray
    centroids: np.ndarray
    slack: float
    gamma: float
    max_norm: float


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
    lanes = 8 if k <= 8 else 16
    scores = np.zeros((d + 1, -(-k // lanes) * lanes), np.float32)
    scores[0] = PAD
    squares = (local * local).sum(axis=1)
    scores[0, :k] = squares + 2.0 * (local @ frame.shift) if folded else squares
    scores[1:, :k] = -2.0 * local.T
    moved = float(np.sqrt(frame.shift @ frame.shift)) if folded else 0.0
    longest = float(np.sqrt(squares.max())) + moved
    # d + 1 roundings of the sum, and one each of x, c and ‖c‖², with room to spare.
    gamma = (d + 8) * _UNIT_ROUNDOFF
    slack = 2.0 * gamma * (longest + frame.max_norm + moved) ** 2
    return Panel(scores, exact, slack, gamma, longest)
