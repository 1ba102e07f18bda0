"""The Zarr v3 metadata of a run, as text: data types, fill values, chunks, groups, arrays.

Creating a group or an array through zarr-python costs milliseconds each, which many small images
cannot afford; their metadata is a few hundred bytes from a template.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

CHUNK = 1024
"""Side of a chunk of labels, pixels."""

SHARD = 8192
"""Side of a shard, pixels: one file, and one writer."""

SHARD_ABOVE = 16_384
"""An array with a side longer than this is written in shards."""

ZSTD_LEVEL = 3


@dataclass(frozen=True)
class ArraySpec:
    """One array: all that a worker must know to write a part of it.

    Attributes
    ----------
    key : path within the run, '/' separated.
    shape, chunks : per axis; a chunk is the unit of compression.
    shards : per axis, or None where each chunk is an object of its own.
    dtype : NumPy's name of the type.
    fill_value : what a chunk that was never written reads as, and what pads chunks at the edge.
    dimension_names : one per axis.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    dimension_names: tuple[str, ...]
    fill_value: int | float | bool

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of what one object holds, and so of what one writer must write whole."""
        return self.shards or self.chunks


def label_dtype(k: int, marked: bool) -> np.dtype[Any]:
    """Smallest unsigned type for labels 0 … k − 1 and, if `marked`, one value more.

    Returns
    -------
    dtype : uint8 up to 256 values, uint16 up to 65,536, else uint32.

    Raises
    ------
    ValueError : k is not in 1 … 2³² − 1.
    """
    values = k + int(marked)
    if k < 1 or values > 2**32:
        raise ValueError(f"labels of {k} clusters do not exist; k must be 1 to {2**32 - 1:,}")
    for dtype in (np.uint8, np.uint16):
        if values <= np.iinfo(dtype).max + 1:
            return np.dtype(dtype)
    return np.dtype(np.uint32)


def unclustered_value(k: int, marked: bool) -> int | None:
    """The label of pixels that were not clustered: the type's maximum, None if there are none."""
    return int(np.iinfo(label_dtype(k, marked)).max) if marked else None


def array_spec(
    key: str,
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    dimension_names: Sequence[str],
    fill_value: float = 0,
) -> ArraySpec:
    """Check and complete the description of an array.

    Parameters
    ----------
    chunks : per axis, at least 1; one chunk for the whole array if None. Cut to the shape.
    shards : per axis, multiples of the chunks; none if None.

    Raises
    ------
    ValueError : lengths differ, a chunk is not positive, a shard is no multiple of its chunk, or
        the type is not boolean, integer or floating point.
    """
    shape = tuple(int(n) for n in shape)
    zarr_type(np.dtype(dtype))
    whole = tuple(max(n, 1) for n in shape)
    chunks = whole if chunks is None else tuple(int(n) for n in chunks)
    lengths = {len(shape), len(chunks), len(dimension_names), len(shards or shape)}
    if len(lengths) > 1 or any(n < 0 for n in shape) or any(n < 1 for n in chunks):
        raise ValueError(
            f"array {key!r}: shape {shape}, chunks {chunks}, shards {shards} and dimensions "
            f"{tuple(dimension_names)} do not belong together; give one positive size per axis"
        )
    cut = tuple(min(c, n) for c, n in zip(chunks, whole, strict=True))
    if shards is not None:
        shards = tuple(
            min(int(s), math.ceil(n / c) * c) for s, c, n in zip(shards, cut, whole, strict=True)
        )
        if any(s < c or s % c for s, c in zip(shards, cut, strict=True)):
            raise ValueError(f"array {key!r}: shards {shards} are no multiples of chunks {cut}")
    name = np.dtype(dtype).name
    return ArraySpec(key, shape, name, cut, shards, tuple(dimension_names), fill_value)


def label_array(key: str, shape: tuple[int, int], dtype: DTypeLike, fill_value: int) -> ArraySpec:
    """One level of a label map (y, x): chunks of 1,024², shards of 8,192² for long sides."""
    shards = (SHARD, SHARD) if max(shape) > SHARD_ABOVE else None
    return array_spec(
        key,
        shape,
        dtype,
        chunks=(CHUNK, CHUNK),
        shards=shards,
        dimension_names=("y", "x"),
        fill_value=fill_value,
    )


def pyramid_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Shapes of all levels, the image first, each half the last, until one fits in one chunk."""
    shapes = [shape]
    while max(shapes[-1]) > CHUNK:
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return shapes


def group_metadata(attributes: Mapping[str, Any] | None = None) -> bytes:
    """``zarr.json`` of a group."""
    return dump_json({"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})})


def array_metadata(spec: ArraySpec, attributes: Mapping[str, Any] | None = None) -> bytes:
    """``zarr.json`` of an array: zstd with checksum, no shuffle (on labels it only hurts)."""
    return _array_metadata(replace(spec, key=""), dump_json(attributes or {}))


@lru_cache(maxsize=256)
def _array_metadata(spec: ArraySpec, attributes: bytes) -> bytes:
    """The same for all images of a size."""
    dtype = np.dtype(spec.dtype)
    to_bytes: dict[str, Any] = {"name": "bytes"}
    if dtype.itemsize > 1:
        to_bytes["configuration"] = {"endian": "little"}
    zstd = {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": True}}
    codecs: list[dict[str, Any]] = [to_bytes, zstd]
    if spec.shards is not None:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        inner = {
            "chunk_shape": spec.chunks,
            "codecs": codecs,
            "index_codecs": index,
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    return dump_json(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": spec.shape,
            "data_type": zarr_type(dtype),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": spec.unit}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": _fill_json(spec.fill_value, dtype),
            "codecs": codecs,
            "attributes": json.loads(attributes),
            "dimension_names": spec.dimension_names,
            "storage_transformers": [],
        }
    )


def zarr_type(dtype: np.dtype[Any]) -> str:
    """Zarr's name of a NumPy type.

    Raises
    ------
    ValueError : the type has no portable name (objects, strings, records, complex).
    """
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"type {dtype} cannot be stored; give bool, int, uint or float")
    return dtype.name


def plain(value: Any) -> Any:
    """What JSON can hold of a value: NumPy to Python, tuples to lists, NaN and infinity to None.

    Raises
    ------
    TypeError : the value holds something that is none of these.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a run cannot record {value!r} of type {type(value).__name__}")


def dump_json(value: Any) -> bytes:
    """Compact JSON in ASCII: file names that are no Unicode survive as escapes."""
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False).encode("ascii")


def _fill_json(value: float, dtype: np.dtype[Any]) -> bool | int | float | str:
    if dtype.kind == "b":
        return bool(value)
    if dtype.kind in "iu":
        return int(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)
