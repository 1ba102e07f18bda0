"""Few numbers a row that tell most centroids apart (`kmdist.engine.kernels.projected`).

For an orthonormal basis of a subspace let p(x) be the coordinates of x in it and r(x) the length of
what is left. By the inequality of Cauchy and Schwarz

    ‖p(x) − p(c)‖² + (r(x) − r(c))²  ≤  ‖x − c‖²  ≤  the same + 4 r(x) r(c),

so that the distance of (p(x), r(x)) from (p(c), r(c)) is never more than that of the rows, and
nearly as much where centroids lie in the subspace (after Bottesch, Bühler and Kächele, *Speeding up
k-means by approximating Euclidean distances via block vectors*, ICML 2016, whose blocks take the
place of a basis made for the centroids).

A `Guide` holds the centroids in the form that a pass with bounds reads, of whole rows or of their
projections.
"""

from typing import NamedTuple

import numpy as np

from kmdist.engine.kernels.frame import BLUR, PAD, Frame, make_panel

SIZES = (8, 16, 32, 48, 64, 96, 128)
"""Numbers a row that are tried."""

_SAMPLE_ROWS = 128
"""Rows that complete a basis, and as many others that it is tried on."""

_SAMPLE_SHARE = 0.02
"""Weight of the rows in the basis, against that of the centroids."""

PAID_WITHIN = 8.0
"""Passes in which a projection must have saved what it takes to make, by default."""

_CHUNK_ROWS = 128
"""That are projected together: in float64 they stay in the cache."""


class Subspace(NamedTuple):
    """An orthonormal basis.

    Parameters
    ----------
    basis : (d, m) float64, orthonormal columns.
    blur : bound on the error of a projected row, relative to its length.
    """

    basis: np.ndarray
    blur: float


def points_bytes(row_bytes: int) -> int:
    """What the projection of a row, and its bounds, take at the most.

    A third of the row, or nothing of a short one.
    """
    most = row_bytes // 3
    return most if most >= 4 * SIZES[0] else 0


def most_groups(row_bytes: int, subspace: Subspace) -> int:
    """Of centroids for which there is room for a bound beside the projection of a row."""
    return max(1, points_bytes(row_bytes) // 4 - subspace.basis.shape[1] - 1)


def find_subspace(
    rows: np.ndarray,
    previous: np.ndarray,
    centroids: np.ndarray,
    counts: np.ndarray,
    frame: Frame,
    within: float = PAID_WITHIN,
) -> Subspace | None:
    """The subspace, of some sizes, with which passes take least time.

    What a size is worth is found with a basis for the centroids before the last, so that what they
    move until they have settled is accounted for.

    Parameters
    ----------
    rows : (n, d) real numbers, some of which it is tried on.
    previous, centroids : (k, d) floating point, of two iterations one after the other.
    counts : (k,) rows of each cluster, about.
    frame : Frame
    within : passes in which a projection must have saved what it takes to make.

    Returns
    -------
    Subspace, or None where scores of all features are about as fast.
    """
    k, d = centroids.shape
    sizes = [m for m in SIZES if m + min(m, k // 16) <= points_bytes(rows.dtype.itemsize * d) // 4]
    if len(rows) < 2 * _SAMPLE_ROWS or not sizes:
        return None
    sample = _local(rows[:: len(rows) // (2 * _SAMPLE_ROWS)][: 2 * _SAMPLE_ROWS], frame)
    weights = np.sqrt(np.maximum(counts, 1.0))[:, None]
    local = _local(centroids, frame)
    before = _directions(_local(previous, frame) * weights, sample[::2], sizes[-1] - 1)
    lengths = np.sqrt((before * before).sum(axis=0))
    costs = _costs(sample[1::2], local, before / np.maximum(lengths, 1e-300), sizes)
    m = min(costs, key=lambda size: costs[size])
    making = m * d / 8.0 + 3.0 * d  # in float64, from rows converted to it
    if making > within * (plain_cost(k, d) - costs[m]):
        return None
    if previous is not centroids:
        before = _directions(local * weights, sample[::2], m - 1)
    basis = np.linalg.qr(before[:, : m - 1])[0]
    return Subspace(basis, 2.0**-23 + float(np.sqrt(4.0 * (d + m) * 2.0**-52)))


def plain_cost(k: int, d: int) -> float:
    """Time a row of a plain pass, in multiply-adds of 16 numbers (about 0.27 ns on Zen 4)."""
    return -(-k // 16) * d + 30.0 + d / 3.0


def projected_cost(k: int, d: int, m: int, scored: float, opened: float, rivals: float) -> float:
    """Time a row of a pass over projections, in the same unit.

    Parameters
    ----------
    m : numbers of a projection.
    scored, opened : share of the rows whose projections are scored, and that are read.
    rivals : centroids each row is compared with in all features, beside the likely nearest one.

    Notes
    -----
    Fitted to MNIST (784 features, k = 10 and 256, m from 16 to 128): reading a row costs half a
    microsecond, most of it waiting for memory.
    """
    reading = opened * (200.0 + 2.0 * d)
    comparing = min(rivals, opened) * k / 4.0 + rivals * (40.0 + d / 4.0)
    return 150.0 + 1.5 * m + scored * -(-k // 16) * m + reading + comparing


def _costs(
    rows: np.ndarray, centroids: np.ndarray, basis: np.ndarray, sizes: list[int]
) -> dict[int, float]:
    """Mean cost of rows with the first directions of a basis, for each of some sizes."""
    k, d = centroids.shape
    x, c = rows @ basis, centroids @ basis
    row_squares, squares = (rows * rows).sum(axis=1), (centroids * centroids).sum(axis=1)
    true = row_squares[:, None] + squares - 2.0 * (rows @ centroids.T)
    every = np.arange(len(rows))
    costs = {}
    for m in sizes:
        if m - 1 > basis.shape[1]:
            break
        inner, outer = x[:, : m - 1], c[:, : m - 1]
        own = np.sqrt(np.maximum(row_squares - (inner * inner).sum(axis=1), 0.0))
        rest = np.sqrt(np.maximum(squares - (outer * outer).sum(axis=1), 0.0))
        least = row_squares[:, None] + squares - 2.0 * (inner @ outer.T + own[:, None] * rest)
        nearest = least.argmin(axis=1)
        bound = least[every, nearest] + 4.0 * own * rest[nearest]
        is_open = (least <= bound[:, None]).sum(axis=1) > 1
        rivals = (least <= true[every, nearest][:, None]).sum(axis=1) - 1.0
        compared = float((rivals * is_open).mean())
        costs[m] = projected_cost(k, d, m, 1.0, float(is_open.mean()), compared)
    return costs


def _local(rows: np.ndarray, frame: Frame) -> np.ndarray:
    local = rows.astype(np.float64)
    if frame.shift.any():
        local -= frame.shift
    if frame.scale != 1.0:
        local *= frame.scale
    return local


def _directions(centroids: np.ndarray, rows: np.ndarray, most: int) -> np.ndarray:
    """Leading directions of the weighted centroids, and of the rows where those are few.

    Returns
    -------
    (d, most) float64, orthogonal columns but for rounding.
    """
    energy = np.sqrt((centroids * centroids).sum() / max((rows * rows).sum(), 1e-300))
    both = np.concatenate([centroids, rows * (_SAMPLE_SHARE * energy)])
    if len(both) < both.shape[1]:
        _, turned = np.linalg.eigh(both @ both.T)
        return np.asarray(both.T @ turned[:, ::-1][:, :most])
    _, turned = np.linalg.eigh(both.T @ both)
    return np.asarray(turned[:, ::-1][:, :most])


def _projected(rows: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inside = rows @ basis
    squares = np.einsum("ij,ij->i", rows, rows) - np.einsum("ij,ij->i", inside, inside)
    return inside, np.sqrt(np.maximum(squares, 0.0))


def project(rows: np.ndarray, subspace: Subspace, frame: Frame) -> np.ndarray:
    """Coordinates of rows in a subspace, and the length of what is left of each.

    Parameters
    ----------
    rows : (n, d) real numbers.
    subspace : Subspace
    frame : Frame

    Returns
    -------
    (n, m + 1) float32, in the frame's scale, each within `subspace.blur` of the true one relative
    to the row's length.
    """
    out = np.empty((len(rows), subspace.basis.shape[1] + 1), np.float32)
    for first in range(0, len(rows), _CHUNK_ROWS):
        here = slice(first, first + _CHUNK_ROWS)
        out[here, :-1], out[here, -1] = _projected(_local(rows[here], frame), subspace.basis)
    return out


UP = np.float32(1.0 + 2.0**-20)
DOWN = np.float32(1.0 - 2.0**-20)
"""Make up for rounding where bounds are computed in float32."""


class Exact(NamedTuple):
    """What distances from whole rows are computed with, in float32.

    Parameters
    ----------
    local : (k, d) float32, centroids in the frame.
    stretch : a distance is at most this times the one computed, plus `blunt`.
    blunt : float32, in the frame's scale.
    """

    local: np.ndarray
    stretch: np.float32
    blunt: np.float32


def make_exact(centroids: np.ndarray, frame: Frame) -> Exact:
    """Centroids (k, d) as distances from rows in the frame need them."""
    local = (np.asarray(centroids, np.float64) - frame.shift) * frame.scale
    longest = float(np.sqrt((local * local).sum(axis=1).max()))
    stretch = np.float32(1.0 + (local.shape[1] + 16) * 2.0**-24) * UP
    # Rounding of rows and centroids, and of the sum of their differences; and underflow.
    blunt = 2.0**-22 * (frame.max_norm + longest) + BLUR
    return Exact(local.astype(np.float32), stretch, np.float32(blunt))


class Guide(NamedTuple):
    """Centroids in the form the pass reads, for whole rows or for their projections.

    Parameters
    ----------
    scores : (vectors, p + 1, lanes) float32, of `kmdist.engine.kernels.frame.Panel`.
    local : (k, p) float32.
    gamma, longest : relative error of a score, and length of the longest of `local`.
    blur : bound on the error of a distance between the values as given.
    centroids : (k, d) float64, as given.
    exact : for distances from whole rows.
    """

    scores: np.ndarray
    local: np.ndarray
    gamma: float
    longest: float
    blur: np.float32
    centroids: np.ndarray
    exact: Exact


def make_guide(centroids: np.ndarray, frame: Frame) -> Guide:
    """The form of centroids (k, d) that `kmdist.engine.kernels.bounds.assign_bounded` takes."""
    whole = np.ascontiguousarray(centroids, dtype=np.float64)
    exact, panel = make_exact(whole, frame), make_panel(whole, frame)
    return Guide(panel.scores, exact.local, panel.gamma, panel.max_norm, exact.blunt, whole, exact)


def make_projected_guide(
    centroids: np.ndarray, frame: Frame, subspace: Subspace, slots: np.ndarray
) -> Guide:
    """The form that `kmdist.engine.kernels.projected.assign_projected` takes.

    Parameters
    ----------
    centroids : (k, d) floating point.
    frame, subspace : those of the projections.
    slots : (multiple of 16,) int32, which centroid each lane of the panel is for; −1: none.
    """
    whole = np.ascontiguousarray(centroids, dtype=np.float64)
    exact, points = make_exact(whole, frame), project(whole, subspace, frame)
    unmoved = frame._replace(shift=np.zeros(points.shape[1]), scale=1.0)
    panel = make_panel(points[slots], unmoved)
    panel.scores[:, 0][slots.reshape(-1, 16) < 0] = PAD
    blur = np.float32(subspace.blur * (frame.max_norm + panel.max_norm)) + exact.blunt
    return Guide(panel.scores, points, panel.gamma, panel.max_norm, blur, whole, exact)
