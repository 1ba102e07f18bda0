"""Learn clusters anew from their own labels, smoothly: kernel ridge regression over blocks.

Labels that came from votes are right for most rows and wrong for some at the borders. A smooth
function fitted to all of them overrules the few that disagree with their surroundings (self-
training; Scudder, 1965). The function is a sum of Gaussians at m fixed centres fitted by least
squares, so that a block of rows contributes m × m and m × k sums, and any number of rows costs
one pass: n · m · (d + m/2) multiplications.

    basis = kernel_basis(landmarks)
    sums = merge_kernel_sums([kernel_sums(rows, labels, basis, k) for each block])
    weights = solve(sums)
    labels = relabel(rows, basis, weights)
"""

from typing import NamedTuple

import numpy as np

MAX_CENTRES = 2000
RIDGE = 1e-6
_CHUNK_ROWS = 1024


class KernelBasis(NamedTuple):
    """Gaussians exp(−‖x − c‖²/scale).

    Parameters
    ----------
    centres : (m, d) float32.
    scale : in squared units of the rows.
    """

    centres: np.ndarray
    scale: float


class KernelSums(NamedTuple):
    """What a block contributes, φ being the (n, m) values of the Gaussians.

    Parameters
    ----------
    n : rows.
    gram : (m, m) float64, φᵀφ, upper triangle; empty where it was not asked for.
    targets : (m, k) float64, per cluster the sum of φ over its rows.
    """

    n: int
    gram: np.ndarray
    targets: np.ndarray


def kernel_basis(landmarks: np.ndarray, max_centres: int = MAX_CENTRES) -> KernelBasis:
    """Centres from landmarks, evenly taken; the scale is the mean of their squared distances.

    Parameters
    ----------
    landmarks : (p, d) float32.
    """
    m = min(len(landmarks), max_centres)
    centres = landmarks[np.linspace(0, len(landmarks) - 1, m).round().astype(np.int64)]
    variance = centres.astype(np.float64).var(axis=0).sum()
    return KernelBasis(np.ascontiguousarray(centres, np.float32), max(2.0 * variance, 1e-12))


def _values(rows: np.ndarray, basis: KernelBasis) -> np.ndarray:
    """(n, m) float32."""
    factor = np.float32(-1.0 / basis.scale)
    norms = np.einsum("ij,ij->i", basis.centres, basis.centres)
    exponent = rows @ (basis.centres.T * (np.float32(-2.0) * factor))
    exponent += norms * factor
    exponent += (np.einsum("ij,ij->i", rows, rows) * factor)[:, None]
    return np.exp(np.minimum(exponent, np.float32(0.0), out=exponent), out=exponent)


def kernel_sums(
    rows: np.ndarray, labels: np.ndarray, basis: KernelBasis, k: int, *, gram: bool = True
) -> KernelSums:
    """What the rows of a block contribute.

    Parameters
    ----------
    rows : (n, d) float32.
    labels : (n,) integers 0 … k − 1.
    gram : False where φᵀφ is known from an earlier round: it does not depend on the labels.
    """
    from scipy.linalg.blas import ssyrk

    m = len(basis.centres)
    products = np.zeros((m, m) if gram else (0, 0), order="F")
    targets = np.zeros((m, k))
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        values = _values(rows[chunk], basis)
        if gram:
            products += ssyrk(1.0, values.T)
        chosen = np.zeros((len(values), k), np.float32)
        chosen[np.arange(len(values)), labels[chunk]] = 1.0
        targets += values.T @ chosen
    return KernelSums(len(rows), products, targets)


def merge_kernel_sums(parts: list[KernelSums]) -> KernelSums:
    """Add what blocks contribute, in order."""
    n, gram, targets = parts[0].n, parts[0].gram.copy(), parts[0].targets.copy()
    for part in parts[1:]:
        n += part.n
        gram += part.gram
        targets += part.targets
    return KernelSums(n, gram, targets)


def solve(sums: KernelSums, ridge: float = RIDGE) -> np.ndarray:
    """Weights that fit the labels of all rows best.

    Parameters
    ----------
    ridge : penalty of the squared weights, per row; raised tenfold for as long as rounding
        leaves the sums not positive definite.

    Returns
    -------
    (m, k) float32
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    for _ in range(8):
        try:
            factor = cho_factor(sums.gram + ridge * sums.n * np.eye(len(sums.gram)))
        except LinAlgError:
            ridge *= 10.0
            continue
        return np.ascontiguousarray(cho_solve(factor, sums.targets), dtype=np.float32)
    raise ValueError("the sums of the kernel are not positive definite: rows hold NaN")


def relabel(rows: np.ndarray, basis: KernelBasis, weights: np.ndarray) -> np.ndarray:
    """The cluster whose fitted function is largest at each row; ties go to the lowest.

    Returns
    -------
    (n,) int32
    """
    labels = np.empty(len(rows), np.int32)
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        labels[chunk] = (_values(rows[chunk], basis) @ weights).argmax(axis=1)
    return labels
