"""The nearest centroid of rows of few features: vectors run over rows.

With so few features the minimum over the centroids costs more than the scores where a vector holds
the centroids of one row (`kmdist.engine.kernels.nearest`). Here a vector holds one score of as many
rows, so that the minimum is taken without any shuffle, and stays in registers until all centroids
have been seen; rows are brought into columns eight by eight. On Zen 3 a row of 8 features, 16 bits,
takes 5 ns instead of 12 with 8 centroids, 8 instead of 15 with 16. The code is vector IR, as there;
plain loops give the same labels.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from kmdist.engine.kernels import kernel
from kmdist.engine.kernels.nearest import has_wide_registers
from kmdist.kernel_cache import PLAIN_KERNELS

_FLOAT, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FAR = np.float32(3e38)

EIGHT = 8
"""Rows, and features, that are turned into columns together."""

_LANES = 16 if has_wide_registers() else 8
_VECTORS = 2
_BLOCK_ROWS = _LANES * _VECTORS
"""Rows whose minima are in registers together: of three numbers each, beside scores of two
centroids."""

COLUMN_ROWS = 256
"""Rows of a tile: small enough for the first-level cache; a multiple of those of a block."""


def _at(b: Any, address: Any, offset: Any, kind: Any) -> Any:
    """The value of a type at an address, which need not be aligned."""
    loaded = b.load(b.inttoptr(b.add(address, offset), kind.as_pointer()))
    loaded.align = 1
    return loaded


def _put(b: Any, value: Any, address: Any, offset: Any) -> None:
    b.store(value, b.inttoptr(b.add(address, offset), value.type.as_pointer())).align = 1


def _splat(b: Any, scalar: Any, lanes: int) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    single = b.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return b.shuffle_vector(single, undefined, zeros)


_PAIRS = ([0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15])
_FOURS = ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15])
_HALVES = ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])


def _turned(b: Any, rows: list[Any]) -> list[Any]:
    """Eight vectors of eight as columns: pairs, fours, and halves of two vectors each."""

    def mixed(one: Any, other: Any, order: list[int]) -> Any:
        return b.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, EIGHT), order))

    pairs = [[mixed(rows[i], rows[i + 1], order) for order in _PAIRS] for i in range(0, EIGHT, 2)]
    fours = [
        [mixed(pairs[i][half], pairs[i + 1][half], order) for half in (0, 1) for order in _FOURS]
        for i in (0, 2)
    ]
    return [mixed(fours[0][i], fours[1][i], order) for order in _HALVES for i in range(4)]


@intrinsic
def _turn_eight(context, rows, place, shift, p, scale, out, line):  # type: ignore[no-untyped-def]
    """Eight features of eight rows, in the frame, as columns of float32.

    Parameters
    ----------
    rows : (n, d), C order. place : of the first value, counted in values.
    shift : of the features; eight from number p on. scale : of their type.
    out : address. line : bytes from a column to the next.
    """

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kinds = rows.dtype, shift.dtype
        element, computed = (context.get_value_type(kind) for kind in kinds)
        starts = [
            builder.ptrtoint(context.make_array(kind)(context, builder, value).data, _I64)
            for kind, value in ((rows, args[0]), (shift, args[2]))
        ]
        array = context.make_array(rows)(context, builder, args[0])
        row_bytes = builder.extract_value(array.strides, 0)
        sizes = [ir.Constant(_I64, kind.bitwidth // 8) for kind in kinds]
        x = builder.add(starts[0], builder.mul(args[1], sizes[0]))
        offset = builder.add(starts[1], builder.mul(args[3], sizes[1]))
        _emit_columns(builder, (x, element, row_bytes), (offset, computed, args[4]), args[5:])
        return context.get_dummy_value()

    signature = types.void(rows, types.intp, shift, types.intp, shift.dtype, types.intp, types.intp)
    return signature, generate


def _emit_columns(b: Any, rows: Any, frame: Any, out: Any) -> None:
    (x, element, row_bytes), (shift, computed, scale), (columns, line) = rows, frame, out
    wide, single = ir.VectorType(computed, EIGHT), ir.VectorType(_FLOAT, EIGHT)
    offset, factor = _at(b, shift, ir.Constant(_I64, 0), wide), _splat(b, scale, EIGHT)
    found = []
    for i in range(EIGHT):
        place = b.mul(row_bytes, ir.Constant(_I64, i))
        value = _at(b, x, place, ir.VectorType(element, EIGHT))
        if isinstance(element, ir.IntType):
            value = b.uitofp(value, wide)
        elif element != computed:
            value = b.fpext(value, wide)
        value = b.fmul(b.fsub(value, offset), factor)
        found.append(value if computed == _FLOAT else b.fptrunc(value, single))
    for p, column in enumerate(_turned(b, found)):
        _put(b, column, columns, b.mul(line, ir.Constant(_I64, p)))


@intrinsic
def _least_of_block(context, columns, line, d, panel, step, k, index, best, second, nearest):  # type: ignore[no-untyped-def]
    """Fold the scores of some rows by the centroids of a vector of a panel into their minima.

    Parameters
    ----------
    columns : address of the first column. line : bytes from a column to the next. d : columns.
    panel : address of the first line. step : bytes from a line to the next. k : centroids, even.
    index : of the first of them. best, second, nearest : addresses.
    """

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        _emit_block(builder, *args)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 10), generate


def _emit_block(
    b: Any, columns: Any, line: Any, d: Any, panel: Any, step: Any, k: Any, index: Any,
    best: Any, second: Any, nearest: Any,
) -> None:  # fmt: skip
    vector, whole = ir.VectorType(_FLOAT, _LANES), ir.VectorType(_I32, _LANES)
    constant = ir.Constant
    offsets = [constant(_I64, 4 * _LANES * v) for v in range(_VECTORS)]
    fused = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{_LANES}f32"
    )

    def lesser(one: Any, other: Any) -> Any:
        return b.select(b.fcmp_ordered("<", one, other), one, other)

    def greater(one: Any, other: Any) -> Any:
        return b.select(b.fcmp_ordered(">", one, other), one, other)

    places = ((best, vector), (second, vector), (nearest, whole))
    least = [
        [cgutils.alloca_once_value(b, _at(b, start, at, kind)) for start, kind in places]
        for at in offsets
    ]
    with cgutils.for_range(b, b.lshr(k, constant(_I64, 1))) as pair:
        first = b.add(panel, b.mul(pair.index, constant(_I64, 8)))
        both = [b.add(first, constant(_I64, 4 * one)) for one in range(2)]
        sums = [[cgutils.alloca_once(b, vector) for _ in offsets] for _ in both]
        for start, parts in zip(both, sums, strict=True):
            norm = _splat(b, _at(b, start, constant(_I64, 0), _FLOAT), _LANES)
            for part in parts:
                b.store(norm, part)
        with cgutils.for_range(b, d) as loop:
            column = b.add(columns, b.mul(loop.index, line))
            values = [_at(b, column, at, vector) for at in offsets]
            here = b.mul(b.add(loop.index, constant(_I64, 1)), step)
            for start, parts in zip(both, sums, strict=True):
                factor = _splat(b, _at(b, start, here, _FLOAT), _LANES)
                for value, part in zip(values, parts, strict=True):
                    b.store(b.call(fused, [value, factor, b.load(part)]), part)
        number = b.trunc(b.add(index, b.shl(pair.index, constant(_I64, 1))), _I32)
        numbers = [_splat(b, b.add(number, constant(_I32, one)), _LANES) for one in range(2)]
        for v, known in enumerate(least):
            one, other = b.load(sums[0][v]), b.load(sums[1][v])
            which = b.select(b.fcmp_ordered("<", other, one), numbers[1], numbers[0])
            low, high = lesser(other, one), greater(other, one)
            old, rest, label = (b.load(place) for place in known)
            b.store(b.select(b.fcmp_ordered("<", low, old), which, label), known[2])
            b.store(lesser(greater(low, old), lesser(high, rest)), known[1])
            b.store(lesser(low, old), known[0])
    for at, known in zip(offsets, least, strict=True):
        for (start, _), place in zip(places, known, strict=True):
            _put(b, b.load(place), start, at)


@njit(nogil=True, cache=True, inline="always")
def _load_plain(rows, first, begin, end, shift, scale, columns):  # type: ignore[no-untyped-def]
    """Some rows of a tile as columns, in the frame, computed in the type of the shift."""
    for r in range(begin, end):
        for p in range(rows.shape[1]):
            columns[p, r] = np.float32((shift.dtype.type(rows[first + r, p]) - shift[p]) * scale)


@njit(nogil=True, cache=True, inline="always")
def _load_vectors(rows, first, begin, end, shift, scale, columns):  # type: ignore[no-untyped-def]
    d, line = rows.shape[1], 4 * columns.shape[1]
    eights = -(-d // EIGHT) * EIGHT
    if shift.size < eights or columns.shape[0] < eights:
        raise ValueError("the shift or the tile is not of whole eights of features")
    for r in range(begin, end, EIGHT):
        # The last features are read with what follows them, which has to be there.
        if r + EIGHT <= end and (first + r + EIGHT - 1) * d + eights <= rows.size:
            for p in range(0, d, EIGHT):
                out = columns.ctypes.data + p * line + 4 * r
                place = (first + r) * d + p
                _turn_eight(rows, place, shift, p, scale, out, line)  # type: ignore[call-arg]
        else:
            _load_plain(rows, first, r, min(r + EIGHT, end), shift, scale, columns)


@njit(nogil=True, cache=True, inline="always")
def _nearest_plain(columns, d, size, panel, k, best, second, nearest, at):  # type: ignore[no-untyped-def]
    lanes = panel.shape[2]
    for r in range(size):
        for j in range(k):
            v, lane = j // lanes, j % lanes
            score = panel[v, 0, lane]
            for p in range(d):
                score += columns[p, r] * panel[v, p + 1, lane]
            if score < best[at + r]:
                second[at + r], best[at + r], nearest[at + r] = best[at + r], score, np.int32(j)
            elif score < second[at + r]:
                second[at + r] = score


@njit(nogil=True, cache=True, inline="always")
def _nearest_vectors(columns, d, size, panel, k, best, second, nearest, at):  # type: ignore[no-untyped-def]
    vectors, lines, lanes = panel.shape
    rows = at + -(-size // _BLOCK_ROWS) * _BLOCK_ROWS
    # What is addressed below without a check: pairs of centroids, whole blocks of rows.
    if lines != d + 1 or lanes % 2 or k > vectors * lanes or columns.shape[0] < d:
        raise ValueError("the panel does not fit its centroids or the tile")
    if rows - at > columns.shape[1] or rows > min(best.size, second.size, nearest.size):
        raise ValueError("the tile or the results do not fit the blocks")
    line, step = 4 * columns.shape[1], 4 * lanes
    x, c = columns.ctypes.data, panel.ctypes.data
    b, s, i = best.ctypes.data, second.ctypes.data, nearest.ctypes.data
    for v in range(vectors):
        own = min(lanes, k - v * lanes + 1)
        for r in range(0, size, _BLOCK_ROWS):
            place = 4 * (at + r)
            _least_of_block(  # type: ignore[call-arg]
                x + 4 * r, line, d, c + v * lines * step, step, own, v * lanes,
                b + place, s + place, i + place,
            )  # fmt: skip


_load = _load_plain if PLAIN_KERNELS else _load_vectors
_nearest = _nearest_plain if PLAIN_KERNELS else _nearest_vectors


@kernel()
def score_columns(panel, k, rows, shift, scale, columns, best, second, nearest):  # type: ignore[no-untyped-def]
    """Best score of each row, the least of its others, and the index of the best.

    Parameters
    ----------
    panel, k : (vectors, d + 1, lanes) float32, `kmdist.engine.kernels.frame.Panel.scores`, and how
        many centroids it holds.
    rows : (n, d) of any type that kernels are compiled for, C order.
    shift, scale : of the frame; the shift with zeros up to a multiple of `EIGHT`.
    columns : (d up to such a multiple, COLUMN_ROWS) float32, scratch.
    best, second, nearest : float32, float32, int32, written for each row; whole tiles of them.
    """
    if min(best.size, second.size, nearest.size) < rows.shape[0]:
        raise ValueError("the results do not fit the rows")
    for first in range(0, rows.shape[0], COLUMN_ROWS):
        size = min(COLUMN_ROWS, rows.shape[0] - first)
        for r in range(first, first + size):
            best[r], second[r], nearest[r] = _FAR, _FAR, 0
        _load(rows, first, 0, size, shift, scale, columns)
        _nearest(columns, rows.shape[1], size, panel, k, best, second, nearest, first)
