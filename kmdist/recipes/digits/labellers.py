"""From rows to clusters: what labels the images of a digits run, and how a run stores it."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kmdist.engine.predict import predict_rows
from kmdist.recipes.digits.landmarks import Landmarks, attach, vote
from kmdist.recipes.digits.relabelling import KernelBasis, relabel


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
    """The largest of k smooth functions.

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
        return relabel(rows, self.basis, self.weights)


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


def ranked_anew(model: Model, rank: np.ndarray) -> Ranked:
    """Number the clusters of a model anew; numbers upon numbers become one step."""
    if isinstance(model, Ranked):
        return Ranked(model.model, rank[model.rank])
    return Ranked(model, rank)


def arrays_of(model: Ranked) -> dict[str, np.ndarray]:
    """What a run stores of a model, by array name; of a split below ``whole/`` and ``parts/``."""
    inner: Any = model.model
    arrays = {"rank": model.rank.astype(np.int64)}
    if isinstance(inner, SplitLabels):
        arrays["cluster"] = np.array([inner.cluster])
        for name in ("whole", "parts"):
            one = getattr(inner, name)
            below = arrays_of(ranked_anew(one, np.arange(one.k)))
            arrays |= {f"{name}/{key}": values for key, values in below.items()}
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


def model_of(arrays: dict[str, np.ndarray]) -> Ranked:
    """The model that a run has stored."""
    inner: Model
    if "cluster" in arrays:
        whole, parts = (model_of(_below(arrays, name)) for name in ("whole", "parts"))
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


def _below(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {
        key.removeprefix(f"{name}/"): values
        for key, values in arrays.items()
        if key.startswith(f"{name}/")
    }


ARRAYS = (
    "rank", "centroids", "centres", "scale", "weights", "groups", "landmarks", "sizes", "scales",
    "neighbours", "cluster",
)  # fmt: skip
"""Names that `arrays_of` uses."""
