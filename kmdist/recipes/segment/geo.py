"""Rasters that lie on earth: read by GDAL (extra ``kmdist[geo]``), label maps written as TIFF."""

import csv
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import ImageError
from kmdist.images import Window
from kmdist.images.finding.files import file_status, open_regular
from kmdist.images.reading.tiff import whole_page
from kmdist.store import Run, RunImage

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


PLACE_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
"""Scale, tie points, transformation and keys (OGC GeoTIFF 1.1, 19-008r4, section 7)."""
_NODATA_TAG = 42113
TILE = 512
TABLE_NAME = "clusters.csv"


def export_labels(run: Run, folder: Path, stems: Mapping[str, str]) -> None:
    """Write ``STEM.tif`` for each image that lies somewhere on earth, ``STEM.ome.tif`` for each
    volume, and the table of clusters.

    The TIFF holds labels, tiled and deflated, with the colours of the clusters where k ≤ 256, the
    label of pixels without data as GDAL's no-data, and the place tags of the source as they are.
    """
    for name, stem in stems.items():
        image = run.images[name]
        if image.planes:
            how: dict[str, Any] = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}
            _write_tiles(folder / f"{stem}.ome.tif", image, ome=True, **how)
            continue
        place, by_gdal = place_of(image.source), is_gdal(image.source)
        if place or (by_gdal and os.path.exists(image.source)):
            path = folder / f"{stem}.tif"
            _write_labels(path, run, image, place)
            if by_gdal:
                locate(str(path), image.source)
    if run.counts is not None and run.array("channel_mean") is not None:
        (folder / TABLE_NAME).write_text(clusters_csv(run), encoding="utf-8")


def place_of(path: str) -> list[tuple[int, int, int, Any, bool]]:
    """Place tags of a TIFF as `tifffile` takes them; none where it has none or is gone."""
    try:
        with open_regular(path) as file:
            if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return []
            file.seek(0)
            with whole_page(file, file_status(path)[0]) as (_, page):
                tags = [page.tags[code] for code in PLACE_TAGS if code in page.tags]
                return [(t.code, int(t.dtype), t.count, t.value, True) for t in tags]
    except (ImageError, IsADirectoryError):
        return []


def _write_labels(
    path: Path, run: Run, image: RunImage, place: list[tuple[int, int, int, Any, bool]]
) -> None:
    labels = image.labels()
    palette = image.palette if image.palette is not None else run.palette
    how: dict[str, Any] = {"photometric": "minisblack"}
    if labels.dtype == np.uint8 and palette is not None:
        colormap = np.zeros((3, 256), np.uint16)
        colormap[:, : len(palette)] = palette.T.astype(np.uint16) * 257
        how = {"photometric": "palette", "colormap": colormap}
    if image.unclustered is not None:
        text = str(image.unclustered)
        place = [*place, (_NODATA_TAG, 2, len(text) + 1, text, True)]
    _write_tiles(path, image, metadata=None, extratags=place, **how)


def _write_tiles(path: Path, image: RunImage, **how: Any) -> None:
    import tifffile

    labels = image.labels()
    partial = path.with_name(f".{path.name}.part")
    try:
        tifffile.imwrite(
            partial,
            _tiles(image),
            shape=labels.shape,
            dtype=labels.dtype,
            tile=(TILE, TILE),
            compression="zlib",
            bigtiff=labels.nbytes > 2**31,
            **how,
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _tiles(image: RunImage) -> Iterator[np.ndarray]:
    """Tiles of a label map, plane by plane, row by row, those at its edges filled up."""
    for plane in range(max(image.planes, 1)):
        for y in range(0, image.height, TILE):
            band = image.read_labels(0, (slice(y, y + TILE), slice(None)), plane=plane)
            for x in range(0, image.width, TILE):
                part = band[:, x : x + TILE]
                missing = ((0, TILE - part.shape[0]), (0, TILE - part.shape[1]))
                yield np.pad(part, missing, mode="edge")


def clusters_csv(run: Run) -> str:
    """A line a cluster: colour, pixels, share; of each channel mean, deviation and quantiles."""
    counts, palette = np.asarray(run.counts), np.asarray(run.palette)
    mean, sd = np.asarray(run.array("channel_mean")), np.asarray(run.array("channel_sd"))
    names = [str(name) for name in run.attributes.get("channels", ())]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    spread = run.array("channel_quantiles")
    if spread is None:
        spread = np.empty((len(counts), 0, len(names)))
    shares = [f"q{share:g}" for share in run.attributes.get("quantiles", ())]
    columns = [f"{name} {what}" for name in names for what in ("mean", "sd", *shares)]
    writer.writerow(["cluster", "color", "pixels", "share", *columns])
    total = max(int(counts.sum()), 1)
    for number in range(len(counts)):
        of_channels = zip(mean[number], sd[number], *spread[number], strict=True)
        values = [f"{one:.9g}" for channel in of_channels for one in channel]
        color = "#" + bytes(palette[number].tolist()).hex()
        share = f"{counts[number] / total:.6f}"
        writer.writerow([number, color, int(counts[number]), share, *values])
    return text.getvalue()
