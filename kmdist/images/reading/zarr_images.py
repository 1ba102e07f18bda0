"""Zarr arrays and OME-Zarr images as inputs, read by window."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kmdist.errors import ImageError
from kmdist.images.blocks import Window
from kmdist.images.finding.formats import is_zarr, multiscales, zarr_metadata
from kmdist.images.pixels import Pixels, decoded_dtype, widen
from kmdist.images.reading.axes import (
    Axes,
    axes_of,
    picture_axes,
    require_picture,
    take_window,
)
from kmdist.images.source import Header, ImageSource
from kmdist.store import Grid
from kmdist.store.zarr_trees import open_guarded, require_stored, tree_status

T = TypeVar("T")

SEGMENT_PIXELS = 1 << 26
"""Chunks up to this size are read by window: a window decodes all it touches."""


@dataclass(frozen=True)
class ZarrPicture:
    """The array of full resolution in a Zarr node.

    Parameters
    ----------
    inside : its path within the node.
    axes : names of its axes in lower case, None for those without.
    channels : names of the channels, if there are any.
    multiscale : an OME-Zarr image, whose z and t are planes and time points.
    scale, translation, units : of the axes, if there are any.
    """

    inside: str
    array: Any
    axes: tuple[str | None, ...]
    channels: tuple[str, ...] = ()
    multiscale: bool = False
    scale: tuple[float, ...] = ()
    translation: tuple[float, ...] = ()
    units: tuple[str, ...] = ()


def probe_zarr(path: str, max_pixels: int) -> tuple[Header, tuple[int, int, int]]:
    """Read the metadata of a Zarr image.

    Parameters
    ----------
    max_pixels : up to which an image may be large and store next to nothing.

    Returns
    -------
    header; bytes of its samples, uncompressed, and the newest times in its tree, in ns.

    Raises
    ------
    ImageError : channels, dtype, unsupported, too_large or corrupt.
    """
    try:
        status = tree_status(path)
        picture = open_picture(path)
        axes = _axes(picture)
        array = picture.array
        require_stored(array, status.files, max_pixels * 4)
    except ImageError:
        raise
    except Exception as error:  # damaged metadata fails in ways of its own
        raise ImageError.corrupt("Zarr", error) from error
    channels = 1 if axes.c is None else array.shape[axes.c]
    require_picture(channels, picture.channels)
    chunk = math.prod(size for axis, size in enumerate(array.chunks) if axis != axes.c)
    if chunk > max(SEGMENT_PIXELS, max_pixels):
        raise ImageError(
            "too_large",
            f"chunks of shape {array.chunks}, of which the least bit takes all: more than the "
            f"{max_pixels:,} px allowed for an image decoded whole: raise --max-pixels, or store "
            "smaller chunks",
        )
    header = Header(
        width=array.shape[axes.x],
        height=array.shape[axes.y],
        channels=channels,
        dtype=decoded_dtype(array.dtype, "Zarr"),
        decoder="zarr",
        windowed=chunk <= SEGMENT_PIXELS,
        pages=math.prod(array.shape[axis] for axis, _ in axes.at),
        grid=grid_of(picture, axes),
    )
    return header, (int(array.nbytes), status.mtime_ns, status.ctime_ns)


def read_zarr(source: ImageSource, window: Window) -> Pixels:
    """Read a window of a Zarr image as (y, x, c).

    Raises
    ------
    ImageError : a chunk is damaged or cannot be read.
    """
    try:
        picture = open_picture(source.path, source.ctime_ns)
        pixels = take_window(picture.array, _axes(picture), window)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # codecs and stores fail in ways of their own
        raise ImageError.corrupt("Zarr", error) from error
    return np.ascontiguousarray(widen(pixels))


def open_picture(path: str, ctime_ns: int = -1) -> ZarrPicture:
    """The array of full resolution: the node itself, the first level of an OME-Zarr image, or the
    only picture of a group.

    Raises
    ------
    ImageError : unsupported, missing, not_regular.
    """
    if not is_zarr(path):
        folder = os.path.isdir(path)
        raise ImageError(
            "not_regular" if folder else "missing",
            "a folder where an image is expected" if folder else "gone",
        )
    node = zarr_metadata(Path(path))
    attributes = node.get("attributes", {})
    scales = multiscales(attributes)
    if scales and node.get("node_type") != "array":
        return _multiscale(path, scales[0], attributes, ctime_ns)
    inside = ""
    if node.get("node_type") != "array":
        arrays = [name for name, child in open_guarded(path).arrays() if len(child.shape) >= 2]
        if len(arrays) != 1 or "kmdist" in attributes:
            listed = f": {', '.join(sorted(arrays)[:10])}" if arrays else ""
            raise ImageError(
                "unsupported",
                f"a Zarr group without OME-Zarr multiscales, of {len(arrays)} arrays{listed}; name "
                "an image within it",
            )
        inside = arrays[0]
    array = _array(path, inside, ctime_ns)
    own = dict(array.attrs)
    names = getattr(array.metadata, "dimension_names", None) or own.get("_ARRAY_DIMENSIONS")
    names = names or [None] * array.ndim
    return ZarrPicture(
        inside,
        array,
        tuple(None if name is None else str(name).lower() for name in names),
        tuple(str(name) for name in own.get("filters", ())),
    )


def _multiscale(path: str, scales: Any, attributes: Any, ctime_ns: int) -> ZarrPicture:
    level = scales["datasets"][0]
    array = _array(path, str(level["path"]), ctime_ns)
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in scales["axes"]]
    omero = attributes.get("ome", attributes).get("omero") or attributes.get("omero") or {}
    channels = tuple(str(one.get("label", "")) for one in omero.get("channels", ()))
    found: dict[str, tuple[float, ...]] = {}
    for one in level.get("coordinateTransformations", ()):
        if isinstance(one.get(one.get("type")), list):
            values = tuple(float(value) for value in one[one["type"]])
            if all(map(math.isfinite, values)):  # JSON of labels has no word for what is not
                found[one["type"]] = values
    return ZarrPicture(
        str(level["path"]),
        array,
        tuple(str(name).lower() for name in names),
        channels,
        True,
        found.get("scale", ()),
        found.get("translation", ()),
        tuple(
            str(axis.get("unit", "")) if isinstance(axis, dict) else "" for axis in scales["axes"]
        ),
    )


def grid_of(picture: ZarrPicture, axes: Axes) -> Grid:
    """Where the pixels lie; pixels of one where the image does not say."""

    places = [axis for axis in (axes.z, axes.y, axes.x) if axis is not None]

    def each(values: Sequence[T], default: T) -> tuple[T, ...]:
        known = len(values) == len(picture.array.shape)
        return tuple(values[axis] if known else default for axis in places)

    return Grid(
        each(picture.scale, 1.0),
        each(picture.translation, 0.0),
        each(picture.units, ""),
        0 if axes.z is None else picture.array.shape[axes.z],
    )


def _axes(picture: ZarrPicture) -> Axes:
    """Of a picture; of an OME-Zarr image in the first plane, at the first time point."""
    shape = picture.array.shape
    if picture.multiscale:
        if len(set(picture.axes)) != len(picture.axes) or not {"y", "x"} <= set(picture.axes):
            raise ImageError(
                "unsupported", f"a Zarr image with axes {picture.axes}; y and x are needed"
            )
        return axes_of(shape, picture.axes, chosen={str(name): 0 for name in picture.axes})
    return picture_axes(shape, picture.axes)


def _array(path: str, inside: str, ctime_ns: int) -> Any:
    array = open_guarded(path, inside, ctime_ns)
    if not hasattr(array, "chunks"):
        raise ImageError("unsupported", f"{inside or 'it'} is a Zarr group, and no array")
    return array
