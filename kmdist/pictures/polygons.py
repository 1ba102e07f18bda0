"""Regions of label maps as polygons: GeoJSON that GIS programs open; needs ``kmdist[geo]``."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import UsageError
from kmdist.images import Window
from kmdist.images.color import hex_color
from kmdist.pictures.output_files import replacing
from kmdist.pictures.run_pictures import RunPicture
from kmdist.store import Run


def require_polygons(run: Run) -> None:
    """Refuse runs of which no polygons can be made, before anything is written.

    Raises
    ------
    UsageError : rasterio is not installed, or an image is a volume.
    """
    if find_spec("rasterio") is None:
        raise UsageError("--polygons needs rasterio: pip install 'kmdist[geo]'")
    first = run.fits[0]
    volumes = [name for name in first.images if first.images[name].planes]
    if volumes:
        raise UsageError(f"--polygons: {volumes[0]} is a volume; polygons are of pictures")


def write_polygons(path: Path, picture: RunPicture, placed: Path, min_area: float) -> None:
    """Write a polygon for each region of one cluster that hangs together by sides of pixels.

    Coordinates are those of the reference system of the source, which the member ``crs`` names
    (GeoJSON of 2008): RFC 7946 knows longitude and latitude alone, and moving corners of pixels
    there would leave gaps. Of images that lie nowhere they are columns and rows. Regions without
    data have no polygon.

    Parameters
    ----------
    placed : the label map as GeoTIFF; need not be there.
    min_area : of polygons that are written, in squared units of the reference system, or pixels.
    """
    import rasterio

    head: dict[str, Any] = {"type": "FeatureCollection", "name": path.stem}
    if placed.exists():
        with rasterio.open(placed) as raster:
            if raster.crs:
                code = raster.crs.to_epsg()
                name = f"urn:ogc:def:crs:EPSG::{code}" if code else raster.crs.to_wkt()
                head["crs"] = {"type": "name", "properties": {"name": name}}
            _write(
                path, head, _features(picture, rasterio.band(raster, 1), raster.transform), min_area
            )
        return
    whole = Window(0, 0, picture.image.height, picture.image.width)
    labels = picture.labels(whole)
    labels = labels.astype(np.int32) if labels.dtype == np.uint32 else labels
    _write(path, head, _features(picture, labels, rasterio.Affine.identity()), min_area)


def _features(picture: RunPicture, labels: Any, transform: Any) -> Iterator[dict[str, Any]]:
    """Polygons in the order of their first pixels, with cluster, colour and area."""
    from rasterio.features import shapes

    for geometry, value in shapes(labels, connectivity=4, transform=transform):
        cluster = int(value)
        if cluster < picture.k:
            color = hex_color(picture.palette[cluster])
            said = {"cluster": cluster, "color": color, "area": _area(geometry["coordinates"])}
            yield {"type": "Feature", "properties": said, "geometry": geometry}


def _area(rings: list[list[tuple[float, float]]]) -> float:
    """Of the first ring without the others, its holes (the surveyor's formula)."""
    areas = []
    for ring in rings:
        x, y = (np.array(ring) - ring[0]).T
        areas.append(abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2)
    return areas[0] - sum(areas[1:])


def _write(
    path: Path, head: dict[str, Any], features: Iterator[dict[str, Any]], min_area: float
) -> None:
    large = (one for one in features if one["properties"]["area"] >= min_area)
    with replacing(path) as file:
        file.write(json.dumps(head)[:-1].encode() + b', "features": [')
        for number, feature in enumerate(large):
            file.write((b",\n" if number else b"\n") + json.dumps(feature).encode())
        file.write(b"\n]}\n")
