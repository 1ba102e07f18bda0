"""From images to rows and on to clusters: what a digits run fits, predicts and stores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from kmdist.engine.components import Projection, project
from kmdist.engine.passes import one_blas_thread
from kmdist.errors import ImageError, UsageError
from kmdist.images import Found
from kmdist.images.pixels import full_scale
from kmdist.recipes.digits.features import SIZE_PX, deskew_tutorial, gradient_maps, normalise
from kmdist.recipes.digits.labellers import ARRAYS, Ranked, model_of
from kmdist.recipes.digits.stacks import open_stack
from kmdist.recipes.digits.stacks.arrays import MAX_PIXELS, levels_of
from kmdist.recipes.digits.stacks.stack import light_ink
from kmdist.store.reader import interpreting
from kmdist.store.run_arrays import RunRecord, validated

_CHUNK_IMAGES = 512


@dataclass(frozen=True)
class Preset:
    """How images become rows and rows become clusters.

    Parameters
    ----------
    images : ``raw``, ``deskew`` or ``normalise``: what is done to each image.
    components : of the gradient features; 0: the pixels are the rows.
    sets, neighbours : of landmarks; 0 sets: plain k-means.
    rows_each, per_cluster : see `kmdist.recipes.digits.landmarks.landmark_count`.
    relabelled : rounds of `kmdist.recipes.digits.labellers`.

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

    @property
    def row_dtype(self) -> str:
        """Type of the rows of images like those that are fitted."""
        return "float32" if self.preset.components else self.dtype

    def side(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what `prepared` makes of images of this height and width."""
        return (SIZE_PX, SIZE_PX) if self.preset.images == "normalise" else (height, width)

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


def _stored(run: Any, group: str) -> dict[str, Any]:
    """The arrays that a run stores of a model, a split's parts included."""
    found = {name: run.array(f"{group}/{name}") for name in ARRAYS}
    arrays = {name: values for name, values in found.items() if values is not None}
    if "cluster" in arrays:
        arrays |= {name: _stored(run, f"{group}/{name}") for name in ("whole", "parts")}
    return arrays


class ClassMaps(Struct):
    """The class that each cluster stands for, by two rules, and the share of the commonest one."""

    majority: list[int]
    hungarian: list[int]
    majority_share: list[float] = []


class DigitRecord(RunRecord, kw_only=True):
    """What is recorded of a run of digits."""

    preset: str | None = None
    image_dtype: str | None = None
    image_size: tuple[int, int] | None = None
    dark_ink: bool | None = None
    class_names: list[str] | None = None
    maps: ClassMaps | None = None


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
        UsageError : the run does not hold what labels images.
        """
        record = validated(run.path, run.attributes, DigitRecord)
        arrays = _stored(run, "labelling")
        preset = PRESETS.get(str(record.get("preset")))
        if preset is None or "rank" not in arrays or "image_dtype" not in record:
            raise UsageError(
                f"{run.path} is a run of {run.recipe} without clusters of characters; fit some "
                "with kmdist digits"
            )
        projection = None
        mean, matrix = run.array("model/mean"), run.array("model/matrix")
        if mean is not None and matrix is not None:
            projection = Projection(mean, np.ascontiguousarray(matrix))
        describer = Describer(preset, str(record["image_dtype"]), projection)
        width, height = record["image_size"]
        with interpreting(run):
            if not 0 < width * height <= MAX_PIXELS:
                raise ValueError(f"images of {width} × {height} px")
            model = cls(describer, model_of(arrays), (width, height), bool(record["dark_ink"]))
            # Whether the arrays of a model fit together shows when it labels: here a blank image.
            if not 0 <= model.label(np.zeros((1, height, width), describer.dtype))[0] < model.k:
                raise ValueError("labels are no clusters")
        return model

    @property
    def k(self) -> int:
        """Number of clusters."""
        return self.labelling.k

    def label(self, pixels: np.ndarray) -> np.ndarray:
        """Labels (n,) int32 of images (n, h, w) with ink and paper as the run's own had them."""
        images = light_ink(np.ascontiguousarray(pixels), self.dark_ink)
        with one_blas_thread():
            return self.labelling.label(self.describer.rows(images))


def label_stack(model: DigitModel, images: Any) -> NDArray[np.int32]:
    """Label images of characters as the run of a model labelled its own.

    Parameters
    ----------
    images : (n, h, w) in NumPy or Dask, or what names a stack; see
        `kmdist.recipes.digits.stacks.open_stack`.

    Returns
    -------
    (n,) int32

    Raises
    ------
    UsageError : not an array (n, h, w), or images of another size than the run's.
    KmdistError : a file cannot be used; names it.
    """
    width, height = model.size
    if isinstance(images, str | Path | list | tuple) and not _is_numbers(images):
        stack, rejected = open_stack(images, size=model.size)
        for one in rejected:
            raise ImageError(one.code, f"{one.image}: {one.reason}")
        values = stack.read(0, stack.n)
    else:
        values = np.asarray(images)
    if values.ndim != 3 or values.shape[1:] != (height, width):
        raise UsageError(
            f"images are an array (n, {height}, {width}), as the run has them; received shape "
            f"{values.shape}"
        )
    if values.dtype.kind not in "uifb":
        raise UsageError(f"images are {values.dtype}; expected real numbers")
    if str(values.dtype) != model.describer.dtype:
        values = levels_of("images", [values]).of(values)
    return model.label(values)


def _is_numbers(images: Any) -> bool:
    return (
        not isinstance(images, str | Path)
        and bool(images)
        and not isinstance(images[0], str | Path | Found)
    )
