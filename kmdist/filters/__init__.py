"""Filter banks and their responses on one tile: NumPy and SciPy, no Dask, no files."""

import kmdist.kernel_cache  # noqa: F401  before kernels are decorated
from kmdist.filters.banks import FilterBank, gabor, leung_malik
from kmdist.filters.tiles import (
    Piece,
    grey,
    pieces,
    read_window,
    reflected,
    tile_responses,
    with_halo,
)

__all__ = [
    "FilterBank",
    "Piece",
    "gabor",
    "grey",
    "leung_malik",
    "pieces",
    "read_window",
    "reflected",
    "tile_responses",
    "with_halo",
]
