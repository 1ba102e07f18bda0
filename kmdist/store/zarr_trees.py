"""Zarr trees that somebody else wrote, opened so that nothing that lies in them does harm.

Read are regular files inside the tree alone, none larger than what the array's metadata lead to
expect, and compressed ones only after a look at how much they say they hold.
"""

import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore, WrapperStore

from kmdist.errors import ImageError

MAX_METADATA_BYTES = 1 << 28
"""Of one metadata file: the consolidated ones of a million nodes stay below."""
FREE_SAMPLES = 1 << 24
"""Samples that a chunk may always have, however small the array."""
MIN_STORED_SHARE = 0.01
"""Of the chunks of an array larger than what may be decoded whole; slides leave out their glass."""
_SLACK_BYTES = 1 << 16


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

    def _with_store(self, store: LocalStore) -> "GuardedStore":
        copy = GuardedStore(store.root, self._ctime_ns)
        copy._largest, copy._inflated, copy._codec = self._largest, self._inflated, self._codec
        return copy

    def expect(self, array: Any) -> None:
        """Hold what is read from now on against an array's metadata."""
        nominal = _product(array.chunks) * array.dtype.itemsize
        stored = _product(array.shards or array.chunks) * array.dtype.itemsize
        index = 16 * stored // max(nominal, 1)  # of a shard: offset and size of each chunk
        self._largest = max(stored + stored // 8 + index + _SLACK_BYTES, MAX_METADATA_BYTES >> 8)
        self._inflated = nominal + _SLACK_BYTES
        codecs = tuple(array.compressors)
        self._codec = type(codecs[-1]).__name__.lower() if codecs else ""

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Read a file, or part of it.

        Raises
        ------
        ImageError : not_regular, corrupt or changed.
        """
        self._require_harmless(key)
        value = await self._store.get(key, prototype, byte_range)
        if value is not None and self._inflated:
            self._require_small(key, value)
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

    def _require_small(self, key: str, value: Any) -> None:
        holds = _inflated_bytes(self._codec, value.as_buffer_like(), self._inflated)
        if holds > self._inflated:
            raise ImageError(
                "corrupt",
                f"corrupt Zarr: {key} holds more than the {self._inflated:,} bytes of a chunk",
            )


def open_guarded(root: str | os.PathLike[str], inside: str = "", ctime_ns: int = -1) -> Any:
    """Open a Zarr array or group of a tree through a `GuardedStore`.

    Raises
    ------
    ImageError : an array whose chunks are far larger than itself.
    Exception : of zarr-python, where the metadata are damaged.
    """
    store = GuardedStore(root, ctime_ns)
    node = zarr.open(store, path=inside, mode="r")
    if isinstance(node, zarr.Array):
        require_fitting_chunks(node)
        store.expect(node)
    return node


def require_fitting_chunks(array: Any) -> None:
    """Refuse an array of which reading the least bit takes far more memory than it has itself.

    Raises
    ------
    ImageError : corrupt.
    """
    chunk = _product(array.chunks)
    if chunk > max(FREE_SAMPLES, 4 * _product(array.shape)):
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
    found = 1
    for size in sizes:
        found *= int(size)
    return found


def _inflated_bytes(codec: str, data: Any, limit: int) -> int:
    """Bytes that a compressed chunk holds, as it says itself, or counted up to a limit."""
    data = memoryview(data).cast("B")
    if "zstd" in codec:
        import zstandard

        try:
            size = int(zstandard.frame_content_size(data))
            return (
                size
                if size >= 0
                else len(zstandard.ZstdDecompressor().stream_reader(data).read(limit + 1))
            )
        except zstandard.ZstdError:
            return 0  # no frame: the index of a shard, or damage that the codec reports
    if "blosc" in codec and len(data) >= 16:
        return int.from_bytes(data[4:8], "little")
    if "lz4" in codec and len(data) >= 4:
        return int.from_bytes(data[:4], "little")
    if "gzip" in codec or "zlib" in codec:
        try:
            return len(zlib.decompressobj(wbits=47).decompress(data, limit + 1))
        except zlib.error:
            return 0
    return 0
