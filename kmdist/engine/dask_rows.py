"""Rows of a Dask array or data frame: one block a chunk, kept on the workers where they fit."""

from itertools import pairwise
from typing import Any

import numpy as np

from kmdist.engine.dask_pool import DaskPool
from kmdist.engine.passes import Pool
from kmdist.engine.rows import (
    MEMORY_SHARE,
    ROW_OVERHEAD_BYTES,
    Block,
    Loader,
    Rows,
    is_dask,
    received_block,
    require_unmasked,
    unit_rows,
)


def dask_values(X: Any, name: str) -> Any:
    """A Dask array of the values of a Dask array, data frame or series.

    Columns of nullable numbers, and of truth values beside others, become float64 as pandas' do.

    Raises
    ------
    ValueError : its chunks are masked.
    """
    import dask.array as da

    if not isinstance(X, da.Array):
        dtypes = getattr(X, "dtypes", X.dtype if hasattr(X, "dtype") else None)
        kinds = list(np.atleast_1d(np.asarray(dtypes, object)))
        plain = all(isinstance(kind, np.dtype) for kind in kinds)
        mixed = len({kind.kind == "b" for kind in kinds}) > 1
        if (mixed or not plain) and all(kind.kind in "fiub" for kind in kinds):
            X = X.astype("float64")
        X = X.to_dask_array()
    require_unmasked(X._meta, name)
    return X


def as_dask_array(X: Any) -> Any:
    """A two-dimensional Dask array whose chunks hold whole rows.

    Raises
    ------
    ValueError : not two-dimensional, masked, not of real numbers, or without columns.
    """
    array = dask_values(X, "X")
    if array.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array instead (shape {array.shape}). Reshape "
            "your data using x.reshape(-1, 1) for one feature or x.reshape(1, -1) for one row."
        )
    if not array.shape[1] >= 1:  # also where their number is unknown (NaN)
        raise ValueError(
            f"Found array with {array.shape[1]} feature(s) (shape={array.shape}) while a minimum "
            "of 1 is required, and their number must be known (`compute_chunk_sizes`)."
        )
    if array.dtype.kind not in "fiub":
        raise ValueError(f"rows of dtype {array.dtype} are not real numbers; convert them first")
    if array.numblocks[1] > 1:
        array = array.rechunk({1: -1})
    return array


def rows_of_dask(X: Any, weights: Any, pool: Pool, *, unit: bool = False) -> Rows:
    """Rows of a Dask array.

    Parameters
    ----------
    X : Dask array (n, d); its chunks become the blocks. Chunk sizes may be unknown.
    weights : (n,) NumPy or Dask array, or None (all one).
    pool : where the blocks are computed and kept.
    unit : divide each row by its length.

    Returns
    -------
    Rows : kept where the rows fit `MEMORY_SHARE` of the pool's memory; otherwise each pass
        computes each chunk from its graph, whole, in one task. Where chunk sizes are unknown a
        pass more finds them.
    """
    from dask.base import compute
    from dask.delayed import delayed

    array = as_dask_array(X)
    chunks = [row[0] for row in array.to_delayed(optimize_graph=True)]
    pieces = _weight_pieces(array, weights)
    wrapped = [
        delayed(_make_block, pure=False)(chunk, piece, unit)
        for chunk, piece in zip(chunks, pieces, strict=True)
    ]
    dtype = _unit_dtype(array.dtype, unit)
    row_bytes = array.shape[1] * dtype.itemsize + ROW_OVERHEAD_BYTES
    budget = MEMORY_SHARE * pool.memory_bytes
    if not array.shape[0] * row_bytes <= budget:  # also where chunk sizes are unknown (NaN)
        unkept = Rows(
            pool, [Loader(_compute, _Graph.of(item)) for item in wrapped], dtype, kept=False
        )
        if unkept.n_rows * row_bytes > budget:
            return unkept
    if isinstance(pool, DaskPool):
        sources = pool.client.compute(wrapped)
    else:
        sources = list(compute(*wrapped, scheduler="threads", num_workers=pool.threads))
    return Rows(pool, sources, dtype, kept=True)


def _unit_dtype(dtype: Any, unit: bool) -> np.dtype:
    return np.dtype(unit_rows(np.zeros((1, 1), dtype)).dtype if unit else dtype)


def _make_block(rows: Any, weights: Any, unit: bool) -> Block:
    require_unmasked(rows, "X")
    require_unmasked(weights, "sample_weight")
    rows = np.asarray(rows)
    weights = None if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
    return received_block(unit_rows(rows) if unit else rows, weights)


class _Graph:
    """The part of a graph that one block needs."""

    def __init__(self, graph: dict[Any, Any], key: Any) -> None:
        self.graph, self.key = graph, key

    @classmethod
    def of(cls, item: Any) -> "_Graph":
        from dask.base import optimize
        from dask.optimization import cull

        (optimized,) = optimize(item)
        graph, _ = cull(dict(optimized.__dask_graph__()), [optimized.key])
        return cls(graph, optimized.key)


def _compute(item: _Graph) -> Any:
    from dask.local import get_sync

    block: Block = get_sync(item.graph, item.key)
    return (block.rows, block.weights) if block.weights is not None else block.rows


def _weight_pieces(array: Any, weights: Any) -> list[Any]:
    """Weights chunked as the rows are; NumPy slices where they are in this process."""
    n_blocks = array.numblocks[0]
    if weights is None:
        return [None] * n_blocks
    if not is_dask(weights):
        weights = np.asarray(weights, dtype=np.float64)
        array = _measured(array)
        _require_length(weights, array)
        edges = np.cumsum([0, *array.chunks[0]])
        return [weights[a:b] for a, b in pairwise(edges)]
    weights = dask_values(weights, "sample_weight")
    if weights.ndim != 1:
        raise ValueError(f"Sample weights must be 1D, received shape {weights.shape}")
    if not np.isnan(array.shape[0]) or weights.numblocks[0] != n_blocks:
        array, weights = _measured(array), _measured(weights)
        _require_length(weights, array)
        weights = weights.rechunk((array.chunks[0],))
    return list(weights.to_delayed().ravel())


def _measured(array: Any) -> Any:
    """The array with chunk sizes that are known; the caller's own stays as it is."""
    return array.copy().compute_chunk_sizes() if np.isnan(array.shape[0]) else array


def _require_length(weights: Any, array: Any) -> None:
    if weights.shape != (array.shape[0],):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected ({array.shape[0]},)!")
