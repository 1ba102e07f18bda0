"""A published run as a reader opened it, to the end or an error; label maps as lazy arrays."""

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from zarr.storage import WrapperStore

from kmdist.errors import KmdistError, UsageError
from kmdist.store.targets import Target

if TYPE_CHECKING:
    import xarray


_ROOT = "zarr.json"
T = TypeVar("T")


class OpenedTarget:
    """Reads of a run, each followed by a look whether the run is still the one that was opened.

    A run is replaced by an exchange before anything of the old one is removed (in an object
    store: after its root is), so what was read before the look is of the run that was opened.

    Parameters
    ----------
    target : where the run lies.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stamp = target.stamp(_ROOT)

    def __repr__(self) -> str:
        return repr(self._target)

    def __str__(self) -> str:
        return str(self._target)

    def get(self, key: str) -> bytes | None:
        """As of the target; all methods raise `KmdistError` where the run was replaced."""
        return self._of_this_run(self._target.get(key))

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        return self._of_this_run(self._target.exists(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Keys of all objects below a prefix."""
        yield from self._of_this_run(list(self._target.keys(prefix)))

    def children(self, prefix: str = "") -> list[str]:
        """Names of what lies directly below a prefix."""
        return self._of_this_run(self._target.children(prefix))

    def zarr_store(self) -> Any:
        """A store for zarr-python whose reads are looked at in the same way."""
        return _LookingStore(self._target.zarr_store(), self.require_same)

    def require_same(self) -> None:
        """Raise `KmdistError` where the run is not the one that was opened."""
        if self._stamp is not None and self._target.stamp(_ROOT) != self._stamp:
            raise KmdistError(
                f"{self._target} was replaced, moved or removed since it was opened: open it again"
            )

    # After the read, not before it: what is read then may still be of both.
    def _of_this_run(self, value: T) -> T:
        self.require_same()
        return value


class _LookingStore(WrapperStore[Any]):
    """A store that looks, after each read, whether it may still be read."""

    def __init__(self, store: Any, look: Callable[[], None]) -> None:
        super().__init__(store)
        self._look = look

    def _with_store(self, store: Any) -> "_LookingStore":
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


def to_xarray(run: Any, name: str | None = None) -> Any:
    """See `kmdist.Run.to_xarray`, whose run this is given: the reader imports this module."""
    try:
        import xarray
    except ImportError as error:
        raise UsageError("to_xarray needs xarray: pip install 'kmdist[xarray]'") from error
    if run.runs:
        trees = {f"k{k}": to_xarray(one, name) for k, one in run.runs.items()}
        if name is not None or not all(isinstance(t, xarray.DataTree) for t in trees.values()):
            trees = {key: _as_dataset(one) for key, one in trees.items()}
        return xarray.DataTree.from_dict(trees)
    if name is not None or not len(run.images):
        return _lazy(run.labels(name), run)
    return xarray.DataTree.from_dict(
        {one: _as_dataset(_lazy(run.images[one].labels(), run)) for one in run.images}
    )


def _as_dataset(array: Any) -> "xarray.Dataset":
    return array.to_dataset(name="labels")


def _lazy(stored: Any, run: Any) -> "xarray.DataArray":
    """An array as Dask blocks of whole chunks, or of whole shards."""
    import dask.array as da
    import xarray

    blocks = da.from_array(stored, chunks=stored.shards or stored.chunks)
    marker = {} if run.unclustered is None else {"unclustered": run.unclustered}
    dims = stored.metadata.dimension_names
    return xarray.DataArray(blocks, dims=dims, name="labels", attrs={"k": run.k, **marker})
