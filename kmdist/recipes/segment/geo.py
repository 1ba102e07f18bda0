"""Rasters that GDAL reads, through rasterio: the extra ``kmdist[geo]``."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np

from kmdist.errors import ImageError
from kmdist.images import Window

# That a raster lies nowhere is no fault of it.
warnings.filterwarnings("ignore", message="Dataset has no geotransform")

SUFFIXES = frozenset({".vrt", ".img", ".nc", ".jp2"})


def is_gdal(path: str) -> bool:
    """Whether a file is read by GDAL: by its suffix; JPEG 2000 only if rasterio is installed."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix in SUFFIXES and (suffix != ".jp2" or find_spec("rasterio") is not None)


@contextmanager
def opened_raster(path: str) -> Iterator[Any]:
    """The only picture of a file, as rasterio has it.

    Raises
    ------
    ImageError : unsupported: rasterio is not installed, or there are several; corrupt.
    """
    try:
        import rasterio
    except ImportError as error:
        raise ImageError(
            "unsupported", "rasterio is not installed, which reads it: pip install 'kmdist[geo]'"
        ) from error
    try:
        with rasterio.open(path) as raster:
            inside = list(raster.subdatasets)
            if not inside:
                yield raster
                return
        if len(inside) > 1:
            names = ", ".join(one.rpartition(":")[2] for one in inside[:10])
            raise ImageError("unsupported", f"{len(inside)} pictures in a file ({names})")
        with rasterio.open(inside[0]) as raster:
            yield raster
    except rasterio.errors.RasterioError as error:
        raise ImageError("corrupt", f"GDAL cannot read it: {error}") from error


def locate(path: str, source: str) -> None:
    """Give a TIFF the reference system and the transform of the raster it was made of.

    Raises
    ------
    ImageError : as of `opened_raster`.
    """
    import rasterio

    with opened_raster(source) as raster:
        crs, transform = raster.crs, raster.transform
    with rasterio.open(path, "r+") as made:
        made.crs, made.transform = crs, transform


def mask_place(raster: Any) -> int | None:
    """Band of alpha, the number of bands where there is a mask besides, None: neither."""
    from rasterio.enums import MaskFlags

    flags = raster.mask_flag_enums[0]
    if MaskFlags.per_dataset not in flags:
        return None
    kinds = [str(kind.name) for kind in raster.colorinterp]
    return kinds.index("alpha") if "alpha" in kinds else int(raster.count)


def read_bands(path: str, window: Window) -> np.ndarray:
    """(h, w, c) of a window, and of its mask if there is one."""
    with opened_raster(path) as raster:
        place = (window.y0, window.y1), (window.x0, window.x1)
        bands = raster.read(window=place)
        if mask_place(raster) == raster.count:
            mask = raster.read_masks(1, window=place)
            bands = np.concatenate([bands, mask[None].astype(bands.dtype)])
        return np.moveaxis(bands, 0, -1)
