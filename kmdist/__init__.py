"""k-means over image collections that have outgrown one process.

Names are imported on first use, so that ``kmdist --help`` answers at once and importing
kmdist changes nothing in the process.
"""

from lazy_loader import attach

__version__ = "0.1.0"

# The types of these names are in __init__.pyi, which docs/generated_files.py writes.
SUBMODULES = ("cluster", "errors", "filters", "images", "nightly")
PLACES = {
    "errors": ["ImageError", "KmdistError", "UsageError"],
    "estimators.bisecting": ["BisectingKMeans"],
    "estimators.kmeans": ["KMeans"],
    "estimators.merging": ["merge_clusters"],
    "estimators.selection": ["select_k"],
    "filters.responses": ["responses"],
    "images": ["open_images"],
    "pictures.export": ["export"],
    "pictures.extract": ["extract"],
    "pictures.view": ["draw_bank", "view"],
    "recipes.digits.recipe": ["digits"],
    "recipes.digits.tree": ["merge", "split"],
    "recipes.predict": ["predict"],
    "recipes.quantize.recipe": ["quantize"],
    "recipes.segment.recipe": ["segment"],
    "recipes.texture.recipe": ["texture"],
    "pages.run_report": ["report"],
    "store": ["Run", "RunImage", "open_run"],
}

__getattr__, __dir__, __all__ = attach(__name__, SUBMODULES, PLACES)
