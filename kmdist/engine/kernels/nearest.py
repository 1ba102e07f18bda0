"""The nearest centroid of each row of a tile, right as in float64.

Best scores are computed for a few rows and up to 64 centroids held in registers (LLVM IR), or,
where ``KMDIST_PLAIN_KERNELS`` is set in the environment, by plain loops; `resolve` decides in
float64 wherever the float32 scores cannot.

numba compiles loops over arrays, so that a score is loaded and stored for every few products and
again for the minimum. Here a block of rows × centroids stays in registers until its minimum is
known: 2.6 × (48 features, 64 centroids), 2.1 × (48, 6) and 2.0 × (784, 10) as fast as plain loops
on Zen 4; on Zen 3 as fast with 784 and 256 as OpenBLAS is with the products alone. The code is
vector IR without any instruction of one processor: LLVM fits it to whatever vectors there are.
Plain loops give the same labels.

`frame_row` brings one row into the frame and measures it on the way: numba's compiler sums rows of
48 features in vectors of 8 with a remainder; fixed vectors of 16 take 0.6 of the time on Zen 4.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic

from kmdist.kernel_cache import PLAIN_KERNELS


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def least_two(scores):  # type: ignore[no-untyped-def]
    """The least score, its first index, and the least of the others."""
    best = np.float32(3e38)
    for j in range(scores.size):
        s = scores[j]
        best = s if s < best else best
    index = np.int32(2147483647)
    for j in range(scores.size):
        here = np.int32(j) if scores[j] <= best else np.int32(2147483647)
        index = here if here < index else index
    second = np.float32(3e38)
    for j in range(scores.size):
        s = scores[j] if np.int32(j) != index else np.float32(3e38)
        second = s if s < second else second
    return best, index, second


@njit(nogil=True, cache=True, fastmath={"contract", "nnan", "nsz"})
def _score_plain(tile, r, panel, out):  # type: ignore[no-untyped-def]
    """Scores ‖c‖² − 2x·c of one row."""
    lanes = panel.shape[2]
    for v in range(panel.shape[0]):
        sums = out[v * lanes : (v + 1) * lanes]
        for j in range(lanes):
            sums[j] = panel[v, 0, j]
        for p in range(tile.shape[1]):
            x = tile[r, p]
            for j in range(lanes):
                sums[j] += x * panel[v, p + 1, j]


@njit(nogil=True, cache=True)
def _nearest_plain(tile, n, panel, best, second, nearest, at):  # type: ignore[no-untyped-def]
    scores = np.empty(panel.shape[0] * panel.shape[2], np.float32)
    for i in range(n):
        _score_plain(tile, i, panel, scores)
        best[at + i], nearest[at + i], second[at + i] = least_two(scores)


TINY = 1e-280
"""Squared distances below it have lost digits, or all of them, to underflow."""

MAGNIFIED = 2.0**600


@njit(nogil=True, cache=True, inline="always")
def distance2(rows, i, centroids, j, factor):  # type: ignore[no-untyped-def]
    """‖(x − c) · factor‖² in float64 from the differences, in the order of the features."""
    total = 0.0
    for p in range(rows.shape[1]):
        t = (np.float64(rows[i, p]) - centroids[j, p]) * factor
        total += t * t
    return total


@njit(nogil=True, cache=True, inline="always")
def nearest_of(rows, i, centroids, values, limit):  # type: ignore[no-untyped-def]
    """The nearest centroid in float64 among those whose values are not above a limit.

    Ties go to the lowest index. Where squares underflow, differences are magnified first.

    Parameters
    ----------
    rows, i : the row as given. centroids : (k, d) float64.
    values : (k or more,) float32.
    """
    nearest = np.int32(0)
    for turn in range(2):
        least = np.inf
        for j in range(centroids.shape[0]):
            if not values[j] > limit:
                t = distance2(rows, i, centroids, j, MAGNIFIED if turn else 1.0)
                if t < least:
                    least, nearest = t, np.int32(j)
        if not least < TINY:
            break
    return nearest


@njit(nogil=True, cache=True, inline="always")
def norm2(rows, i):  # type: ignore[no-untyped-def]
    """‖x‖² of a float32 row, for error bounds only."""
    total = np.float32(0)
    for p in range(rows.shape[1]):
        total += rows[i, p] * rows[i, p]
    return np.float64(total)


@njit(nogil=True, cache=True, inline="always")
def error_bound(square, gamma, longest, near):  # type: ignore[no-untyped-def]
    """Bound on the error of the scores of a row of squared length `square` that can be least.

    A centroid of length R ≥ 4‖x‖ + 2·`near` is farther from the row than the shortest by at least
    0.3 R², which is more than the errors of both scores as long as `gamma` is no more than 0.1.
    """
    length = np.sqrt(square) * (1.0 + gamma)
    far = 4.0 * length + 2.0 * near
    reach = length + (far if far < longest else longest)
    return gamma * reach * reach


@njit(nogil=True, cache=True, inline="always")
def resolve(rows, i, tile, r, panel, best, centroids, error, scores):  # type: ignore[no-untyped-def]
    """The nearest centroid in float64 among those whose scores cannot be told apart.

    Rows come as array and index: a view costs an atomic count of its users.

    Parameters
    ----------
    rows, i : the row as given. tile, r : the row in float32, in the frame.
    panel, centroids : of `kmdist.engine.kernels.frame.Panel`.
    best : least score of the row.
    error : from `error_bound`.
    scores : (centroids of the panel,) float32, scratch.
    """
    score_row(tile, r, panel, scores)
    limit = np.float64(best) + 4.0 * error  # two scores here, two in `best` and its rival
    return nearest_of(rows, i, centroids, scores, limit)


@njit(nogil=True, cache=True, inline="always")
def load_tile(rows, first, n, shift, scale, tile):  # type: ignore[no-untyped-def]
    """Rows in the frame as float32, computed in the type of the shift.

    Rows come as array and index: a view costs an atomic count of its users.
    """
    for i in range(n):
        for p in range(rows.shape[1]):
            tile[i, p] = np.float32((shift.dtype.type(rows[first + i, p]) - shift[p]) * scale)


__all__ = [
    "TILE_ROWS",
    "error_bound",
    "load_tile",
    "nearest_of",
    "nearest_rows",
    "norm2",
    "resolve",
    "score_row",
]


_FLOAT, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)

LANES = 16
"""Centroids in a vector of a panel, but for those of up to 8 centroids."""

_PAD = float(np.float32(3e38))
"""More than any score: of lanes without a centroid."""


def has_wide_registers() -> bool:
    """Whether the processor compiled for holds 16 float32 numbers in each of 32 registers."""
    features = config.CPU_FEATURES  # type: ignore[attr-defined]
    if features is None:
        features = get_host_cpu_features().flatten()
    return "+avx512f" in features.split(",")


def _make_block(rows: int, vectors: int, lanes: int) -> Any:
    """An intrinsic for a fixed block: `rows` rows, ``vectors · lanes`` centroids."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        _Block(builder, rows, vectors, lanes).emit(*args)
        return context.get_dummy_value()

    @intrinsic
    def block(context, x, d, panel, index, best, second, nearest):  # type: ignore[no-untyped-def]
        return types.void(*[types.intp] * 7), generate

    return block


def _make_listed_block(rows: int) -> Any:
    """An intrinsic for some listed rows and a vector of centroids."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        _Block(builder, rows, 1, LANES).emit_listed(*args)
        return context.get_dummy_value()

    @intrinsic
    def block(context, x, listed, d, panel, index, limits, own, least, hits):  # type: ignore[no-untyped-def]
        return types.void(*[types.intp] * 9), generate

    return block


def _make_scores(lanes: int) -> Any:
    """An intrinsic for the scores of one row and a vector of centroids."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        x, d, panel, out = args
        block = _Block(builder, 1, 1, lanes)
        ((scores,),) = block.products(x, d, panel)
        builder.store(scores, block.pointer(out, block.vector)).align = 4
        return context.get_dummy_value()

    @intrinsic
    def scores(context, x, d, panel, out):  # type: ignore[no-untyped-def]
        return types.void(*[types.intp] * 4), generate

    return scores


class _Block:
    """Emits the code of one block."""

    def __init__(self, builder: Any, rows: int, vectors: int, lanes: int) -> None:
        self.builder, self.rows, self.vectors, self.lanes = builder, rows, vectors, lanes
        self.vector = ir.VectorType(_FLOAT, lanes)

    def constant(self, value: int) -> Any:
        return ir.Constant(_I64, value)

    def pointer(self, address: Any, element: Any) -> Any:
        return self.builder.inttoptr(address, element.as_pointer())

    def load_vector(self, address: Any) -> Any:
        loaded = self.builder.load(self.pointer(address, self.vector))
        loaded.align = 4
        return loaded

    def splat(self, scalar: Any) -> Any:
        undefined = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        zeros = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        single = self.builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        return self.builder.shuffle_vector(single, undefined, zeros)

    def lesser(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def least(self, vector: Any) -> Any:
        half = self.lanes // 2
        while half:
            order = [(i + half) % self.lanes for i in range(self.lanes)]
            mask = ir.Constant(ir.VectorType(_I32, self.lanes), order)
            vector = self.lesser(self.builder.shuffle_vector(vector, vector, mask), vector)
            half //= 2
        return self.builder.extract_element(vector, ir.Constant(_I32, 0))

    def emit(
        self, x: Any, d: Any, panel: Any, index: Any, best: Any, second: Any, nearest: Any
    ) -> None:
        for row, parts in enumerate(self.products(x, d, panel)):
            self.fold(parts, row, index, best, second, nearest)

    def emit_listed(
        self, x: Any, listed: Any, d: Any, panel: Any, index: Any, limits: Any, own: Any,
        least: Any, hits: Any,
    ) -> None:  # fmt: skip
        """Per row which scores are not above its limit, but its own lane's; the least of others."""
        b = self.builder
        numbers = [self.number_at(listed, self.constant(row)) for row in range(self.rows)]
        row_bytes = b.mul(d, self.constant(4))
        rows = [b.add(x, b.mul(number, row_bytes)) for number in numbers]
        vector = ir.VectorType(_I32, self.lanes)
        lanes = ir.Constant(vector, list(range(self.lanes)))
        padding = self.splat(ir.Constant(_FLOAT, _PAD))
        for row, (scores,) in enumerate(self.products(x, d, panel, rows)):
            lane = b.trunc(b.sub(self.number_at(own, numbers[row]), index), _I32)
            others = b.select(b.icmp_signed("==", lanes, self.splat(lane)), padding, scores)
            limit = self.splat(b.load(self.pointer(self.place(limits, numbers[row]), _FLOAT)))
            found = b.trunc(self.mask([others], limit), _I32)
            others = b.select(b.fcmp_ordered("<=", others, limit), padding, others)
            b.store(self.least(others), self.pointer(self.place(least, self.constant(row)), _FLOAT))
            b.store(found, self.pointer(self.place(hits, self.constant(row)), _I32))

    def place(self, address: Any, number: Any) -> Any:
        return self.builder.add(address, self.builder.mul(number, self.constant(4)))

    def number_at(self, address: Any, number: Any) -> Any:
        """One of some int32, as int64."""
        b = self.builder
        return b.sext(b.load(self.pointer(self.place(address, number), _I32)), _I64)

    def products(
        self, x: Any, d: Any, panel: Any, rows: list[Any] | None = None
    ) -> list[list[Any]]:
        """‖c‖² − 2x·c: the first line of the panel plus Σ x_p · line p + 1.

        Rows follow each other from x on, or begin where it is said.
        """
        b = self.builder
        line_bytes, row_bytes = 4 * self.lanes, b.mul(d, self.constant(4))
        panel_bytes = b.mul(b.add(d, self.constant(1)), self.constant(line_bytes))
        starts = [b.add(panel, b.mul(panel_bytes, self.constant(v))) for v in range(self.vectors)]
        sums = [[cgutils.alloca_once(b, self.vector) for _ in starts] for _ in range(self.rows)]
        for v, start in enumerate(starts):
            norms = self.load_vector(start)
            for parts in sums:
                b.store(norms, parts[v])
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f32"
        multiply_add = cgutils.get_or_insert_function(b.module, kind, name)
        with cgutils.for_range(b, d) as loop:
            line = b.mul(b.add(loop.index, self.constant(1)), self.constant(line_bytes))
            values = [self.load_vector(b.add(start, line)) for start in starts]
            address = self.place(x, loop.index)
            for row, parts in enumerate(sums):
                address = self.place(rows[row], loop.index) if rows else address
                own = self.splat(b.load(self.pointer(address, _FLOAT)))
                for value, part in zip(values, parts, strict=True):
                    b.store(b.call(multiply_add, [own, value, b.load(part)]), part)
                address = b.add(address, row_bytes)
        return [[b.load(part) for part in parts] for parts in sums]

    def fold(
        self, scores: list[Any], row: int, index: Any, best: Any, second: Any, nearest: Any
    ) -> None:
        """Fold one row's scores into its best, the least of the others, and its index."""
        b = self.builder
        least = self.least(self.least_of(scores))
        limit = self.splat(least)
        first = self.mask(scores, limit)
        kind = ir.FunctionType(_I64, [_I64, ir.IntType(1)])
        trailing = cgutils.get_or_insert_function(b.module, kind, "llvm.cttz.i64")
        here = b.add(index, b.call(trailing, [first, ir.Constant(ir.IntType(1), 0)]))
        alone = b.icmp_unsigned(
            "==", b.and_(first, b.sub(first, self.constant(1))), self.constant(0)
        )
        padding = self.splat(ir.Constant(_FLOAT, _PAD))
        others = [b.select(b.fcmp_ordered("<=", s, limit), padding, s) for s in scores]
        other = b.select(alone, self.least(self.least_of(others)), least)
        offset = self.constant(4 * row)
        best_at = self.pointer(b.add(best, offset), _FLOAT)
        second_at = self.pointer(b.add(second, offset), _FLOAT)
        index_at = self.pointer(b.add(nearest, offset), _I32)
        old_best, old_second, old_index = b.load(best_at), b.load(second_at), b.load(index_at)
        wins = b.fcmp_ordered("<", least, old_best)
        loser = b.select(wins, old_best, least)
        b.store(b.select(wins, least, old_best), best_at)
        b.store(self.lesser(loser, self.lesser(other, old_second)), second_at)
        b.store(b.select(wins, b.trunc(here, _I32), old_index), index_at)

    def least_of(self, vectors: list[Any]) -> Any:
        lowest = vectors[0]
        for vector in vectors[1:]:
            lowest = self.lesser(vector, lowest)
        return lowest

    def mask(self, scores: list[Any], limit: Any) -> Any:
        """Bit j is set where score j is not above the limit."""
        b = self.builder
        bits = self.constant(0)
        for v, part in enumerate(scores):
            below = b.bitcast(b.fcmp_ordered("<=", part, limit), ir.IntType(self.lanes))
            bits = b.or_(bits, b.shl(b.zext(below, _I64), self.constant(self.lanes * v)))
        return bits


_WIDE = has_wide_registers()
"""Registers then hold 384 scores, else 96 of them: larger blocks take 3 × as long with AVX2."""

_block_12x1_8 = _make_block(12, 1, 8)
_block_6x1 = _make_block(6, 1, 16)
_block_16x1 = _make_block(16, 1, 16)
_block_12x2 = _make_block(12, 2, 16)
_block_6x4 = _make_block(6, 4, 16)
_scores_8, _scores_16 = _make_scores(8), _make_scores(16)
LISTED_ROWS = 12 if _WIDE else 6
_listed_block = _make_listed_block(LISTED_ROWS)

TILE_ROWS = 96
"""Rows of a tile: a multiple of the rows of each block."""


@njit(nogil=True, cache=True)
def _wide_blocks(x, d, c, vectors, n, b, s, i):  # type: ignore[no-untyped-def]
    row, step = 4 * d, 64 * (d + 1)
    v = 0
    while v + 4 <= vectors:
        for r in range(0, n, 6):
            _block_6x4(x + r * row, d, c + v * step, 16 * v, b + 4 * r, s + 4 * r, i + 4 * r)
        v += 4
    while v + 2 <= vectors:
        for r in range(0, n, 12):
            _block_12x2(x + r * row, d, c + v * step, 16 * v, b + 4 * r, s + 4 * r, i + 4 * r)
        v += 2
    while v < vectors:
        for r in range(0, n, 16):
            _block_16x1(x + r * row, d, c + v * step, 16 * v, b + 4 * r, s + 4 * r, i + 4 * r)
        v += 1


@njit(nogil=True, cache=True, inline="always")
def nearest_of_tile(tile, n, panel, best, second, nearest, at):  # type: ignore[no-untyped-def]
    """Best score of each row of a tile, the least of its others, and the index of the best.

    Parameters
    ----------
    tile : (rows, d) float32, C order, rows a multiple of 48; those from n on are read but do not
        matter.
    n : rows wanted.
    panel : (vectors, d + 1, lanes) float32, `kmdist.engine.kernels.frame.Panel.scores`; lanes are
        16, or 8 in a single vector.
    best, second, nearest : float32, float32, int32, of which as many as the tile has rows are
        written, from the place `at` on.
    """
    d = tile.shape[1]
    vectors, lines, lanes = panel.shape
    rows, fits = at + tile.shape[0], lanes == 16 or (lanes == 8 and vectors == 1)
    # What is addressed below without a check: whole groups of 16, 12 or 6 rows.
    if tile.shape[0] % 48 or n > tile.shape[0] or lines != d + 1:
        raise ValueError("the tile does not fit its rows or the panel")
    if not fits or at < 0 or best.size < rows or second.size < rows or nearest.size < rows:
        raise ValueError("the panel or the results do not fit the blocks")
    for r in range(at, rows):
        best[r], second[r], nearest[r] = np.float32(_PAD), np.float32(_PAD), 0
    x, c = tile.ctypes.data, panel.ctypes.data
    b, s, i = best.ctypes.data + 4 * at, second.ctypes.data + 4 * at, nearest.ctypes.data + 4 * at
    row, step = 4 * d, 4 * lanes * lines
    if lanes == 8:
        for r in range(0, n, 12):
            _block_12x1_8(x + r * row, d, c, 0, b + 4 * r, s + 4 * r, i + 4 * r)
    elif _WIDE:
        _wide_blocks(x, d, c, vectors, n, b, s, i)
    else:
        for v in range(vectors):
            for r in range(0, n, 6):
                _block_6x1(x + r * row, d, c + v * step, 16 * v, b + 4 * r, s + 4 * r, i + 4 * r)


@njit(nogil=True, cache=True, inline="always")
def _score_vectors(tile, r, panel, out):  # type: ignore[no-untyped-def]
    """Scores ‖c‖² − 2x·c of one row."""
    d = tile.shape[1]
    vectors, lines, lanes = panel.shape
    if not 0 <= r < tile.shape[0] or lines != d + 1 or out.size < vectors * lanes:
        raise ValueError("the panel does not fit the row, or its scores their place")
    x, c, s = tile.ctypes.data + 4 * d * r, panel.ctypes.data, out.ctypes.data
    for v in range(vectors):
        if lanes == 8:
            _scores_8(x, d, c, s)
        else:
            _scores_16(x, d, c + 64 * lines * v, s + 64 * v)


score_row = _score_plain if PLAIN_KERNELS else _score_vectors
nearest_rows = _nearest_plain if PLAIN_KERNELS else nearest_of_tile


@njit(nogil=True, cache=True)
def score_listed(points, first, listed, n, panel, v, limits, own, least, hits):  # type: ignore[no-untyped-def]
    """Score some rows by one vector of a panel, all but the lane of their own centroid.

    Parameters
    ----------
    points : (rows, d) float32, C order.
    first, listed : the rows are ``points[first + listed]``; those after the n that are wanted, up
        to a multiple of `LISTED_ROWS`, are read but do not matter.
    panel, v : (vectors, d + 1, 16) float32, and which vector.
    limits, own : float32 and int32, by the numbers in `listed`: a score that is a hit if it is not
        above it, and which lane of the panel to leave out.
    least, hits : float32 and int32, written, by place in `listed`: the least score that is no hit,
        and a bit for each lane that is one.
    """
    d = points.shape[1]
    vectors, lines, lanes = panel.shape
    whole = -(-n // LISTED_ROWS) * LISTED_ROWS
    if v >= vectors or lines != d + 1 or lanes != LANES:
        raise ValueError("the panel does not fit the rows")
    if whole > min(listed.size, least.size, hits.size):
        raise ValueError("there is no room for whole blocks of rows")
    for at in range(whole):
        r = listed[at]
        if r < 0 or r >= min(limits.size, own.size) or first + r >= points.shape[0]:
            raise ValueError("a row that is listed does not exist")
    x, c = points.ctypes.data + 4 * d * first, panel.ctypes.data + 4 * LANES * lines * v
    for at in range(0, whole, LISTED_ROWS):
        _listed_block(
            x, listed.ctypes.data + 4 * at, d, c, LANES * v, limits.ctypes.data, own.ctypes.data,
            least.ctypes.data + 4 * at, hits.ctypes.data + 4 * at,
        )  # fmt: skip


_LANES = 16
_VECTOR = ir.VectorType(_FLOAT, _LANES)
_FAST = ("contract", "nnan", "nsz", "reassoc")


@intrinsic
def prefetch(context, address):  # type: ignore[no-untyped-def]
    """Ask for the cache line at an address; a hint that never fails."""
    pointer = ir.IntType(8).as_pointer()

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.inttoptr(args[0], pointer)
        builder.call(hint, [place, *(ir.Constant(_I32, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic
def frame_row(context, row, d, shift, scale, centroid, out):  # type: ignore[no-untyped-def]
    """Write (x − shift) · scale; return its squared length and squared distance to a centroid.

    `row`, `shift`, `centroid` and `out` are addresses of float32; `d` is how many.
    """
    signature = types.UniTuple(types.float32, 2)(
        types.intp, types.intp, types.intp, types.float32, types.intp, types.intp
    )

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        totals = _emit(builder, *args)
        return context.make_tuple(builder, signature.return_type, totals)

    return signature, generate


def _emit(b: Any, row: Any, d: Any, shift: Any, scale: Any, centroid: Any, out: Any) -> list[Any]:
    zeros = ir.Constant(_VECTOR, [0.0] * _LANES)
    wide = [cgutils.alloca_once_value(b, zeros) for _ in range(2)]
    lone = [cgutils.alloca_once_value(b, ir.Constant(_FLOAT, 0.0)) for _ in range(2)]
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = b.insert_element(undefined, scale, ir.Constant(_I32, 0))
    lanes = ir.Constant(ir.VectorType(_I32, _LANES), [0] * _LANES)
    scales = b.shuffle_vector(first, undefined, lanes)

    def at(address: Any, index: Any, kind: Any) -> Any:
        place = b.add(address, b.mul(index, ir.Constant(_I64, 4)))
        return b.inttoptr(place, kind.as_pointer())

    def one(index: Any, kind: Any, factor: Any, totals: list[Any]) -> None:
        loaded = []
        for address in (row, shift, centroid):
            value = b.load(at(address, index, kind))
            value.align = 4
            loaded.append(value)
        x = b.fmul(b.fsub(loaded[0], loaded[1]), factor)
        b.store(x, at(out, index, kind)).align = 4
        for value, total in zip((x, b.fsub(x, loaded[2])), totals, strict=True):
            square = b.fmul(value, value, flags=_FAST)
            b.store(b.fadd(b.load(total), square, flags=_FAST), total)

    vectors = b.udiv(d, ir.Constant(_I64, _LANES))
    with cgutils.for_range(b, vectors) as loop:
        one(b.mul(loop.index, ir.Constant(_I64, _LANES)), _VECTOR, scales, wide)
    done = b.mul(vectors, ir.Constant(_I64, _LANES))
    with cgutils.for_range(b, d, start=done) as loop:
        one(loop.index, _FLOAT, scale, lone)
    return [
        b.fadd(_sum(b, b.load(v)), b.load(s), flags=_FAST) for v, s in zip(wide, lone, strict=True)
    ]


def _sum(b: Any, vector: Any) -> Any:
    half = _LANES // 2
    while half:
        order = [(i + half) % _LANES for i in range(_LANES)]
        mask = ir.Constant(ir.VectorType(_I32, _LANES), order)
        vector = b.fadd(vector, b.shuffle_vector(vector, vector, mask), flags=_FAST)
        half //= 2
    return b.extract_element(vector, ir.Constant(_I32, 0))
