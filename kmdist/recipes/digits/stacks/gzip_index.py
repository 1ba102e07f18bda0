"""Random access to gzip files: decompression goes on from the nearest remembered point.

Copies of the decompressor are remembered every few megabytes of output, 40 kB each, per process
and file. The first reader goes through the file once; later ones start close by, on any thread.
A worker process that has not seen the file yet does the same from its beginning.
"""

import os
import threading
import zlib
from collections import OrderedDict

from kmdist.errors import KmdistError

STEP_BYTES = 4 << 20
_READ_BYTES = 1 << 18
_MAX_FILES = 8
_GZIP = 31  # zlib's window bits for a gzip header and trailer


class _Point:
    """A place in the file from which decompression can go on."""

    def __init__(self, out: int, consumed: int, state: "zlib._Decompress") -> None:
        self.out, self.consumed, self.state = out, consumed, state


class GzipFile:
    """One gzip file, read by ranges of its content.

    Parameters
    ----------
    path : the file.

    Attributes
    ----------
    size : bytes of the content; None until someone has read to the end.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.size: int | None = None
        self._points = [_Point(0, 0, zlib.decompressobj(_GZIP))]
        self._lock = threading.Lock()

    def read(self, start: int, n_bytes: int) -> bytes:
        """Bytes of the content; fewer at its end.

        Raises
        ------
        KmdistError : truncated or corrupt, with how much could be read.
        """
        point = self._nearest(start)
        wanted, position = bytearray(), point.out
        state, consumed = point.state, point.consumed
        with open(self.path, "rb") as file:
            file.seek(consumed)
            pending = b""
            while len(wanted) < n_bytes:
                if not pending:
                    pending = file.read(_READ_BYTES)
                    if not pending:
                        self._require_end(state, position)
                        break
                content, state, used = self._step(state, pending, position)
                pending, consumed = pending[used:], consumed + used
                lower = max(start - position, 0)
                position += len(content)
                wanted += content[lower : lower + n_bytes - len(wanted)]
                self._remember(position, consumed, state)
        return bytes(wanted)

    def measure(self) -> int:
        """Bytes of the content, after reading all of it and checking its checksum."""
        if self.size is None:
            self.read(1 << 62, 1)
        return self.size or 0

    def _step(
        self, state: "zlib._Decompress", pending: bytes, position: int
    ) -> tuple[bytes, "zlib._Decompress", int]:
        try:
            if state.eof:  # another member follows, or padding with zeros
                if not pending.strip(b"\0"):
                    return b"", state, len(pending)
                state = zlib.decompressobj(_GZIP)
            content = state.decompress(pending)
        except zlib.error as error:
            raise KmdistError(
                f"{self.path}: not valid gzip after {position:,} bytes of content ({error}); "
                "download it again"
            ) from error
        return content, state, len(pending) - len(state.unused_data)

    def _require_end(self, state: "zlib._Decompress", position: int) -> None:
        if not state.eof:
            raise KmdistError(
                f"{self.path}: truncated gzip: it ends after {position:,} bytes of content, "
                "before its end marker; download it again"
            )
        self.size = position

    def _nearest(self, start: int) -> _Point:
        with self._lock:
            point = max((p for p in self._points if p.out <= start), key=lambda p: p.out)
            return _Point(point.out, point.consumed, point.state.copy())

    def _remember(self, out: int, consumed: int, state: "zlib._Decompress") -> None:
        with self._lock:
            if out >= self._points[-1].out + STEP_BYTES and not state.eof:
                self._points.append(_Point(out, consumed, state.copy()))


_files: "OrderedDict[tuple[str, int, int], GzipFile]" = OrderedDict()
_files_lock = threading.Lock()


def gzip_file(path: str) -> GzipFile:
    """The file, with what this process remembers of it for as long as it does not change."""
    status = os.stat(path)
    key = (path, status.st_size, status.st_mtime_ns)
    with _files_lock:
        if key not in _files:
            _files[key] = GzipFile(path)
            while len(_files) > _MAX_FILES:
                _files.popitem(last=False)
        _files.move_to_end(key)
        return _files[key]
