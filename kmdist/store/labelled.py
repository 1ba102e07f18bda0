"""Label maps as lazy arrays with named dimensions."""

from typing import TYPE_CHECKING, Any

from kmdist.errors import UsageError

if TYPE_CHECKING:
    import xarray


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
