"""Zarr arrays and OME-Zarr images as inputs, read by window."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import ImageError
from kmdist.images.blocks import Window
from kmdist.images.finding.formats import is_zarr, multiscales, zarr_metadata
from kmdist.images.pixels import Pixels, decoded_dtype, widen
from kmdist.images.reading.zarr_trees import open_guarded, require_stored, tree_status
from kmdist.images.source import Header, ImageSource

SEGMENT_PIXELS = 1 << 26
"""Chunks up to this size are read by window: a window decodes all it touches."""


@dataclass(frozen=True)
class Plane:
    """Where the picture lies: an array inside a Zarr node, and its axes, one letter each."""

    inside: str
    axes: str


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
        plane = _plane(Path(path))
        array = _open(path, plane)
        require_stored(array, status.files, max_pixels * 4)
    except ImageError:
        raise
    except Exception as error:  # damaged metadata fails in ways of its own
        raise _corrupt(error) from error
    sizes = dict(zip(plane.axes, array.shape, strict=True))
    channels = sizes.get("c", 1)
    if channels not in (1, 3, 4):
        raise ImageError("channels", f"{channels} channels; 1, 3 or 4 are allowed")
    others = [size for axis, size in sizes.items() if axis not in "yxc"]
    chunk = math.prod(
        size for axis, size in zip(plane.axes, array.chunks, strict=True) if axis != "c"
    )
    if chunk > max(SEGMENT_PIXELS, max_pixels):
        raise ImageError(
            "too_large",
            f"chunks of shape {array.chunks}, of which the least bit takes all: more than the "
            f"{max_pixels:,} px allowed for an image decoded whole: raise --max-pixels, or store "
            "smaller chunks",
        )
    header = Header(
        width=sizes["x"],
        height=sizes["y"],
        channels=channels,
        dtype=decoded_dtype(array.dtype, "Zarr"),
        decoder="zarr",
        windowed=chunk <= SEGMENT_PIXELS,
        pages=math.prod(others),
    )
    return header, (int(array.nbytes), status.mtime_ns, status.ctime_ns)


def read_zarr(source: ImageSource, window: Window) -> Pixels:
    """Read a window of a Zarr image as (y, x, c).

    Raises
    ------
    ImageError : a chunk is damaged or cannot be read.
    """
    try:
        plane = _plane(Path(source.path))
        place = {"y": slice(window.y0, window.y1), "x": slice(window.x0, window.x1)}
        index = tuple(place.get(axis, slice(None) if axis == "c" else 0) for axis in plane.axes)
        pixels = np.asarray(_open(source.path, plane, source.ctime_ns)[index])
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # codecs and stores fail in ways of their own
        raise _corrupt(error) from error
    left = [axis for axis in plane.axes if axis in "yxc"]
    pixels = pixels.transpose([left.index(axis) for axis in "yxc" if axis in left])
    return np.ascontiguousarray(widen(pixels if pixels.ndim == 3 else pixels[:, :, None]))


def _open(path: str, plane: Plane, ctime_ns: int = -1) -> Any:
    array = open_guarded(path, plane.inside, ctime_ns)
    if not hasattr(array, "chunks"):
        raise ImageError("unsupported", f"{plane.inside or 'it'} is a Zarr group, and no array")
    return array


def _plane(path: Path) -> Plane:
    """The array of full resolution and its axes.

    Raises
    ------
    ImageError : unsupported, or missing.
    """
    if not is_zarr(path):
        code = "not_regular" if path.is_dir() else "missing"
        raise ImageError(code, "a folder where an image is expected" if path.is_dir() else "gone")
    node = zarr_metadata(path)
    if node.get("node_type") == "array":
        plane = Plane("", _array_axes(str(path)))
    else:
        scales = multiscales(node.get("attributes", {}))
        if not scales:
            raise ImageError(
                "unsupported", "a Zarr group without OME-Zarr multiscales: name an image within it"
            )
        inside = str(scales[0]["datasets"][0]["path"])
        named = [axis["name"] if isinstance(axis, dict) else axis for axis in scales[0]["axes"]]
        plane = Plane(inside, "".join(name[:1] for name in named))
    if not {"y", "x"} <= set(plane.axes) or len(set(plane.axes)) != len(plane.axes):
        raise ImageError("unsupported", f"a Zarr image with axes {plane.axes}; y and x are needed")
    return plane


def _array_axes(path: str) -> str:
    """Axes of a plain array: (y, x), (y, x, c), or (c, y, x) where only that makes sense."""
    shape = open_guarded(path).shape
    if len(shape) == 2:
        return "yx"
    if len(shape) == 3:
        return "cyx" if shape[-1] not in (1, 3, 4) and shape[0] in (1, 3, 4) else "yxc"
    raise ImageError("unsupported", f"a Zarr array of shape {shape}; (y, x) or (y, x, c) is needed")


def _corrupt(error: Exception) -> ImageError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return ImageError("corrupt", f"corrupt Zarr: {said}")
