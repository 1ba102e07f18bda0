"""Scores and their minimum for a few rows and up to 64 centroids, held in registers (LLVM IR).

numba compiles loops over arrays, so that a score is loaded and stored for every few products and
again for the minimum. Here a block of rows × centroids stays in registers until its minimum is
known: 2.6 × (48 features, 64 centroids), 2.1 × (48, 6) and 2.0 × (784, 10) as fast as plain loops
on Zen 4; on Zen 3 as fast with 784 and 256 as OpenBLAS is with the products alone. The code is
vector IR without any instruction of one processor: LLVM fits it to whatever vectors there are, and
`plain` in `nearest_rows` chooses the plain kernel instead. Either gives the same labels.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic

_FLOAT, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)

_PAD = float(np.float32(3e38))
"""More than any score: of lanes without a centroid."""


def _has_wide_registers() -> bool:
    """Whether the processor compiled for holds 16 float32 numbers in each of 32 registers."""
    features = config.CPU_FEATURES  # type: ignore[attr-defined]
    if features is None:
        features = get_host_cpu_features().flatten()
    return "+avx512f" in features.split(",")


def _make_block(rows: int, vectors: int, lanes: int, *, kept: bool = False) -> Any:
    """An intrinsic for a fixed block: `rows` rows, ``vectors · lanes`` centroids.

    Where scores are kept, its arguments end with their address and the bytes of a row of them.
    """

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        _Block(builder, rows, vectors, lanes).emit(*args)
        return context.get_dummy_value()

    if kept:

        @intrinsic
        def block(context, x, d, panel, index, best, second, nearest, scores, stride):  # type: ignore[no-untyped-def]
            return types.void(*[types.intp] * 9), generate

    else:

        @intrinsic
        def block(context, x, d, panel, index, best, second, nearest):  # type: ignore[no-untyped-def]
            return types.void(*[types.intp] * 7), generate

    return block


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
        undefined = ir.Constant(self.vector, ir.Undefined)
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
        self, x: Any, d: Any, panel: Any, index: Any, best: Any, second: Any, nearest: Any,
        *kept: Any,
    ) -> None:  # fmt: skip
        scores = self.products(x, d, panel)
        for row, parts in enumerate(scores):
            if kept:
                self.keep(parts, row, *kept)
            self.fold(parts, row, index, best, second, nearest)

    def keep(self, parts: list[Any], row: int, address: Any, stride: Any) -> None:
        """Write the scores of one row."""
        b = self.builder
        start = b.add(address, b.mul(stride, self.constant(row)))
        for v, part in enumerate(parts):
            place = b.add(start, self.constant(4 * self.lanes * v))
            b.store(part, self.pointer(place, self.vector)).align = 4

    def products(self, x: Any, d: Any, panel: Any) -> list[list[Any]]:
        """‖c‖² − 2x·c: the first line of the panel plus Σ x_p · line p + 1."""
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
            address = b.add(x, b.mul(loop.index, self.constant(4)))
            for parts in sums:
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


_WIDE = _has_wide_registers()
"""Registers then hold 384 scores, else 96 of them: larger blocks take 3 × as long with AVX2."""

_block_12x1_8 = _make_block(12, 1, 8)
_block_6x1 = _make_block(6, 1, 16)
_block_16x1 = _make_block(16, 1, 16)
_block_12x2 = _make_block(12, 2, 16)
_block_6x4 = _make_block(6, 4, 16)
_kept_12x1_8 = _make_block(12, 1, 8, kept=True)
_KEPT_ROWS = 16 if _WIDE else 6
_kept_block = _make_block(_KEPT_ROWS, 1, 16, kept=True)

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


@njit(nogil=True, cache=True)
def _start(tile, n, panel, best, second, nearest):  # type: ignore[no-untyped-def]
    """Check what is addressed without a check: whole groups of 16, 12 or 6 rows."""
    vectors, lines, lanes = panel.shape
    if tile.shape[0] % 48 or n > tile.shape[0] or lines != tile.shape[1] + 1:
        raise ValueError("the tile does not fit its rows or the panel")
    fits = lanes == 16 or (lanes == 8 and vectors == 1)
    if not fits or min(best.size, second.size, nearest.size) < tile.shape[0]:
        raise ValueError("the panel or the results do not fit the blocks")
    best[:] = np.float32(_PAD)
    second[:] = np.float32(_PAD)
    nearest[:] = 0


@njit(nogil=True, cache=True)
def nearest_of_tile(tile, n, panel, best, second, nearest):  # type: ignore[no-untyped-def]
    """Best score of each row of a tile, the least of its others, and the index of the best.

    Parameters
    ----------
    tile : (rows, d) float32, C order, rows a multiple of 48; those from n on are read but do not
        matter.
    n : rows wanted.
    panel : (vectors, d + 1, lanes) float32, `kmdist.engine.kernels.frame.Panel.scores`; lanes are
        16, or 8 in a single vector.
    best, second, nearest : (TILE_ROWS,) float32, float32, int32, written.
    """
    d = tile.shape[1]
    vectors, lines, lanes = panel.shape
    _start(tile, n, panel, best, second, nearest)
    x, c = tile.ctypes.data, panel.ctypes.data
    b, s, i = best.ctypes.data, second.ctypes.data, nearest.ctypes.data
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


@njit(nogil=True, cache=True)
def scores_of_tile(tile, n, panel, best, second, nearest, scores):  # type: ignore[no-untyped-def]
    """`nearest_of_tile`, and all scores into (rows, lanes of the panel or more) float32."""
    d = tile.shape[1]
    vectors, _, lanes = panel.shape
    _start(tile, n, panel, best, second, nearest)
    if scores.shape[0] < tile.shape[0] or scores.shape[1] < vectors * lanes:
        raise ValueError("the scores do not fit the tile or the panel")
    x, c, o = tile.ctypes.data, panel.ctypes.data, scores.ctypes.data
    b, s, i = best.ctypes.data, second.ctypes.data, nearest.ctypes.data
    row, step, width = 4 * d, 64 * (d + 1), 4 * scores.shape[1]
    if lanes == 8:
        for r in range(0, n, 12):
            at = o + r * width
            _kept_12x1_8(x + r * row, d, c, 0, b + 4 * r, s + 4 * r, i + 4 * r, at, width)
        return
    for v in range(vectors):
        for r in range(0, n, _KEPT_ROWS):
            at = o + r * width + 64 * v
            _kept_block(
                x + r * row, d, c + v * step, 16 * v, b + 4 * r, s + 4 * r, i + 4 * r, at, width
            )
