"""Which centroids can be nearest in a box, and which is for some colours, by vectors of eight.

The code is vector IR, for the compiler makes no vectors of loops over a dozen centroids or colours;
plain loops (`kmdist.engine.kernels`) give the same labels in twice the time. Distances in float32
decide where they differ by more than they can be off, and distances in float64 where they do not.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from kmdist.kernel_cache import PLAIN_KERNELS  # before kernels are decorated

LANES = 8

_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_MOST = 0x7FFFFFFF
_FLOATS, _WHOLES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(_I32, LANES)


def _address(b: Any, start: Any, offset: Any, kind: Any) -> Any:
    return b.inttoptr(b.add(start, offset), kind.as_pointer())


def _load(b: Any, start: Any, offset: Any, kind: Any) -> Any:
    loaded = b.load(_address(b, start, offset, kind))
    loaded.align = 1
    return loaded


def _splat(b: Any, scalar: Any) -> Any:
    vector = ir.VectorType(scalar.type, LANES)
    single = b.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return b.shuffle_vector(single, ir.Constant(vector, ir.Undefined), ir.Constant(_WHOLES, None))


def _squares(b: Any, differences: list[Any]) -> Any:
    x, y, z = (b.fmul(one, one) for one in differences)
    return b.fadd(b.fadd(x, y), z)


def _lesser(b: Any, one: Any, other: Any) -> Any:
    return b.select(b.icmp_signed("<", one, other), one, other)


@intrinsic
def _find_eight(context, points, line, centroids, step, n, places):  # type: ignore[no-untyped-def]
    """Find the nearest of n centroids for each of eight points, as far as float32 tells it.

    Parameters
    ----------
    points, centroids : addresses of the first. line, step : bytes from a coordinate to the next.
    n : centroids, at most 65,536. places : address of eight int32, of the nearest.

    Returns
    -------
    Bits of the points for which another may be nearer, or as near.
    """

    def generate(context, b, signature, args):  # type: ignore[no-untyped-def]
        return _emit_nearest(b, *args)

    return types.uint8(*[types.intp] * 6), generate


def _emit_nearest(
    b: Any, points: Any, line: Any, centroids: Any, step: Any, n: Any, places: Any
) -> Any:
    """Minima of squared distances as integers, with the centroid's place in their last bits."""
    axes = [ir.Constant(_I64, axis) for axis in range(3)]
    here = [_load(b, points, b.mul(line, axis), _FLOATS) for axis in axes]
    rows = [b.add(centroids, b.mul(step, axis)) for axis in axes]
    least = b.ctlz(b.trunc(n, _I32), ir.Constant(_I1, 0))  # bits of no place
    low = b.lshr(ir.Constant(_I32, -1), least)
    in_key, of_place = _splat(b, b.not_(low)), _splat(b, low)
    # By as much the integers may be off: three times the last bits, and roundings of float32.
    sure = b.add(b.mul(low, ir.Constant(_I32, 3)), ir.Constant(_I32, 35))
    keys = [cgutils.alloca_once(b, _WHOLES) for _ in range(2)]
    for known in keys:
        b.store(ir.Constant(_WHOLES, [_MOST] * LANES), known)
    with cgutils.for_range(b, n) as loop:
        at = b.mul(loop.index, ir.Constant(_I64, 4))
        there = [_splat(b, _load(b, row, at, ir.FloatType())) for row in rows]
        apart = _squares(b, [b.fsub(x, c) for x, c in zip(here, there, strict=True)])
        place = _splat(b, b.trunc(loop.index, _I32))
        key = b.or_(b.and_(b.bitcast(apart, _WHOLES), in_key), place)
        first, second = (b.load(known) for known in keys)
        greater = b.select(b.icmp_signed("<", key, first), first, key)
        b.store(_lesser(b, second, greater), keys[1])
        b.store(_lesser(b, first, key), keys[0])
    first, second = (b.load(known) for known in keys)
    b.store(b.and_(first, of_place), b.inttoptr(places, _WHOLES.as_pointer())).align = 4
    unsure = b.icmp_signed("<", b.sub(second, first), _splat(b, sure))
    return b.bitcast(unsure, _I8)


# Boxes are filtered with float32 distances, which carry at most 5 roundings of 2⁻²⁴; a
# centroid is dropped only where it loses by more than 30 times that.
_SLACK = 1e-5


@intrinsic
def _mark_near(context, centroids, step, n, box, marks):  # type: ignore[no-untyped-def]
    """Mark the centroids that can be nearest somewhere in a box, by a bit each.

    Parameters
    ----------
    centroids, box, marks : addresses. step : bytes from a coordinate of the centroids to the next.
    n : centroids. marks : a byte for eight. Up to seven centroids after the last are read, and
        their bits mean nothing.
    """

    def generate(context, b, signature, args):  # type: ignore[no-untyped-def]
        _emit_marks(b, *args)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate


def _emit_marks(b: Any, centroids: Any, step: Any, n: Any, box: Any, marks: Any) -> None:
    single = ir.FloatType()
    rows = [b.add(centroids, b.mul(step, ir.Constant(_I64, axis))) for axis in range(3)]
    sides = [_load(b, box, ir.Constant(_I64, 4 * i), single) for i in range(6)]
    middle, half = sides[:3], sides[3:]
    middles = [_splat(b, one) for one in middle]
    halves = [_splat(b, one) for one in half]
    lanes = ir.Constant(_WHOLES, list(range(LANES)))
    end = _splat(b, b.trunc(n, _I32))
    n_vectors = b.lshr(b.add(n, ir.Constant(_I64, LANES - 1)), ir.Constant(_I64, 3))

    def some(index: Any) -> tuple[list[Any], Any]:
        at = b.mul(index, ir.Constant(_I64, 4 * LANES))
        values = [_load(b, row, at, _FLOATS) for row in rows]
        differences = [b.fsub(c, m) for c, m in zip(values, middles, strict=True)]
        return values, _squares(b, differences)

    most = ir.Constant(_WHOLES, [_MOST] * LANES)
    least = cgutils.alloca_once_value(b, most)
    b.store(most, least)
    with cgutils.for_range(b, n_vectors) as loop:
        _, apart = some(loop.index)
        first = b.trunc(b.mul(loop.index, ir.Constant(_I64, LANES)), _I32)
        places = b.add(_splat(b, first), lanes)
        # With the place in the last bits: any that is about the nearest serves as s.
        high = b.and_(b.bitcast(apart, _WHOLES), ir.Constant(_WHOLES, [-65536] * LANES))
        key = b.select(b.icmp_signed("<", places, end), b.or_(high, places), most)
        b.store(_lesser(b, b.load(least), key), least)
    found = b.load(least)
    for shift in (4, 2, 1):
        order = ir.Constant(_WHOLES, [(lane + shift) % LANES for lane in range(LANES)])
        found = _lesser(b, found, b.shuffle_vector(found, found, order))
    nearest = b.and_(b.extract_element(found, ir.Constant(_I32, 0)), ir.Constant(_I32, 65535))
    at = b.mul(b.zext(nearest, _I64), ir.Constant(_I64, 4))
    near = [_load(b, row, at, single) for row in rows]
    best = _squares(b, [b.fsub(c, m) for c, m in zip(near, middle, strict=True)])
    limit = _splat(b, b.fmul(best, ir.Constant(single, float(np.float32(1 + _SLACK)))))
    nears = [_splat(b, one) for one in near]
    less = ir.Constant(_FLOATS, [float(np.float32(1 - _SLACK))] * LANES)
    more = ir.Constant(_FLOATS, [float(2 * np.float32(1 + _SLACK))] * LANES)
    unsigned = ir.Constant(_WHOLES, [_MOST] * LANES)
    with cgutils.for_range(b, n_vectors) as loop:
        values, apart = some(loop.index)
        x, y, z = (
            b.fmul(h, b.bitcast(b.and_(b.bitcast(b.fsub(c, s), _WHOLES), unsigned), _FLOATS))
            for h, c, s in zip(halves, values, nears, strict=True)
        )
        reach = b.fmul(b.fadd(b.fadd(x, y), z), more)
        kept = b.fcmp_ordered("<=", b.fsub(b.fmul(apart, less), reach), limit)
        b.store(b.bitcast(kept, _I8), _address(b, marks, loop.index, _I8))


@intrinsic
def _lowest_bit(context, word):  # type: ignore[no-untyped-def]
    """Place of the lowest bit of a uint64 that has some."""

    def generate(context, b, signature, args):  # type: ignore[no-untyped-def]
        return b.cttz(args[0], ir.Constant(_I1, 1))

    return types.uint64(types.uint64), generate


@njit(nogil=True, cache=True, inline="always")
def _filter_vectors(centroids, index, n, boxes, box, marks, out, out_index):  # type: ignore[no-untyped-def]
    """Keep the centroids that can be nearest somewhere in a box, in ascending order.

    j loses to s, which is about the nearest to the box's centre m, in all of the box with half
    sides h if ‖c_j − m‖² − ‖c_s − m‖² > 2 Σ h |c_j − c_s|.

    Parameters
    ----------
    centroids : (3, n + 8) float32 at least. index : (n,) of them. boxes : (m, 6) float32.
    marks : scratch, n / 64 + 1 uint64. out, out_index : as centroids and index, of those kept.

    Returns
    -------
    How many are kept.
    """
    _mark_near(  # type: ignore[call-arg]
        centroids.ctypes.data, 4 * centroids.shape[1], n, boxes.ctypes.data + 24 * box,
        marks.ctypes.data,
    )  # fmt: skip
    kept = 0
    for word in range((n + 63) // 64):
        left, rest = marks[word], n - 64 * word
        if rest < 64:
            left &= (np.uint64(1) << np.uint64(rest)) - np.uint64(1)
        while left:
            j = np.uint64(64 * word) + _lowest_bit(left)
            left &= left - np.uint64(1)
            out[0, kept] = centroids[0, j]
            out[1, kept] = centroids[1, j]
            out[2, kept] = centroids[2, j]
            out_index[kept] = index[j]
            kept += 1
    return kept


@njit(nogil=True, cache=True, inline="always")
def _find_nearest(points, i, centroids, n):  # type: ignore[no-untyped-def]
    """Place of the nearest of n centroids for a point, in float64; ties go to the first."""
    px, py, pz = np.float64(points[0, i]), np.float64(points[1, i]), np.float64(points[2, i])
    best, nearest = np.inf, 0
    for j in range(n):
        x, y, z = centroids[0, j] - px, centroids[1, j] - py, centroids[2, j] - pz
        distance = x * x + y * y + z * z
        closer = distance < best
        best = distance if closer else best
        nearest = j if closer else nearest
    return nearest


@njit(nogil=True, cache=True, inline="always")
def _find_vectors(points, start, end, centroids, n, places):  # type: ignore[no-untyped-def]
    """Write the places of the nearest of n centroids for some points; ties go to the first.

    Parameters
    ----------
    points, centroids : (3, at least 8 more than there are) float32.
    places : (end − start + 8,) uint32 at least.
    """
    for first in range(start, end, LANES):
        unsure: Any = _find_eight(  # type: ignore[call-arg]
            points.ctypes.data + 4 * first, 4 * points.shape[1], centroids.ctypes.data,
            4 * centroids.shape[1], n, places.ctypes.data + 4 * (first - start),
        )  # fmt: skip
        if unsure:
            for i in range(first, min(first + LANES, end)):
                places[i - start] = _find_nearest(points, i, centroids, n)


@njit(nogil=True, cache=True)
def _filter_plain(centroids, index, n, boxes, box, marks, out, out_index):  # type: ignore[no-untyped-def]
    mx, my, mz = boxes[box, 0], boxes[box, 1], boxes[box, 2]
    hx, hy, hz = boxes[box, 3], boxes[box, 4], boxes[box, 5]
    best, nearest = np.float32(np.inf), 0
    for j in range(n):
        x, y, z = centroids[0, j] - mx, centroids[1, j] - my, centroids[2, j] - mz
        apart = x * x + y * y + z * z
        if apart < best:
            best, nearest = apart, j
    less, twice = np.float32(1 - _SLACK), 2 * np.float32(1 + _SLACK)
    kept = 0
    for j in range(n):
        x, y, z = centroids[0, j] - mx, centroids[1, j] - my, centroids[2, j] - mz
        reach = (
            hx * abs(centroids[0, j] - centroids[0, nearest])
            + hy * abs(centroids[1, j] - centroids[1, nearest])
            + hz * abs(centroids[2, j] - centroids[2, nearest])
        )
        if (x * x + y * y + z * z) * less - twice * reach <= best * np.float32(1 + _SLACK):
            out[:, kept] = centroids[:, j]
            out_index[kept] = index[j]
            kept += 1
    return kept


@njit(nogil=True, cache=True)
def _find_plain(points, start, end, centroids, n, places):  # type: ignore[no-untyped-def]
    for i in range(start, end):
        places[i - start] = _find_nearest(points, i, centroids, n)


filter_box = _filter_plain if PLAIN_KERNELS else _filter_vectors
find_places = _find_plain if PLAIN_KERNELS else _find_vectors
