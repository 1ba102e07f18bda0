"""Rows to be clustered, in blocks: where they come from, and whether they are kept.

A block that fits is loaded once and kept where its tasks run, together with what an iteration
remembers about it; any other is loaded, or computed from its graph, anew in every pass.

Samples of rows are drawn by counter-based random numbers, whatever the chunks.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kmdist.engine.kernels.frame import Frame, Moments, make_frame, merge_moments, moments
from kmdist.engine.kernels.subspace import Subspace, points_bytes
from kmdist.engine.passes import Holders, Pool, run_pass

if TYPE_CHECKING:
    from kmdist.engine.kernels.projected import Groups

BLOCK_BYTES = 8 << 20
"""An array in memory is worked on in blocks of this size at the least: about 1 ms of work."""

_BLOCKS_A_THREAD = 8
"""Of such an array; each has its own sums, which are merged in every iteration."""

MEMORY_SHARE = 0.7
"""Of the pool's memory that kept rows may take; the rest is for results and scratch."""

_SPACIOUS_SHARE = 0.5
"""Of the pool's memory that kept rows and projections of them may take."""

WEIGHT_BYTES = 8
"""Of a kept row that has a weight."""
ROW_OVERHEAD_BYTES = 12 + WEIGHT_BYTES
"""Of a kept row: label, bounds and weight."""


def kept_row_bytes(row_bytes: int) -> int:
    """Of a row that is kept and has no weight, with what a fit remembers of it at the most."""
    return row_bytes + points_bytes(row_bytes) + ROW_OVERHEAD_BYTES - WEIGHT_BYTES


def projections_fit(n: int, row_bytes: int, memory_bytes: int) -> bool:
    """Whether there is memory for projections of n kept rows (`kmdist.engine.kernels.subspace`)."""
    return n * (kept_row_bytes(row_bytes) + WEIGHT_BYTES) <= _SPACIOUS_SHARE * memory_bytes


def is_dask(value: Any) -> bool:
    """Whether `value` is a Dask array or data frame; does not import Dask."""
    return type(value).__module__.split(".")[0] in ("dask", "dask_expr") and hasattr(
        value, "__dask_graph__"
    )


def require_unmasked(values: Any, name: str) -> None:
    """Refuse a masked array, whose mask no kernel would see.

    Raises
    ------
    ValueError
    """
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(
            f"{name} is a masked array, and masks are not supported: fill it "
            f"({name}.filled(0)) and give the rows that must not count a sample_weight of 0, or "
            "leave them out"
        )


@dataclass
class Points:
    """Projections of the rows of a block, and what a pass over them remembers.

    Parameters
    ----------
    values : (n, m) float32.
    lower : (n, groups) float32, bounds of `kmdist.engine.kernels.projected`.
    """

    subspace: Subspace
    groups: "Groups"
    values: np.ndarray
    lower: np.ndarray


@dataclass
class Memory:
    """What a kept block remembers between iterations; it can be lost at any time.

    Parameters
    ----------
    centroids : those that `labels` and the bounds belong to.
    sums, counts : the block's partial sums for `labels`.
    upper, lower : (n,) float32 bounds on the distance to the own and to any other centroid;
        the lower ones of projections are theirs.
    changed : share of the labels that the last plain pass changed.
    pause, next_pause : iterations to go without bounds after they did not pay.
    points : projections of the rows, with bounds.
    wait, next_wait : iterations to go before another subspace is looked for.
    values : named arrays of other passes.
    """

    frame: Frame | None = None
    centroids: np.ndarray | None = None
    sums: np.ndarray | None = None
    counts: np.ndarray | None = None
    upper: np.ndarray | None = None
    lower: np.ndarray | None = None
    changed: float = 1.0
    pause: int = 0
    next_pause: int = 1
    points: Points | None = None
    wait: int = 1
    next_wait: int = 4
    values: dict[str, Any] = field(default_factory=dict)


class Block:
    """Rows of one block with their weights.

    Parameters
    ----------
    rows : (n, d) real numbers.
    weights : (n,) float64 or None (all one).
    labels : (n,) int32 to write labels to, or None: made when needed.
    """

    def __init__(
        self,
        rows: np.ndarray,
        weights: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> None:
        self.rows = rows
        self.weights = weights
        self._labels = labels
        self.memory = Memory()
        self.lock = threading.Lock()

    @property
    def labels(self) -> np.ndarray:
        """(n,) int32, of `memory.centroids`."""
        if self._labels is None:
            self._labels = np.empty(len(self.rows), np.int32)
        return self._labels

    def open(self) -> "Block":
        """Itself: the rows are here."""
        return self

    def counting(self) -> "Block":
        """Without the rows whose weight is zero."""
        if self.weights is None or self.weights.all():
            return self
        counting = self.weights > 0
        return Block(self.rows[counting], self.weights[counting])

    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows whose weight is not zero, and their weights (m,) float64."""
        block = self.counting()
        weights = np.ones(len(block)) if block.weights is None else block.weights
        return block.rows, weights

    def __len__(self) -> int:
        return len(self.rows)

    def __sizeof__(self) -> int:
        """Rows, weights, and 12 bytes a row of labels and bounds: what Dask accounts for."""
        weights = 0 if self.weights is None else self.weights.nbytes
        return self.rows.nbytes + weights + 12 * len(self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # Labels and bounds are left behind: a copy on another worker starts afresh.
        return received_block, (self.rows, self.weights)


def received_block(rows: np.ndarray, weights: np.ndarray | None) -> Block:
    """A block to keep of rows that came over a network.

    Such arrays may begin at any byte, and the kernels would copy them in every pass.
    """
    return Block(np.require(rows, requirements="A"), weights)


@dataclass(frozen=True)
class Loader:
    """A block that is loaded, or computed, each time it is opened.

    Parameters
    ----------
    load : called with `item`; returns the rows (n, d), or a tuple of rows and weights.
    item : argument of `load`; picklable, as `load` is.
    weights : (n,) float64 or None, where `load` returns rows alone.
    unit : divide each row by its length (for cosine distances).
    """

    load: Callable[[Any], Any]
    item: Any
    weights: np.ndarray | None = None
    unit: bool = False

    def open(self) -> Block:
        """Load the rows."""
        loaded = self.load(self.item)
        rows, weights = loaded if isinstance(loaded, tuple) else (loaded, self.weights)
        require_unmasked(rows, "X")
        rows = np.asarray(rows)
        if rows.ndim != 2:
            raise ValueError(f"a block must have shape (n, d), received {rows.shape}")
        if weights is not None:
            weights = np.ascontiguousarray(weights, dtype=np.float64)
        return Block(unit_rows(rows) if self.unit else rows, weights)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their lengths, float32 for types it holds exactly; zero rows stay zero.

    Rows that are not finite stay what they are, so as to be refused as that.
    """
    exact = native(rows.dtype) in _SINGLE + tuple(map(np.dtype, ("u1", "i1", "u2", "i2")))
    lengths = _lengths(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = (rows / lengths[:, None]).astype(np.float32 if exact else np.float64)
    outside = np.flatnonzero(~((lengths > 1e-140) & (lengths < 1e140)))
    if outside.size:  # of zero, and of which squares overflow or underflow
        part = rows[outside].astype(np.float64)
        part = np.ldexp(part, -np.frexp(np.abs(part).max(axis=1, keepdims=True, initial=0.0))[1])
        lengths = _lengths(part)
        lengths[~(np.isfinite(lengths) & (lengths > 0))] = 1.0
        unit[outside] = part / lengths[:, None]
    return np.asarray(unit)


def _lengths(rows: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64, casting="same_kind")
    return np.sqrt(squares)


@dataclass(frozen=True)
class Places:
    """Where the rows of a block stand among all rows: one after the other within each run.

    Random numbers belong to places, so that it does not matter in which blocks rows come.

    Parameters
    ----------
    starts : (m,) int64, places of the first rows of the runs, ascending.
    lengths : (m,) int64, rows of each run.
    """

    starts: np.ndarray
    lengths: np.ndarray

    @property
    def firsts(self) -> np.ndarray:
        """(m,) int64, positions within the block of the first rows of the runs."""
        return np.cumsum(self.lengths) - self.lengths

    def part(self, rows: slice) -> "Places":
        """Of some rows of the block that follow one another."""
        first, stop = (np.clip(at - self.firsts, 0, self.lengths) for at in (rows.start, rows.stop))
        return Places(self.starts + first, stop - first)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Places of rows by their positions within the block."""
        firsts = self.firsts
        run = np.searchsorted(firsts, rows, side="right") - 1
        return np.asarray(self.starts[run] + rows - firsts[run], np.int64)


def _open(source: Any) -> Block:
    block: Block = source.open()
    return block


def _moments_of(source: Any) -> Moments:
    block = _open(source)
    return moments(block.rows, block.weights)


class Rows:
    """Rows in blocks on a pool, with what every fit of them needs to know.

    Parameters
    ----------
    pool : where passes over the rows run.
    sources : one `Block` or `Loader` a block, or a future of one.
    dtype : type of the rows.
    kept : whether the sources hold their rows between passes.
    places : of the rows of each block, none of which may have a weight; None: one block's rows
        follow the other's.
    moments : of the rows, where they are known; block by block as the sources are.

    Raises
    ------
    ValueError : there are no rows, or a value or weight is not allowed; says where.

    Notes
    -----
    Making one without moments costs a pass over the rows (n blocks: n tasks and their merge tree).
    """

    def __init__(
        self,
        pool: Pool,
        sources: Sequence[Any],
        dtype: Any,
        *,
        kept: bool,
        places: Sequence[Places] | None = None,
        moments: Moments | None = None,
    ) -> None:
        self.pool = pool
        self.sources = list(sources)
        self.dtype = np.dtype(dtype)
        self.kept = kept
        self._places = places
        self._holders: Holders | None = None
        if not self.sources:
            raise ValueError("the data have no blocks: at least one row is required")
        self.moments: Moments = moments or run_pass(
            pool, _moments_of, self.sources, merge=merge_moments
        )
        self._check()
        self.frame = make_frame(self.moments)
        self.frame_future = pool.broadcast(self.frame)
        if kept:
            self.sources = pool.spread(self.sources)
        row_bytes = self.dtype.itemsize * self.n_features
        self.spacious = kept and projections_fit(self.n_rows, row_bytes, pool.memory_bytes)

    @property
    def n_rows(self) -> int:
        """Rows in all blocks."""
        return self.moments.n_rows

    @property
    def n_counted(self) -> int:
        """Rows whose weight is not zero: others get a label, and change nothing."""
        return self.moments.n_counted

    @property
    def n_features(self) -> int:
        """Length of a row."""
        return len(self.moments.mean)

    @property
    def starts(self) -> np.ndarray:
        """(blocks + 1,) int64, global index of the first row of each block."""
        return np.concatenate([[0], np.cumsum(self.moments.lengths, dtype=np.int64)])

    @property
    def places(self) -> list[Places]:
        """Of the rows of each block."""
        return self._places_by(self.moments.lengths)

    @property
    def counted_places(self) -> list[Places]:
        """Of the rows of each block among those whose weight is not zero."""
        return self._places_by(self.moments.counted)

    def _places_by(self, lengths: Any) -> list[Places]:
        if self._places is not None:
            return list(self._places)
        lengths = np.asarray(lengths, np.int64)[:, None]
        starts = np.cumsum(lengths, axis=0) - lengths
        return [Places(start, length) for start, length in zip(starts, lengths, strict=True)]

    @property
    def centroid_dtype(self) -> np.dtype:
        """float32 for rows that it holds exactly and for float32; else float64."""
        return centroid_dtype(self.dtype)

    def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        merge: Callable[[list[Any]], Any] | None = None,
        on_done: Callable[[int, Any], None] | None = None,
        each: Sequence[Any] | None = None,
        only: Sequence[int] | None = None,
    ) -> Any:
        """One pass: ``function(source, *arguments)`` for each block.

        Parameters
        ----------
        function, arguments, merge, on_done : as in `kmdist.engine.passes.run_pass`.
        each : one value a block; `function` then receives ``[source, value]`` first.
        only : indices of the blocks to visit, ascending; None: all.
        """
        chosen = range(len(self.sources)) if only is None else only
        items = [self.sources[i] if each is None else [self.sources[i], each[i]] for i in chosen]
        return run_pass(self.pool, function, items, *arguments, merge=merge, on_done=on_done)

    def call(
        self, function: Callable[..., Any], *arguments: Any, merge: Callable[[list[Any]], Any]
    ) -> Any:
        """One pass by the workers that hold the blocks, without tasks.

        Parameters
        ----------
        function, arguments, merge : as of `run`; arguments are values, and how `merge` groups
            results does not matter.

        Returns
        -------
        The merged result; None where that cannot be done, or a worker is gone: use `run`.
        """
        if self._holders is None and self.kept:
            self._holders = self.pool.holders(self.sources)
        if self._holders is None:
            return None
        result = self._holders.apply(function, *arguments, merge=merge)
        if result is None:
            self._holders = None
        return result

    def _check(self) -> None:
        m = self.moments
        if m.bad is not None:
            block, row, column, value = m.bad
            kind = "NaN" if np.isnan(value) else "infinity"
            raise ValueError(
                f"Input X contains {kind}: block {block}, row {row:,} of it (row "
                f"{self.starts[block] + row:,} of the data), column {column}. All values must "
                "be finite: remove or impute such rows."
            )
        if m.bad_weight is not None:
            block, row, weight = m.bad_weight
            raise ValueError(
                f"sample_weight is {weight:g} at row {self.starts[block] + row:,}; negative "
                "values in data passed as weights are not allowed, nor NaN or infinity"
            )
        if m.n_rows == 0:
            raise ValueError(
                f"Found array with 0 sample(s) (shape=(0, {self.n_features})) while a minimum "
                "of 1 is required."
            )
        if m.weight_digits is not None and m.weight_digits.least[0] < np.finfo(np.float64).tiny:
            raise ValueError(
                f"sample_weight is as little as {m.weight_digits.least[0]:g}, of which products "
                "with X keep no digits: multiply all weights by a number, or make such ones 0"
            )
        if m.weight <= 0:
            raise ValueError("all sample weights are zero: at least one row must count")


_SINGLE = np.dtype(np.float32), np.dtype(np.float16)


def native(dtype: Any) -> np.dtype:
    """A type in the byte order of this machine."""
    return np.dtype(dtype).newbyteorder("=")


def centroid_dtype(dtype: Any) -> np.dtype:
    """The type of centroids for rows of a type: float32 for float32 and float16, else float64."""
    return np.dtype(np.float32 if native(dtype) in _SINGLE else np.float64)


def rows_of_array(
    X: np.ndarray, weights: np.ndarray | None, pool: Pool, *, unit: bool = False
) -> tuple[Rows, np.ndarray]:
    """Rows of an array in this process; blocks are views, nothing is copied.

    Parameters
    ----------
    X : (n, d) real numbers.
    weights : (n,) float64 or None (all one).
    pool : pool of this process's threads.
    unit : divide each row by its length; this does copy the rows.

    Returns
    -------
    rows : Rows
    labels : (n,) int32; holds the labels once a fit of these rows has stopped.
    """
    labels = np.empty(len(X), np.int32)
    size = max(BLOCK_BYTES, X.nbytes // (_BLOCKS_A_THREAD * pool.threads))
    step = max(1, size // max(1, X.shape[1] * X.dtype.itemsize))
    blocks = []
    for start in range(0, max(len(X), 1), step):
        here = slice(start, start + step)
        part = unit_rows(X[here]) if unit else X[here]
        blocks.append(Block(part, None if weights is None else weights[here], labels[here]))
    dtype = blocks[0].rows.dtype
    return Rows(pool, blocks, dtype, kept=True), labels


class Sample(NamedTuple):
    """Some of the rows, on the driver.

    Parameters
    ----------
    rows : (m, d) float32 or float64.
    weights : (m,) float64.
    """

    rows: np.ndarray
    weights: np.ndarray


def generator(seed: int, stream: int) -> np.random.Generator:
    """A stream of random numbers of its own for each purpose."""
    return np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), stream]))


def row_uniforms(seed: int, stream: int, first: int, n: int) -> np.ndarray:
    """Random numbers of rows ``first … first + n − 1`` of those that count.

    Returns
    -------
    (n,) float64 in [0, 1).
    """
    return place_uniforms(seed, stream, Places(np.array([first]), np.array([n])))


def place_uniforms(seed: int, stream: int, places: Places) -> np.ndarray:
    """Random numbers of the rows of a block: (n,) float64 in [0, 1)."""
    return small_uniforms(seed, stream, places, 1.0)[1]


def small_uniforms(
    seed: int, stream: int, places: Places, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Positions in a block of the rows whose random numbers are below a limit; and these."""
    from kmdist.engine.kernels.uniforms import uniforms_below

    key = seed & (2**64 - 1), stream
    return uniforms_below(key, places.starts, places.lengths, limit)


def sample_rows(rows: Rows, size: int, seed: int, stream: int = 0) -> Sample:
    """Rows drawn uniformly without replacement, in row order; one pass over the blocks they are in.

    Returns
    -------
    Sample : all rows that count where `size` is not less than their number.
    """
    n = rows.n_counted
    if size >= n:
        chosen = np.arange(n)
    else:
        chosen = np.sort(generator(seed, stream).choice(n, size, replace=False, shuffle=False))
    return take_rows(rows, chosen)


def take_rows(rows: Rows, chosen: np.ndarray) -> Sample:
    """Rows by their global index among those that count (ascending)."""
    if not len(chosen):
        return Sample(np.empty((0, rows.n_features), rows.centroid_dtype), np.empty(0))
    places = rows.counted_places
    starts = np.concatenate([one.starts for one in places])
    firsts = np.concatenate([one.firsts for one in places])
    owners = np.repeat(np.arange(len(places)), [len(one.starts) for one in places])
    order = np.argsort(starts, kind="stable")
    run = order[np.searchsorted(starts[order], chosen, side="right") - 1]
    by_block = np.argsort(owners[run], kind="stable")
    edges = np.searchsorted(owners[run][by_block], np.arange(len(places) + 1))
    inside = (firsts[run] + chosen - starts[run])[by_block]
    each = [inside[a:b] for a, b in itertools.pairwise(edges)]
    only = [i for i, part in enumerate(each) if len(part)]
    found: Sample = rows.run(_take, rows.centroid_dtype, each=each, only=only, merge=join_samples)
    return ordered(found, by_block)


def ordered(sample: Sample, places: np.ndarray) -> Sample:
    """A sample in the order of the places of its rows."""
    order = np.argsort(places, kind="stable")
    return Sample(sample.rows[order], sample.weights[order])


def _take(item: list[Any], dtype: Any) -> Sample:
    source, index = item
    block = source.open().counting()
    weights = np.ones(len(index)) if block.weights is None else block.weights[index]
    return Sample(block.rows[index].astype(dtype), weights)


def join_samples(parts: list[Sample]) -> Sample:
    """Samples of neighbouring blocks, one after the other."""
    return Sample(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
