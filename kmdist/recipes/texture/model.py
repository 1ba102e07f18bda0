"""What a texture run learns: features, textons, projection, centroids; and how it is stored.

Arrays beside ``centroids`` (cluster, component): ``feature_mean`` (feature) and
``feature_projection`` (feature, component); with textons also ``textons`` (texton, modulus),
``texton_mean`` (modulus) and ``texton_scale`` (modulus). Attribute ``features`` says what is
measured. That is all that labels of new images need.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from kmdist.engine.fits import FitOptions, fit_clusters
from kmdist.errors import UsageError
from kmdist.filters import FilterBank, leung_malik
from kmdist.filters.cell_labels import Scorer
from kmdist.filters.cells import CELL
from kmdist.filters.features import PRESETS, TextureFeatures
from kmdist.filters.statistics import FeatureSums, Projection, identity, standardise
from kmdist.filters.tutorial import BANK as TUTORIAL_BANK
from kmdist.job.memory import DECODE_BYTES

TUTORIAL = "tutorial"
PRESET_NAMES = (*PRESETS, TUTORIAL)
DEFAULT_PRESET = "textons"
SPACE = "texture"
"""Of centroids, as runs name it."""

PIXEL_BYTES = 8
"""A pixel being filtered: RGB, padded RGB, mask."""

SETTABLE = tuple(one.name for one in fields(TextureFeatures) if one.name != "bank")
"""Numbers of a preset that a job may change."""

EARLIER = {name: {"color_px": 8.0} for name in PRESETS}
EARLIER["color+texture"] |= {"pool_px": 14.0, "color_weight": 0.8, "edge": 0.0}
"""What presets measured with in runs that name no numbers."""


@dataclass(frozen=True)
class Texture:
    """What is measured.

    Parameters
    ----------
    preset : one of `PRESET_NAMES`.
    scales : of the Leung-Malik bank, ``linear`` or ``published``.
    options : changed numbers of the preset, (name, value).
    """

    preset: str = DEFAULT_PRESET
    scales: str = "linear"
    options: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.preset not in PRESET_NAMES:
            raise UsageError(
                f"preset {self.preset!r} is not known; allowed: {', '.join(PRESET_NAMES)}"
            )
        if self.scales not in ("linear", "published"):
            raise UsageError(f"scales {self.scales!r}: must be linear or published")
        if self.scales != "linear" and self.preset != "lm":
            raise UsageError(f"scales {self.scales!r} goes with the preset lm, not {self.preset}")
        unknown = [name for name, _ in self.options if name not in SETTABLE]
        if unknown or (self.options and self.is_tutorial):
            raise UsageError(
                f"the preset {self.preset} has nothing to set by {unknown or list(self.options)}"
            )
        if not self.is_tutorial:
            _ = self.features

    @property
    def is_tutorial(self) -> bool:
        """Whether rows are 8-bit responses of pixels instead of features of cells."""
        return self.preset == TUTORIAL

    @property
    def features(self) -> TextureFeatures:
        """The features of cells.

        Raises
        ------
        UsageError : numbers that do not go together.
        """
        features = PRESETS[self.preset]
        if self.scales == "published":
            features = TextureFeatures(leung_malik(scales="published"))
        try:
            return replace(features, **dict(self.options))  # type: ignore[arg-type]
        except ValueError as error:
            raise UsageError(f"preset {self.preset}: {error}") from error

    @property
    def has_textons(self) -> bool:
        """Whether features are histograms of textons."""
        return not self.is_tutorial and self.features.textons > 0

    @property
    def bank(self) -> FilterBank:
        """The filters."""
        return TUTORIAL_BANK if self.is_tutorial else self.features.bank

    @property
    def cell_px(self) -> int:
        """Side of what has a row: a cell, or a pixel."""
        return 1 if self.is_tutorial else CELL

    @property
    def depth(self) -> int:
        """Numbers measured per cell or pixel."""
        return len(TUTORIAL_BANK) if self.is_tutorial else self.features.depth

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of these."""
        return np.dtype(np.uint8 if self.is_tutorial else np.float32)

    @property
    def row_bytes(self) -> int:
        """Of a cell or pixel."""
        return self.depth * self.dtype.itemsize

    @property
    def bytes_per_pixel(self) -> float:
        """Of the features, between fit and labelling."""
        return self.row_bytes / self.cell_px**2

    @property
    def measuring_bytes(self) -> float:
        """Of a pixel while it is measured: read, in grey and padded, its features twice."""
        moduli = 0.0 if self.is_tutorial else 4 * self.features.bank.n_features / 16
        return DECODE_BYTES + PIXEL_BYTES + 2 * max(self.bytes_per_pixel, moduli)

    def project(self, sums: FeatureSums) -> Projection:
        """The projection of features whose sums over all rows are known."""
        return identity(self.depth) if self.is_tutorial else self.features.project(sums)

    def projected(self, rows: np.ndarray, projection: Projection) -> np.ndarray:
        """Rows (n, depth) as they are clustered: (n, m), of the walk-through as they are."""
        return rows if self.is_tutorial else projection.apply(rows)

    def record(self) -> dict[str, Any]:
        """As a run's attributes hold it: all numbers, so that a preset may get better ones."""
        numbers = {} if self.is_tutorial else {n: getattr(self.features, n) for n in SETTABLE}
        return {
            "preset": self.preset,
            "scales": self.scales,
            "options": dict(self.options),
            "numbers": numbers,
        }

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> "Texture":
        """From a run's attributes."""
        preset = str(record["preset"])
        options = record.get("options") or {}
        numbers = record.get("numbers") or {**EARLIER.get(preset, {}), **options}
        shipped = vars(PRESETS[preset]) if preset in PRESETS else {}
        changed = (one for one in numbers.items() if one not in shipped.items())
        return Texture(
            preset, str(record.get("scales", "linear")), tuple(sorted({*options.items(), *changed}))
        )


@dataclass(frozen=True)
class Textons:
    """Textons and the space they lie in.

    Parameters
    ----------
    projection : of moduli.
    centroids : (n, d) float32.
    """

    projection: Projection
    centroids: np.ndarray

    @property
    def scorer(self) -> Scorer:
        """Finds the nearest texton."""
        return Scorer.of(self.projection, self.centroids)


ARRAYS: dict[str, tuple[str, ...]] = {
    "centroids": ("cluster", "component"),
    "feature_mean": ("feature",),
    "feature_projection": ("feature", "component"),
    "textons": ("texton", "modulus"),
    "texton_mean": ("modulus",),
    "texton_scale": ("modulus",),
}
"""Dimensions of what a run stores of a model."""


@dataclass(frozen=True)
class TextureModel:
    """All that labelling an image takes, for one k.

    Parameters
    ----------
    texture : what is measured.
    textons : where it has textons.
    projection : of features.
    centroids : (k, m) float32 in the projected space.
    """

    texture: Texture
    textons: Textons | None
    projection: Projection
    centroids: np.ndarray

    @property
    def scorer(self) -> Scorer:
        """Finds the nearest centroid."""
        return Scorer.of(self.projection, self.centroids)

    def arrays(self) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
        """Arrays of the run with the names of their dimensions."""
        found = {
            "centroids": self.centroids,
            "feature_mean": self.projection.mean,
            "feature_projection": self.projection.matrix,
        }
        if self.textons is not None:
            projection = self.textons.projection
            found["textons"] = self.textons.centroids
            found["texton_mean"] = projection.mean
            found["texton_scale"] = np.diag(projection.matrix).copy()
        return {name: (values, ARRAYS[name]) for name, values in found.items()}

    @staticmethod
    def of_run(run: Any) -> "TextureModel":
        """The model of a published run of one k.

        Raises
        ------
        UsageError : it has none for new images.
        """
        texture = Texture.of_record(run.attributes.get("features") or {})
        arrays = run.arrays(ARRAYS)
        if not {"centroids", "feature_mean", "feature_projection"} <= arrays.keys():
            raise UsageError(
                f"{run.path} has clusters for each image and none for new ones; make the model "
                "with --shared"
            )
        textons = None
        if "textons" in arrays:
            scale = np.diag(arrays["texton_scale"]).astype(np.float32)
            textons = Textons(Projection(arrays["texton_mean"], scale), arrays["textons"])
        projection = Projection(arrays["feature_mean"], arrays["feature_projection"])
        return TextureModel(texture, textons, projection, arrays["centroids"])


TEXTON_ROWS = 8_192
"""Cells that textons are fitted to; 16,384 give the same adjusted Rand index (0.900, 0.897)."""
TEXTON_ITERATIONS = 10
"""After seeding; 5 lose 0.005 of the adjusted Rand index, 300 gain nothing."""


def fit_textons(texture: Texture, sums: FeatureSums, sample: np.ndarray, seed: int) -> Textons:
    """Textons of an image or a collection, from sums over all its cells and a sample of them.

    Parameters
    ----------
    sums : of moduli.
    sample : (n, d) float32 moduli.
    """
    projection = standardise(sums)
    options = FitOptions(max_iter=TEXTON_ITERATIONS, seed=seed)
    clusters = fit_clusters(projection.apply(sample), texture.features.textons, options)
    return Textons(projection, clusters.centroids)
