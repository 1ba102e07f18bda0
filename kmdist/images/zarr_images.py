"""Zarr arrays and OME-Zarr images as inputs, read by window."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import ImageError
from kmdist.images.blocks import Window
from kmdist.images.find import Found
from kmdist.images.source import ImageSource


def is_image(path: Path) -> bool:
    """Whether a Zarr node is an array or an OME-Zarr image, and no run of kmdist."""
    try:
        node = _open(path)
    except Exception:  # not a node that can be opened: not an image
        return False
    return _is_array(node) or bool(_multiscales(node))


def _open(path: str | os.PathLike[str]) -> Any:
    import zarr

    return zarr.open(os.fspath(path), mode="r")


def _is_array(node: Any) -> bool:
    return hasattr(node, "shape")


def _multiscales(node: Any) -> Any:
    attributes = dict(node.attrs)
    return attributes.get("ome", attributes).get("multiscales")


def _array_and_axes(path: str) -> tuple[Any, str]:
    """The full-resolution array and its axes, a letter each."""
    node = _open(path)
    if _is_array(node):
        axes = {2: "yx", 3: "yxc" if node.shape[-1] in (1, 3, 4) else "cyx"}.get(len(node.shape))
        if axes is None:
            raise ImageError("channels", f"Zarr array of shape {node.shape}; (y, x[, c]) is needed")
        return node, axes
    scales = _multiscales(node)
    if not scales:
        raise ImageError("not_image", "a Zarr group without OME-Zarr multiscales")
    array = node[scales[0]["datasets"][0]["path"]]
    axes = "".join(
        (axis["name"] if isinstance(axis, dict) else axis) for axis in scales[0].get("axes", "")
    )
    return array, axes or "tczyx"[-len(array.shape) :]


def probe_zarr(found: Found) -> ImageSource:
    """Read the metadata of a Zarr image.

    Raises
    ------
    ImageError : not (y, x) with 1, 3 or 4 channels, or samples of another type.
    """
    try:
        array, axes = _array_and_axes(found.path)
        sizes = dict(zip(axes, array.shape, strict=True))
        dtype = np.dtype(array.dtype)
    except ImageError:
        raise
    except Exception as error:  # damaged metadata fails in many ways
        raise ImageError("corrupt", f"damaged Zarr: {error or type(error).__name__}") from error
    if "y" not in sizes or "x" not in sizes:
        raise ImageError("unsupported", f"Zarr image with axes {axes}; y and x are needed")
    channels = sizes.get("c", 1)
    if channels not in (1, 3, 4):
        raise ImageError("channels", f"{channels} channels; 1, 3 or 4 are allowed")
    if dtype.kind not in "ufb" or dtype == np.uint64:
        raise ImageError("dtype", f"samples of type {dtype}; unsigned 8 to 32 bit or float")
    pages = int(np.prod([n for axis, n in sizes.items() if axis not in "yxc"], dtype=np.int64))
    return ImageSource(
        found.name,
        found.path,
        sizes["x"],
        sizes["y"],
        channels,
        str(dtype),
        "zarr",
        windowed=True,
        mtime_ns=os.stat(found.path).st_mtime_ns,
        size_bytes=0,
        pages=max(pages, 1),
    )


def read_zarr(source: ImageSource, window: Window | None) -> np.ndarray:
    """Read a window of a Zarr image as (y, x, c).

    Raises
    ------
    ImageError : a chunk is damaged or cannot be read.
    """
    window = window or Window(0, 0, source.height, source.width)
    try:
        array, axes = _array_and_axes(source.path)
        place = {"y": slice(window.y0, window.y1), "x": slice(window.x0, window.x1)}
        index = tuple(place.get(axis, slice(None) if axis == "c" else 0) for axis in axes)
        pixels = np.asarray(array[index])
    except ImageError:
        raise
    except Exception as error:  # codecs and stores fail in their own ways
        raise ImageError("corrupt", f"damaged Zarr: {error or type(error).__name__}") from error
    left = [axis for axis in axes if axis in "yxc"]
    pixels = pixels.transpose([left.index(axis) for axis in "yxc" if axis in left])
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, None])
