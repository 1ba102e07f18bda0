"""k-means over image collections that have outgrown one process.

Names are imported on first use, so that ``kmdist --help`` answers at once and importing
kmdist changes nothing in the process.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES: dict[str, str] = {
    "BisectingKMeans": "kmdist.estimators.bisecting",
    "KMeans": "kmdist.estimators.kmeans",
    "merge_clusters": "kmdist.estimators.merging",
    "open_images": "kmdist.images",
    "open_run": "kmdist.store",
    "digits": "kmdist.recipes.digits.recipe",
    "quantize": "kmdist.recipes.quantize.recipe",
    "responses": "kmdist.filters.responses",
    "segment": "kmdist.recipes.segment.recipe",
    "texture": "kmdist.recipes.texture.recipe",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kmdist' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
