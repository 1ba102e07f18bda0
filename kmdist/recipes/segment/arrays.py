"""Arrays of NumPy, Dask and xarray as inputs: stored once, block by block, and read like files."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import ImageError, UsageError
from kmdist.recipes.segment.model import with_nan

CHUNK = 1024
"""Side of the stored chunks."""


@contextmanager
def stored(inputs: Any) -> Iterator[Any]:
    """Inputs as paths; an array is written to a temporary Zarr array first.

    Raises
    ------
    UsageError : an array of no values or of other than numbers, or an xarray dataset.
    """
    if not hasattr(inputs, "dtype") or not hasattr(inputs, "shape"):
        if hasattr(inputs, "data_vars"):
            raise UsageError("a Dataset: give it as an array of named channels, data.to_array('c')")
        yield inputs
        return
    with tempfile.TemporaryDirectory(prefix="kmdist-") as folder:
        path = Path(folder) / "array.zarr"
        _store(inputs, path)
        yield str(path)


def _store(array: Any, path: Path) -> None:
    import zarr

    from kmdist.recipes.segment.rasters import NODATA_NAMES, require_numbers

    if not all(array.shape):
        raise UsageError(f"an array of shape {array.shape} holds nothing to cluster")
    dtype = np.dtype(array.dtype)
    try:
        require_numbers(dtype)
    except ImageError as error:
        raise UsageError(f"an array with {error.reason}") from error
    names = [str(name) for name in getattr(array, "dims", ())] or None
    attributes: dict[str, Any] = {
        name: np.asarray(array.attrs[name]).tolist()
        for name in NODATA_NAMES
        if name in getattr(array, "attrs", {})
    }
    coordinate = next((n for n in names or () if n in ("c", "channel", "band", "bands")), None)
    if coordinate is not None and coordinate in getattr(array, "coords", {}):
        attributes["filters"] = [str(one) for one in np.asarray(array.coords[coordinate])]
    data = getattr(array, "data", array) if names else array
    if isinstance(getattr(data, "_meta", data), np.ma.MaskedArray):
        dtype = np.result_type(dtype, np.float16)  # which holds its values, and NaN
    target = zarr.create_array(
        path,
        shape=data.shape,
        dtype=dtype,
        chunks=tuple(min(CHUNK, size) for size in data.shape),
        dimension_names=names,
        attributes=attributes,
    )
    if not hasattr(data, "dask"):
        target[...] = with_nan(data)
        return
    for place in np.ndindex(*data.numblocks):
        starts = [sum(data.chunks[axis][:i]) for axis, i in enumerate(place)]
        sizes = [data.chunks[axis][i] for axis, i in enumerate(place)]
        window = tuple(slice(a, a + n) for a, n in zip(starts, sizes, strict=True))
        target[window] = with_nan(data.blocks[place].compute(scheduler="threads"))
