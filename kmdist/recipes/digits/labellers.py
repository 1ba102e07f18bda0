"""From rows to clusters: what labels the images of a digits run, and how a run stores it.

Clusters are learnt anew from their own labels by kernel ridge regression over blocks: labels that
came from votes are right for most rows and wrong for some at the borders. A smooth function fitted
to all of them overrules the few that disagree with their surroundings (self- training; Scudder,
1965). The function is a sum of Gaussians at m fixed centres fitted by least squares, so that a
block of rows contributes m × m and m × k sums, and any number of rows costs one pass: n · m · (d +
m/2) multiplications.

    basis = kernel_basis(landmarks)
    sums = merge_kernel_sums([kernel_sums(rows, labels, basis, k) for each block])
    labels = KernelLabels(basis, solve(sums)).label(rows)
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from kmdist.engine.lloyd import predict_rows
from kmdist.recipes.digits.landmarks import Landmarks, attach, vote

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


def kernel_basis(landmarks: np.ndarray) -> KernelBasis:
    """Centres from landmarks, evenly taken; the scale is the mean of their squared distances.

    Parameters
    ----------
    landmarks : (p, d) float32.
    """
    m = min(len(landmarks), MAX_CENTRES)
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


class Model(Protocol):
    """Labels rows; picklable."""

    @property
    def k(self) -> int:
        """Number of clusters."""

    def label(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int32."""


@dataclass(frozen=True)
class CentroidLabels:
    """The nearest centroid, in the units of the rows."""

    centroids: np.ndarray

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centroids)

    def label(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int32."""
        return predict_rows(rows, self.centroids)


@dataclass(frozen=True)
class VoteLabels:
    """The vote of the nearest landmarks.

    Parameters
    ----------
    groups : (p,) cluster of each landmark.
    """

    landmarks: Landmarks
    groups: np.ndarray
    k: int

    def label(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int32."""
        return vote(attach(rows, self.landmarks), self.groups, self.k)


@dataclass(frozen=True)
class KernelLabels:
    """The cluster whose function is largest at each row; ties go to the lowest.

    Parameters
    ----------
    weights : (m, k) float32.
    """

    basis: KernelBasis
    weights: np.ndarray

    @property
    def k(self) -> int:
        """Number of clusters."""
        return self.weights.shape[1]

    def label(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int32."""
        labels = np.empty(len(rows), np.int32)
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            labels[chunk] = (_values(rows[chunk], self.basis) @ self.weights).argmax(axis=1)
        return labels


@dataclass(frozen=True)
class SplitLabels:
    """A model of which one cluster is divided further.

    Parameters
    ----------
    cluster : of `whole`. parts : model of its rows; part 0 keeps the number of the cluster, the
        others follow those of `whole`.
    """

    whole: Model
    cluster: int
    parts: Model

    @property
    def k(self) -> int:
        """Number of clusters."""
        return self.whole.k + self.parts.k - 1

    def label(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int32."""
        labels = self.whole.label(rows)
        inside = np.flatnonzero(labels == self.cluster)
        if inside.size:
            part = self.parts.label(np.ascontiguousarray(rows[inside]))
            labels[inside] = np.where(part == 0, self.cluster, self.whole.k + part - 1)
        return labels


@dataclass(frozen=True)
class Ranked:
    """A model whose clusters are numbered anew.

    Parameters
    ----------
    rank : new number of each cluster of `model`; several may become one.
    """

    model: Model
    rank: np.ndarray

    @property
    def k(self) -> int:
        """Number of clusters."""
        return int(self.rank.max()) + 1

    def label(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int32."""
        return np.asarray(self.rank[self.model.label(rows)], dtype=np.int32)


def arrays_of(model: Model) -> dict[str, Any]:
    """What a run stores of a model, by array name; below ``whole`` and ``parts`` of a split."""
    inner, rank = model, np.arange(model.k)
    while isinstance(inner, Ranked):  # numbers upon numbers become one step
        rank, inner = rank[inner.rank], inner.model
    arrays: dict[str, Any] = {"rank": rank.astype(np.int64)}
    if isinstance(inner, SplitLabels):
        arrays["cluster"] = np.array([inner.cluster])
        arrays |= {"whole": arrays_of(inner.whole), "parts": arrays_of(inner.parts)}
    elif isinstance(inner, CentroidLabels):
        arrays["centroids"] = inner.centroids
    elif isinstance(inner, KernelLabels):
        arrays["centres"] = inner.basis.centres
        arrays["scale"] = np.array([inner.basis.scale])
        arrays["weights"] = inner.weights
    elif isinstance(inner, VoteLabels):
        arrays["groups"] = inner.groups.astype(np.int64)
        arrays["landmarks"] = np.concatenate(inner.landmarks.sets)
        arrays["sizes"] = np.array([len(one) for one in inner.landmarks.sets], dtype=np.int64)
        arrays["scales"] = np.array(inner.landmarks.scales)
        arrays["neighbours"] = np.array([inner.landmarks.neighbours])
    return arrays


def model_of(arrays: dict[str, Any]) -> Ranked:
    """The model that a run has stored; `arrays_of` the other way round."""
    inner: Model
    if "cluster" in arrays:
        whole, parts = model_of(arrays["whole"]), model_of(arrays["parts"])
        inner = SplitLabels(whole, int(arrays["cluster"][0]), parts)
    elif "weights" in arrays:
        basis = KernelBasis(arrays["centres"], float(arrays["scale"][0]))
        inner = KernelLabels(basis, arrays["weights"])
    elif "groups" in arrays:
        edges = np.cumsum(arrays["sizes"])[:-1]
        sets = tuple(np.ascontiguousarray(one) for one in np.split(arrays["landmarks"], edges))
        neighbours = int(arrays["neighbours"][0])
        landmarks = Landmarks(sets, tuple(map(float, arrays["scales"])), neighbours)
        inner = VoteLabels(landmarks, arrays["groups"], len(arrays["rank"]))
    else:
        inner = CentroidLabels(arrays["centroids"])
    return Ranked(inner, arrays["rank"])


ARRAYS = (
    "rank", "centroids", "centres", "scale", "weights", "groups", "landmarks", "sizes", "scales",
    "neighbours", "cluster",
)  # fmt: skip
"""Names that `arrays_of` uses."""
