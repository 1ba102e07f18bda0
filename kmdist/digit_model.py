"""From images to rows, and from rows to clusters: what a digits run fits, predicts and stores."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kmdist.blas import one_blas_thread
from kmdist.centroid_model import predict_rows
from kmdist.digit_features import deskew_tutorial, gradient_maps, normalise
from kmdist.errors import KmdistError
from kmdist.landmarks import Landmarks, attach, vote
from kmdist.projection import Projection, project
from kmdist.relabel import KernelBasis, relabel
from kmdist.stacks.stack import full_scale, light_ink

_CHUNK_IMAGES = 512


@dataclass(frozen=True)
class Preset:
    """How images become rows and rows become clusters.

    Parameters
    ----------
    images : ``raw``, ``deskew`` or ``normalise``: what is done to each image.
    components : of the gradient features; 0: the pixels are the rows.
    sets, neighbours : of landmarks; 0 sets: plain k-means.
    rows_each, per_cluster : see `kmdist.landmarks.landmark_count`.
    relabelled : rounds of `kmdist.relabel`.

    Notes
    -----
    The numbers were chosen on digits.png and the first 10,000 images of MNIST.
    """

    images: str
    components: int = 0
    sets: int = 0
    neighbours: int = 0
    rows_each: int = 0
    per_cluster: int = 0
    relabelled: int = 0


PRESETS = {
    "raw": Preset("raw"),
    "deskew": Preset("deskew"),
    "gradient": Preset("normalise", components=80),
    "landmark": Preset("normalise", 80, sets=3, neighbours=4, rows_each=20, per_cluster=100),
    "refined": Preset(
        "normalise", 80, sets=3, neighbours=3, rows_each=10, per_cluster=600, relabelled=2
    ),
}

WHITENING = 0.5


@dataclass(frozen=True)
class Describer:
    """Makes rows of images.

    Parameters
    ----------
    preset : which way.
    dtype : of the images that are fitted; where pixels are the rows, others are brought to its
        range.
    projection : of the features, once it is known.
    """

    preset: Preset
    dtype: str
    projection: Projection | None = None

    @property
    def scale(self) -> float:
        """What rows are divided by to be intensities 0 … 1, where they are pixels; else 1."""
        return 1.0 if self.preset.components else full_scale(self.dtype)

    def prepared(self, images: np.ndarray) -> np.ndarray:
        """Images as their rows are made from: deskewed or normalised, where the preset does so."""
        if self.preset.images == "normalise":
            return normalise(images)
        if str(images.dtype) != self.dtype:
            factor = np.float32(full_scale(self.dtype) / full_scale(str(images.dtype)))
            images = images.astype(np.float32) * factor
        return deskew_tutorial(images) if self.preset.images == "deskew" else images

    def features(self, images: np.ndarray) -> np.ndarray:
        """(n, features) before projection."""
        if not self.preset.components:
            prepared = self.prepared(images)
            return np.ascontiguousarray(prepared.reshape(len(images), -1))
        parts = [
            gradient_maps(normalise(images[start : start + _CHUNK_IMAGES]))
            for start in range(0, len(images), _CHUNK_IMAGES)
        ]
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    def rows(self, images: np.ndarray) -> np.ndarray:
        """Rows in the space that is clustered: pixels as stored, or unit vectors of components."""
        if self.projection is None:
            return self.features(images)
        parts = [
            project(
                self.features(images[start : start + _CHUNK_IMAGES]), self.projection, unit=True
            )
            for start in range(0, len(images), _CHUNK_IMAGES)
        ]
        return np.concatenate(parts)


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
    """What a run stores of a model, by array name."""
    inner: Any = model.model
    arrays = {"rank": model.rank.astype(np.int64)}
    if isinstance(inner, CentroidLabels):
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
    if "weights" in arrays:
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
    "neighbours",
)  # fmt: skip
"""Names that `arrays_of` uses."""


@dataclass(frozen=True)
class DigitModel:
    """All that labels new images as a run labelled its own.

    Parameters
    ----------
    size : width and height of the images, pixels.
    dark_ink : whether images are inverted first.
    """

    describer: Describer
    labelling: Ranked
    size: tuple[int, int]
    dark_ink: bool

    @classmethod
    def of_run(cls, run: Any) -> "DigitModel":
        """The model of a run of digits with one k.

        Raises
        ------
        KmdistError : the run does not hold what labels images.
        """
        record = run.attributes
        stored = {name: run.array(f"labelling/{name}") for name in ARRAYS}
        arrays = {name: values for name, values in stored.items() if values is not None}
        preset = PRESETS.get(str(record.get("preset")))
        if preset is None or "rank" not in arrays or "image_dtype" not in record:
            raise KmdistError(f"{run.path} holds nothing that labels images; fit it again")
        projection = None
        mean, matrix = run.array("model/mean"), run.array("model/matrix")
        if mean is not None and matrix is not None:
            projection = Projection(mean, np.ascontiguousarray(matrix))
        describer = Describer(preset, str(record["image_dtype"]), projection)
        width, height = record["image_size"]
        return cls(describer, model_of(arrays), (width, height), bool(record["dark_ink"]))

    def label(self, images: np.ndarray) -> np.ndarray:
        """Labels (n,) int32 of images (n, h, w) with ink and paper as the run's own had them."""
        images = light_ink(np.ascontiguousarray(images), self.dark_ink)
        with one_blas_thread():
            return self.labelling.label(self.describer.rows(images))
