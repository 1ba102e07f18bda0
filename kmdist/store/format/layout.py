"""The Zarr v3 metadata of a run's arrays and groups as text, and their chunks and shards as bytes.

Creating a group or an array through zarr-python costs milliseconds each, which many small images
cannot afford; their metadata is a few hundred bytes from a template. The bytes are those of Zarr
v3's codecs ``bytes``, ``zstd`` (with checksum), ``sharding_indexed`` and ``crc32c``, made here as
well: one small image is then written in milliseconds, the bytes depend on the data alone, and
workers need no event loop.

Every write is of whole chunks, or whole shards, because two writers of one object lose data
without a warning (dask issue 12583, zarr-python issue 3682): anything else is refused.
"""

import itertools
import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kmdist.store.targets import Target

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
    return np.min_scalar_type(values - 1)


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


def label_array(
    key: str, shape: tuple[int, int], dtype: DTypeLike, fill_value: int, planes: int = 0
) -> ArraySpec:
    """One level of a label map (y, x): chunks of 1,024², shards of 8,192² for long sides.

    Parameters
    ----------
    planes : of a volume, whose map is (z, y, x) in chunks of one plane; 0: of a picture.
    """
    sharded, several = max(shape) > SHARD_ABOVE, planes > 0
    return array_spec(
        key,
        (planes, *shape) if several else shape,
        dtype,
        chunks=(1, CHUNK, CHUNK)[not several :],
        shards=(1, SHARD, SHARD)[not several :] if sharded else None,
        dimension_names=("z", "y", "x")[not several :],
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


_ABSENT = np.iinfo(np.uint64).max
_OF_THREAD = threading.local()


def write_region(
    target: Target, spec: ArraySpec, origin: Sequence[int], values: NDArray[Any]
) -> None:
    """Write a part of an array that consists of whole chunks (whole shards if it has them).

    Parameters
    ----------
    origin : first index per axis, a multiple of the chunk (shard).
    values : of the array's type; each axis a multiple of the chunk (shard), or up to the array's
        end.

    Raises
    ------
    ValueError : the region is not aligned, lies outside, or the type differs.
    """
    check_region(spec, origin, values.shape)
    if values.dtype != np.dtype(spec.dtype):
        raise ValueError(f"array {spec.key!r} holds {spec.dtype}, got {values.dtype}")
    for index, part in _units(spec.unit, values):
        grid = [o // u + i for o, u, i in zip(origin, spec.unit, index, strict=True)]
        target.put("/".join([spec.key, "c", *map(str, grid)]), _encode_unit(spec, part))


def check_region(spec: ArraySpec, origin: Sequence[int], shape: Sequence[int]) -> None:
    """Refuse a region that is not made of whole chunks (shards).

    Raises
    ------
    ValueError : with the region, the unit and the array's shape.
    """
    aligned = len(origin) == len(shape) == len(spec.shape) and all(
        o % u == 0 and n >= 0 and o + n <= size and (n % u == 0 or o + n == size)
        for o, n, u, size in zip(origin, shape, spec.unit, spec.shape, strict=True)
    )
    if not aligned:
        raise ValueError(
            f"array {spec.key!r}: a part of shape {tuple(shape)} at {tuple(origin)} does not "
            f"consist of whole {'shards' if spec.shards else 'chunks'} of {spec.unit} within "
            f"{spec.shape}; parts must begin at multiples of these and end at multiples or at the "
            "array's end, since two writers of one object would lose data"
        )


def encode_chunk(values: NDArray[Any], shape: tuple[int, ...], fill_value: float) -> bytes:
    """One chunk: padded with the fill value at the array's edge, little-endian, zstd."""
    if values.shape != shape:
        padded = np.full(shape, fill_value, dtype=values.dtype)
        padded[tuple(slice(n) for n in values.shape)] = values
        values = padded
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return _compressor().compress(little)


def _compressor() -> Any:
    """This thread's compressor: making one anew for every chunk costs a third more time."""
    from zstandard import ZstdCompressor

    if not hasattr(_OF_THREAD, "compressor"):
        _OF_THREAD.compressor = ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
    return _OF_THREAD.compressor


def _encode_unit(spec: ArraySpec, values: NDArray[Any]) -> bytes:
    if spec.shards is None:
        return encode_chunk(values, spec.chunks, spec.fill_value)
    return _encode_shard(spec, spec.shards, values)


def _encode_shard(spec: ArraySpec, shards: tuple[int, ...], values: NDArray[Any]) -> bytes:
    """Chunks one after another in C order, then their offsets and lengths, then CRC-32C."""
    from google_crc32c import value as crc32c

    grid = tuple(s // c for s, c in zip(shards, spec.chunks, strict=True))
    index = np.full((*grid, 2), _ABSENT, dtype="<u8")
    parts: list[bytes] = []
    offset = 0
    for position, part in _units(spec.chunks, values):
        data = encode_chunk(part, spec.chunks, spec.fill_value)
        index[position] = offset, len(data)
        offset += len(data)
        parts.append(data)
    table = index.tobytes()
    return b"".join([*parts, table, crc32c(table).to_bytes(4, "little")])


def _units(
    unit: tuple[int, ...], values: NDArray[Any]
) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Cut into units: (position in units, view)."""
    counts = [-(-n // u) for n, u in zip(values.shape, unit, strict=True)]
    for index in itertools.product(*map(range, counts)):
        yield (
            index,
            values[tuple(slice(i * u, (i + 1) * u) for i, u in zip(index, unit, strict=True))],
        )
