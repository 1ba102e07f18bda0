"""Chunks and shards as bytes, and writing an aligned part of an array straight to a target.

The bytes are those of Zarr v3's codecs ``bytes``, ``zstd`` (with checksum), ``sharding_indexed``
and ``crc32c``. They are made here, not by zarr-python: one small image is then written in
milliseconds, the bytes depend on the data alone, and workers need no event loop.

Every write is of whole chunks, or whole shards, because two writers of one object lose data
without a warning (dask issue 12583, zarr-python issue 3682): anything else is refused.
"""

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.store.format.layout import ZSTD_LEVEL, ArraySpec
from kmdist.store.targets.local import Target

_ABSENT = np.iinfo(np.uint64).max
_OF_THREAD = threading.local()


def write_region(
    target: Target, spec: ArraySpec, origin: Sequence[int], values: NDArray[Any]
) -> int:
    """Write a part of an array that consists of whole chunks (whole shards if it has them).

    Parameters
    ----------
    origin : first index per axis, a multiple of the chunk (shard).
    values : of the array's type; each axis a multiple of the chunk (shard), or up to the array's
        end.

    Returns
    -------
    int : bytes stored.

    Raises
    ------
    ValueError : the region is not aligned, lies outside, or the type differs.
    """
    check_region(spec, origin, values.shape)
    if values.dtype != np.dtype(spec.dtype):
        raise ValueError(f"array {spec.key!r} holds {spec.dtype}, got {values.dtype}")
    stored = 0
    for index, part in _units(spec.unit, values):
        grid = [o // u + i for o, u, i in zip(origin, spec.unit, index, strict=True)]
        data = _encode_unit(spec, part)
        target.put("/".join([spec.key, "c", *map(str, grid)]), data)
        stored += len(data)
    return stored


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
