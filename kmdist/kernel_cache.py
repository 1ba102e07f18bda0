"""Where numba keeps compiled kernels: in the user's cache folder, never in the package.

numba's own choice is ``__pycache__`` beside the source. Files there outlive an uninstall, and where
users share an installation they are written by whoever comes first, or by nobody. Kernels of kmdist
are kept in ``<cache folder of the user>/kmdist/<version>-numba<version>/``, by module and by what
its source is: environments and checkouts that differ do not get in each other's way, and those
that do not differ compile once. Where that cannot be written they are kept in a folder of the
user's own under the temporary one; where that cannot be either, each process compiles its own.
``NUMBA_CACHE_DIR`` overrules this. All of it can be deleted at any time.

Importing this module makes it so, for kmdist's functions alone. A package with kernels imports it
before they are decorated.
"""

import hashlib
import inspect
import os
import pickle
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, Self

import numba
import platformdirs
from numba.core import caching, dispatcher, event

from kmdist import __version__

PLAIN_KERNELS = bool(os.environ.get("KMDIST_PLAIN_KERNELS"))
"""Whether kernels are compiled without hand-written vector code."""

_PACKAGE = Path(__file__).parent
_IMPORT = re.compile(r"^(?:from|import) (kmdist[\w.]*)", re.MULTILINE)


@cache
def cache_folder() -> Path | None:
    """The folder of this version's kernels, which can be written; None if there is none."""
    version = f"{__version__}-numba{numba.__version__}"
    for parent in (_user_folder, _temporary_folder):
        with suppress(OSError, RuntimeError):  # RuntimeError: the user has no home
            folder = parent() / version
            folder.mkdir(parents=True, exist_ok=True)
            # Tried, for rights alone say nothing of a disk that is read-only or full.
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(4096))
            return folder
    return None


def _user_folder() -> Path:
    return platformdirs.user_cache_path("kmdist")


def _temporary_folder() -> Path:
    """A folder of this user's that is closed to all others: what is read from it is executed."""
    if not hasattr(os, "getuid"):  # Windows has a temporary folder a user
        return Path(tempfile.gettempdir(), "kmdist")
    folder = Path(tempfile.gettempdir(), f"kmdist-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    closed = not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if not (stat.S_ISDIR(found.st_mode) and closed and found.st_uid == os.getuid()):
        raise PermissionError(f"{folder} is not this user's alone")
    return folder


@cache
def source_stamp(path: Path) -> str:
    """Digest of a module and of the modules of kmdist that it imports, and so on.

    What a kernel calls is compiled into it, from other modules too; numba by itself looks only at
    the file of the kernel, and would go on using what an edit or an upgrade elsewhere has changed.
    """
    sources: dict[Path, bytes] = {}
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path not in sources:
            sources[path], imported = _source(path)
            waiting += imported
    return hashlib.sha256(b"\0".join(sources[path] for path in sorted(sources))).hexdigest()


@cache
def _source(path: Path) -> tuple[bytes, list[Path]]:
    """The source of a module, and the files of kmdist that it imports."""
    source = path.read_bytes()
    imported = []
    for name in _IMPORT.findall(source.decode()):
        module = _PACKAGE.joinpath(*name.split(".")[1:])
        imported += [module.with_suffix(".py"), module / "__init__.py"]
    return source, [file for file in imported if file.is_file()]


class KernelLocator(caching._SourceFileBackedLocatorMixin, caching._CacheLocator):  # type: ignore[misc]
    """Where one function of kmdist is kept; made by numba as the function is decorated."""

    def __init__(self, function: FunctionType, path: Path, folder: Path) -> None:
        self._py_file = str(path)
        self._lineno = function.__code__.co_firstlineno
        self._stamp = source_stamp(path)
        self._folder = folder / f"{path.stem}-{self._stamp[:16]}"

    @classmethod
    def from_function(cls, py_func: FunctionType, py_file: str) -> Self | None:
        """None without a folder to keep it in."""
        folder = cache_folder()
        return cls(py_func, Path(py_file), folder) if folder else None

    def ensure_cache_path(self) -> None:
        """Make the folder, which is known to be writable."""
        self._folder.mkdir(exist_ok=True)

    def get_cache_path(self) -> str:
        """The folder of one module as it is."""
        return str(self._folder)

    def get_source_stamp(self) -> str:
        """See `source_stamp`."""
        return self._stamp


class KernelCacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    """As numba's, and in no place that numba would choose by itself."""

    _locator_classes = [caching.UserProvidedCacheLocator, KernelLocator]  # type: ignore[list-item]  # noqa: RUF012


class KernelFiles(caching.IndexDataCacheFile):  # type: ignore[misc]
    """As numba's, but each signature of a function has an index and a data file of its own.

    numba numbers the data files of a function by its one index. Of processes that compile two
    signatures at once both take the next number, and one is given the code of the other.
    """

    def __init__(self, folder: str, base: str, stamp: str) -> None:
        super().__init__(folder, base, stamp)
        self._own = folder, base, stamp

    def save(self, key: tuple[object, ...], data: object) -> None:
        """Save the code of a signature."""
        self._of(key).save(key, data)

    def load(self, key: tuple[object, ...]) -> object:
        """The code of a signature, or None."""
        return self._of(key).load(key)

    def _of(self, key: tuple[object, ...]) -> caching.IndexDataCacheFile:
        folder, base, stamp = self._own
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return caching.IndexDataCacheFile(folder, f"{base}-{digest}", stamp)


class KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """As numba's, but a cache that cannot be read or written is done without."""

    _impl_class = KernelCacheImpl

    def __init__(self, function: FunctionType) -> None:
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = KernelFiles(
            self._cache_path, self._impl.filename_base, locator.get_source_stamp()
        )

    def _index_key(self, *what: Any) -> tuple[Any, ...]:
        return (*super()._index_key(*what), PLAIN_KERNELS)

    @contextmanager
    def _guard_against_spurious_io_errors(self) -> Iterator[None]:
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            yield


class _Listener(event.Listener):  # type: ignore[misc]
    """Calls a function once, when numba begins to compile."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell: Callable[[str], object] | None = tell

    def on_start(self, _: Any) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell("compiling kernels, once per installation: a few seconds")

    def on_end(self, _: Any) -> None:
        """Nothing to say."""


@contextmanager
def told_of_compiling(tell: Callable[[str], object]) -> Iterator[None]:
    """Tell when numba begins to compile; loading from its cache is not told."""
    with event.install_listener("numba:compile", _Listener(tell)):
        yield


def _cache_of(function: FunctionType) -> caching._Cache:
    """The cache of a function that numba is to keep."""
    path = Path(inspect.getfile(function))
    if not (path.is_relative_to(_PACKAGE) and path.is_file()):
        return caching.FunctionCache(function)
    with suppress(RuntimeError):  # there is no folder to keep it in
        return KernelCache(function)
    return caching.NullCache()


dispatcher.FunctionCache = _cache_of  # type: ignore[attr-defined]
