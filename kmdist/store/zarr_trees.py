"""Zarr trees that somebody else wrote, opened so that nothing that lies in them does harm.

Read are regular files inside the tree alone, none larger than what the array's metadata lead to
expect, and compressed ones only after a look at how much they say they hold.
"""

import asyncio
import bz2
import json
import math
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore, WrapperStore

from kmdist.errors import ImageError

MAX_METADATA_BYTES = 1 << 25
"""Of one metadata file: the consolidated ones of 100,000 nodes stay below; parsed they take up to
twenty times as much."""
FREE_SAMPLES = 1 << 24
"""Samples that a chunk may always have, however small the array."""
MAX_TINY_CHUNKS = 1 << 20
"""Of less than `TINY_SAMPLES`: each takes about 50 µs, however little it holds."""
TINY_SAMPLES = 256
MIN_STORED_SHARE = 0.01
"""Of the chunks of an array larger than what may be decoded whole; slides leave out their glass."""
_SLACK_BYTES = 1 << 16
_MAX_AXES = 32
_SHARDING = "sharding_indexed"
_MAX_CODECS = 16
_COMPRESSORS = frozenset(("blosc", "bz2", "gzip", "lz4", "zlib", "zstd"))
"""Of which it is known, before they are run, how much they make of a chunk."""
_CODECS = _COMPRESSORS | {
    "adler32", "astype", "bitround", "bytes", "crc32", "crc32c", "delta", "fixedscaleoffset",
    "fletcher32", "jenkins_lookup3", "packbits", "quantize", "shuffle", "transpose",
}  # fmt: skip


@dataclass(frozen=True)
class TreeStatus:
    """What tells that a tree has changed, from the status of each of its files and folders.

    Parameters
    ----------
    files, size_bytes, mtime_ns : number of files, sum of their sizes, newest modification.
    ctime_ns : newest change of status, of folders as well.
    """

    files: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


def tree_status(path: str | os.PathLike[str]) -> TreeStatus:
    """Walk a tree, links not followed; a folder that cannot be read counts as empty."""
    files = size = mtime = 0
    ctime = os.stat(path).st_ctime_ns
    pending = [os.fspath(path)]
    while pending:
        try:
            with os.scandir(pending.pop()) as children:
                for child in children:
                    status = child.stat(follow_symlinks=False)
                    ctime = max(ctime, status.st_ctime_ns)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(child.path)
                        continue
                    files, size = files + 1, size + status.st_size
                    mtime = max(mtime, status.st_mtime_ns)
        except OSError:
            continue
    return TreeStatus(files, size, mtime, ctime)


class GuardedStore(WrapperStore[LocalStore]):
    """A folder as a store from which only what is harmless is read.

    Parameters
    ----------
    root : of the tree.
    ctime_ns : `TreeStatus.ctime_ns` when it was first looked at: what changed later is refused;
        negative: anything is read.
    """

    def __init__(self, root: str | os.PathLike[str], ctime_ns: int = -1) -> None:
        super().__init__(LocalStore(Path(root), read_only=True))
        self._root, self._ctime_ns = os.path.realpath(root), ctime_ns
        self._largest, self._inflated, self._codec = MAX_METADATA_BYTES, 0, ""
        self._index: tuple[slice, int] | None = None

    def _with_store(self, store: LocalStore) -> "GuardedStore":
        copy = GuardedStore(store.root, self._ctime_ns)
        copy._largest, copy._inflated, copy._codec = self._largest, self._inflated, self._codec
        copy._index = self._index
        return copy

    def expect(self, array: Any) -> None:
        """Hold what is read from now on against an array's metadata."""
        itemsize = array.dtype.itemsize * (8 if array.filters else 1)  # of bytes as float64
        nominal = _product(array.chunks) * itemsize
        stored = _product(array.shards or array.chunks) * itemsize
        index = 16 * stored // max(nominal, 1)  # of a shard: offset and size of each chunk
        self._largest = max(stored + stored // 8 + index + _SLACK_BYTES, 1 << 20)
        self._inflated = nominal + _SLACK_BYTES
        self._codec = next(
            (
                name
                for codec in (*array.compressors, *array.filters)
                for name in _COMPRESSORS
                if name in type(codec).__name__.lower()
            ),
            "",
        )
        if array.shards:
            (sharding,) = (c for c in array.metadata.codecs if hasattr(c, "index_location"))
            sums = sum("crc32c" in type(c).__name__.lower() for c in sharding.index_codecs)
            at_end = sharding.index_location.value == "end"
            n_chunks = _product(array.shards) // _product(array.chunks)
            self._index = slice(-16 * n_chunks - 4 * sums if at_end else 0, None), 2 * n_chunks

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Read a file, or part of it.

        Raises
        ------
        ImageError : not_regular, corrupt or changed.
        """
        self._require_harmless(key)
        value = await self._store.get(key, prototype, byte_range)
        if value is None:
            return None
        if key.rpartition("/")[2] in ("zarr.json", ".zarray"):
            require_harmless_codecs(value.to_bytes())
        elif self._inflated:
            data = memoryview(value.as_buffer_like()).cast("B")
            for part in self._chunks_of(data) if byte_range is None else (data,):
                self._require_small(key, part)
        return value

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        """Read parts of files, each as `get` does."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    def _require_harmless(self, key: str) -> None:
        path = os.path.join(self._root, key)
        real = os.path.realpath(path)
        if real != path and not real.startswith(self._root + os.sep):
            raise ImageError("not_regular", f"{key} is a link that leads out of the Zarr tree")
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            self._require_always_absent(path, key)
            return
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not_regular", f"{key} is no regular file")
        if 0 <= self._ctime_ns < status.st_ctime_ns:
            raise _changed(key)
        if status.st_size > self._largest:
            raise ImageError(
                "corrupt",
                f"corrupt Zarr: {key} has {status.st_size:,} bytes, where the array's metadata "
                f"allow {self._largest:,}",
            )

    def _require_always_absent(self, path: str, key: str) -> None:
        """A chunk that is not stored is all fill, unless it was stored before."""
        folder = os.path.dirname(path)
        while not os.path.isdir(folder) and len(folder) > len(self._root):
            folder = os.path.dirname(folder)
        if 0 <= self._ctime_ns < os.stat(folder).st_ctime_ns:
            raise _changed(key)

    def _chunks_of(self, data: memoryview) -> Iterator[memoryview]:
        """The chunk of a whole file, or those of a whole shard by its index (Zarr v3, codec
        "sharding_indexed": offset and size of each as uint64, all ones where there is none)."""
        if self._index is None:
            yield data
            return
        where, n_values = self._index
        words = data[where][: 8 * n_values]
        index = np.frombuffer(words[: len(words) // 16 * 16], "<u8").reshape(-1, 2)
        for offset, size in index.tolist():
            if offset < len(data):
                yield data[offset : offset + size]

    def _require_small(self, key: str, data: memoryview) -> None:
        holds = _inflated_bytes(self._codec, data, self._inflated)
        if holds > self._inflated:
            raise ImageError(
                "corrupt",
                f"corrupt Zarr: {key} holds more than the {self._inflated:,} bytes of a chunk",
            )


class LookingStore(WrapperStore[Any]):
    """A store that looks, after each read, whether it may still be read."""

    def __init__(self, store: Any, look: Callable[[], None]) -> None:
        super().__init__(store)
        self._look = look

    def _with_store(self, store: Any) -> "LookingStore":
        return type(self)(store, self._look)

    def expect(self, array: Any) -> None:
        """Hold what is read from now on against an array's metadata, where the store can."""
        if hasattr(self._store, "expect"):
            self._store.expect(array)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Read an object, then look."""
        value = await self._store.get(key, prototype, byte_range)
        await asyncio.to_thread(self._look)
        return value

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        """Read parts of objects, then look."""
        values = await self._store.get_partial_values(prototype, key_ranges)
        await asyncio.to_thread(self._look)
        return values


def open_guarded(root: str | os.PathLike[str], inside: str = "", ctime_ns: int = -1) -> Any:
    """Open a Zarr array or group of a tree through a `GuardedStore`.

    Raises
    ------
    ImageError : an array whose chunks are far larger than itself.
    Exception : of zarr-python, where the metadata are damaged.
    """
    store = GuardedStore(root, ctime_ns)
    node = zarr.open(store, path=inside, mode="r", use_consolidated=False)
    if isinstance(node, zarr.Array):
        require_fitting_chunks(node)
        store.expect(node)
    return node


def require_fitting_chunks(array: Any) -> None:
    """Refuse an array whose chunks are far larger than itself, or so small that none can be read
    in its time.

    Raises
    ------
    ImageError : corrupt.
    """
    chunk, samples = _product(array.chunks), _product(array.shape)
    tiny = chunk < TINY_SAMPLES and samples > chunk * MAX_TINY_CHUNKS
    if tiny or chunk > max(FREE_SAMPLES, 4 * samples):
        raise ImageError(
            "corrupt",
            f"corrupt Zarr: chunks of shape {array.chunks} in an array of shape {array.shape}",
        )


def require_stored(array: Any, files: int, max_samples: int) -> None:
    """Refuse an array that says it is huge, and stores next to nothing.

    Parameters
    ----------
    files : in its tree. max_samples : up to which nothing is asked.

    Raises
    ------
    ImageError : too_large.
    """
    samples = _product(array.shape)
    chunks = -(-samples // max(_product(array.shards or array.chunks), 1))
    if samples > max_samples and files < chunks * MIN_STORED_SHARE:
        raise ImageError(
            "too_large",
            f"a Zarr array of shape {array.shape} that stores {files:,} of {chunks:,} chunks: more "
            f"than {max_samples:,} samples are read only where they are stored",
        )


def _changed(key: str) -> ImageError:
    return ImageError("changed", f"changed while the job ran ({key}); run the job again")


def _product(sizes: Any) -> int:
    return math.prod(map(int, sizes))


def require_harmless_codecs(text: bytes) -> None:
    """Refuse the metadata of an array of whose chunks nothing can tell how much they hold.

    Raises
    ------
    ImageError : unsupported, too_large.
    """
    try:
        node = json.loads(text)
        axes, chains = len(node.get("shape", ())), list(_chains(node))
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return  # zarr-python refuses it too
    codecs = sum(len(chain) for chain, _ in chains)
    if axes > _MAX_AXES or codecs > _MAX_CODECS:
        raise ImageError("too_large", f"a Zarr array of {axes:,} axes and {codecs:,} codecs")
    for name in (_unreadable(*chain) for chain in chains):
        if name:
            raise ImageError(
                "unsupported",
                f"a Zarr array whose chunks are made by {name[:40]!r}; after shuffles and filters "
                f"one of {', '.join(sorted(_COMPRESSORS))} is read",
            )


def _chains(node: Any) -> Iterator[tuple[list[str], frozenset[str]]]:
    """Codecs that one after the other make a chunk, or a shard and its index, and those allowed."""
    outer = [codec if isinstance(codec, str) else codec["name"] for codec in node.get("codecs", ())]
    yield outer, _CODECS | {_SHARDING}
    if _SHARDING in outer:
        shard = node["codecs"][outer.index(_SHARDING)]["configuration"]
        yield [codec["name"] for codec in shard["codecs"]], _CODECS
        yield [codec["name"] for codec in shard["index_codecs"]], frozenset(("bytes", "crc32c"))
    compressor = node.get("compressor")
    older = [*(node.get("filters") or ()), *([compressor] if compressor else ())]
    yield [f"numcodecs.{codec['id']}" for codec in older], _CODECS


def _unreadable(chain: list[str], allowed: frozenset[str]) -> str:
    """The first codec that is not allowed, or that changes once more what was compressed."""
    packed = False
    for name in chain:
        plain = name.removeprefix("numcodecs.")
        if plain not in allowed or (packed and name != "crc32c"):
            return plain or "a codec without a name"
        packed = packed or plain in _COMPRESSORS or plain == _SHARDING
    return ""


def _inflated_bytes(codec: str, data: memoryview, limit: int) -> int:
    """Bytes that a compressed chunk holds, as it says itself, or counted up to a limit."""
    if codec == "zstd":
        return _zstd_bytes(data, limit)
    if codec == "blosc" and len(data) >= 16:
        return int.from_bytes(data[4:8], "little")
    if codec == "lz4" and len(data) >= 4:
        return int.from_bytes(data[:4], "little")
    if codec in ("gzip", "zlib"):
        return _counted(lambda: zlib.decompressobj(wbits=47), data, limit)
    if codec == "bz2":
        return _counted(bz2.BZ2Decompressor, data, limit)
    return 0


def _counted(stream: Callable[[], Any], data: memoryview, limit: int) -> int:
    """Bytes that one or several members after each other become, up to one beyond the limit."""
    held, rest = 0, bytes(data)
    while rest and held <= limit:
        member = stream()
        try:
            held += len(member.decompress(rest, limit + 1 - held))
        except (zlib.error, OSError):
            return held  # damage that the codec reports
        rest = member.unused_data
    return held


def _zstd_bytes(data: memoryview, limit: int) -> int:
    """The same of Zstandard's frames (RFC 8878, section 3.1), which mostly say it themselves."""
    import zstandard

    held = 0
    try:
        while data and held <= limit:
            if bytes(data[1:4]) == b"\x2a\x4d\x18":  # a frame to be passed over
                data = data[8 + int.from_bytes(data[4:8], "little") :]
                continue
            frame = zstandard.get_frame_parameters(data)
            if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN:
                reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
                return held + len(reader.read(limit + 1 - held))
            held += int(frame.content_size)
            at, last = zstandard.frame_header_size(data), 0
            while not last and at + 3 <= len(data):
                block = int.from_bytes(data[at : at + 3], "little")
                last, repeated, size = block & 1, block >> 1 & 3 == 1, block >> 3
                at += 3 + (1 if repeated else size)
            data = data[at + 4 * frame.has_checksum :]
    except zstandard.ZstdError:
        return held  # no frame: damage that the codec reports
    return held
