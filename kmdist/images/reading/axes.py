"""Which axis of an array is which: from names wherever there are any, else from sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.errors import ImageError
from kmdist.images.blocks import Window

CHANNEL_NAMES = frozenset(
    {"c", "channel", "channels", "band", "bands", "filter", "response", "sample", "wavelength"}
)
ROW_NAMES = frozenset({"y", "row", "rows", "lat", "latitude", "northing", "height"})
COLUMN_NAMES = frozenset(
    {"x", "column", "columns", "col", "cols", "lon", "longitude", "easting", "width"}
)
ALPHA_NAMES = frozenset({"", "a", "alpha", "opacity", "mask", "3", "4"})
SEGMENT = "kmdist segment clusters any channels, planes and time points"
SHORT = 0.75
"""An axis is taken for the channel where it has at most this share of either other."""


@dataclass(frozen=True)
class Axes:
    """Where the picture lies in an array.

    Parameters
    ----------
    y, x, c : positions of the axes; c is None where there is one channel.
    at : of every other axis, the index that is taken.
    how : how the channel was told, for the log.
    z : of a volume, position of the axis of its planes, which are rows below one another.
    """

    y: int
    x: int
    c: int | None
    at: tuple[tuple[int, int], ...] = ()
    how: str = ""
    z: int | None = None


def axes_of(
    shape: Sequence[int],
    names: Sequence[str | None],
    *,
    channel_axis: int | None = None,
    chosen: Mapping[str, int | None] | None = None,
    volume: bool = False,
) -> Axes:
    """Tell the axes of an array.

    Parameters
    ----------
    names : of the axes, lower case, None for those without; one for each axis.
    channel_axis : that the user names; negative counts from the end.
    chosen : index for the axes z and t, where the user gives one.
    volume : z stays an axis; without names it is the first beside the channel.

    Raises
    ------
    ImageError : too few axes, or it cannot be told which is the channel; a volume without z; a
        place along an axis that there is not.
    """
    n = len(shape)
    names = [None if name is None or name.startswith("dim_") else name for name in names]
    if n < 2:
        raise ImageError("axes", f"an array of shape {tuple(shape)}: y and x are needed")
    if channel_axis is not None and not -n <= channel_axis < n:
        raise ImageError(
            "axes", f"channel axis {channel_axis}: the array has {n} axes, 0 to {n - 1}"
        )
    for name, index in (chosen or {}).items():
        if index and name not in names:
            raise ImageError("axes", f"--{name} {index}: there is no axis of this name")
    if any(names):
        return _named(shape, [name or "" for name in names], channel_axis, chosen or {}, volume)
    if not volume:
        return _unnamed(shape, channel_axis)
    if n != 3 + (channel_axis is not None):
        raise ImageError(
            "axes",
            f"an array of shape {tuple(shape)} without names of its axes: a volume is z, y, x, and "
            "--channel-axis says where its channels are",
        )
    z = 1 if channel_axis is not None and channel_axis % n == 0 else 0
    c = None if channel_axis is None else channel_axis % n - (channel_axis % n > z)
    rest = _unnamed([size for axis, size in enumerate(shape) if axis != z], c)
    y, x, c = (one if one is None or one < z else one + 1 for one in (rest.y, rest.x, rest.c))
    assert y is not None
    assert x is not None
    return Axes(y, x, c, (), rest.how, z)


def _named(
    shape: Sequence[int],
    names: Sequence[str],
    channel_axis: int | None,
    chosen: Mapping[str, int | None],
    volume: bool,
) -> Axes:
    found = {
        "y": [i for i, name in enumerate(names) if name in ROW_NAMES],
        "x": [i for i, name in enumerate(names) if name in COLUMN_NAMES],
        "c": [i for i, name in enumerate(names) if name in CHANNEL_NAMES],
    }
    if channel_axis is not None:
        found["c"] = [channel_axis % len(shape)]
    if [len(found["y"]), len(found["x"])] != [1, 1] or len(found["c"]) > 1:
        raise ImageError(
            "axes",
            f"axes named {', '.join(names)}: one y, one x and at most one channel are needed",
        )
    c = found["c"][0] if found["c"] else None
    z = names.index("z") if volume and "z" in names else None
    if volume and z is None:
        raise ImageError("axes", f"axes {', '.join(names)} without z: it is no volume")
    taken = {found["y"][0], found["x"][0], c, z}
    at = []
    for axis, name in enumerate(names):
        if axis in taken:
            continue
        index = chosen.get(name)
        if index is None and shape[axis] != 1:
            option = f"--{name} " if name in ("z", "t") else f"another array without axis {name!r} "
            raise ImageError(
                "axes", f"axis {name!r} has {shape[axis]:,} places: {option}says which"
            )
        if (index or 0) >= shape[axis]:
            raise ImageError(
                "axes", f"{name} {index} of axis {name!r}, which has 0 to {shape[axis] - 1}"
            )
        at.append((axis, index or 0))
    how = "one channel" if c is None else f"the channel is axis {c}, {names[c] or 'as asked'!r}"
    return Axes(found["y"][0], found["x"][0], c, tuple(at), how, z)


def _unnamed(shape: Sequence[int], channel_axis: int | None) -> Axes:
    n = len(shape)
    if channel_axis is not None:
        c: int | None = channel_axis % n
    elif n == 2:
        c = None
    elif n == 3:
        c = _short_axis(shape)
    else:
        raise ImageError(
            "axes",
            f"an array of shape {tuple(shape)} without names of its axes: name them "
            "(dimension_names), or write one picture of y, x and channels",
        )
    rest = [axis for axis in range(n) if axis != c]
    if len(rest) != 2:
        raise ImageError("axes", f"an array of shape {tuple(shape)}: beside the channel, y and x")
    how = "one channel" if c is None else f"the channel is axis {c} of {tuple(shape)}"
    return Axes(rest[0], rest[1], c, (), how)


def _short_axis(shape: Sequence[int]) -> int:
    """The last axis if it is the short one, the first if that is."""
    last, first = shape[2] <= SHORT * min(shape[:2]), shape[0] <= SHORT * min(shape[1:])
    if last and not first:
        return 2
    if first and not last:
        return 0
    raise ImageError(
        "axes",
        f"an array of shape {tuple(shape)}: which axis is the channel cannot be told; say it with "
        "--channel-axis",
    )


def picture_axes(shape: Sequence[int], names: Sequence[str | None]) -> Axes:
    """Tell the axes of an array that is to be a picture: grey, or colours with or without alpha.

    Raises
    ------
    ImageError : unsupported, or channels: it is none.
    """
    names = [None if name is None or name.startswith("dim_") else name for name in names]
    if any(names):
        listed = ", ".join(str(name) for name in names)
        try:
            axes = axes_of(shape, names)
        except ImageError as error:
            raise ImageError(
                "unsupported",
                f"an array of shape {tuple(shape)} with axes {listed} is no picture: {SEGMENT}",
            ) from error
    elif len(shape) == 2:
        axes = Axes(0, 1, None)
    elif len(shape) == 3:
        first = shape[-1] not in (1, 3, 4) and shape[0] in (1, 3, 4)
        axes = Axes(1, 2, 0) if first else Axes(0, 1, 2)
    else:
        raise ImageError(
            "unsupported",
            f"an array of shape {tuple(shape)}; (y, x) or (y, x, c) is needed; {SEGMENT}",
        )
    return axes


def require_picture(n_channels: int, names: Sequence[str] = ()) -> None:
    """Refuse channels that are neither grey nor colours, with or without alpha.

    Parameters
    ----------
    names : of the channels, where they have any: a fourth of another name is no alpha.

    Raises
    ------
    ImageError : channels.
    """
    if n_channels not in (1, 3, 4):
        raise ImageError("channels", f"{n_channels} channels; 1, 3 or 4 are allowed; {SEGMENT}")
    if n_channels == 4 and len(names) == 4 and names[3].lower() not in ALPHA_NAMES:
        raise ImageError(
            "channels", f"a fourth channel {names[3]!r}, where alpha is expected; {SEGMENT}"
        )


def take_window(array: Any, axes: Axes, window: Window) -> np.ndarray:
    """(h, w, c) of a window of an array."""
    if axes.z is not None:
        rows = array.shape[axes.y]
        return np.concatenate(
            [
                take_window(
                    array,
                    replace(axes, z=None, at=(*axes.at, (axes.z, plane))),
                    Window(
                        max(window.y0 - plane * rows, 0),
                        window.x0,
                        min(window.y1 - plane * rows, rows),
                        window.x1,
                    ),
                )
                for plane in range(window.y0 // rows, -(-window.y1 // rows))
            ]
        )
    index: list[Any] = [slice(None)] * len(array.shape)
    index[axes.y] = slice(window.y0, window.y1)
    index[axes.x] = slice(window.x0, window.x1)
    for axis, place in axes.at:
        index[axis] = place
    values = np.asarray(array[tuple(index)])
    left = [axis for axis in range(len(array.shape)) if axis not in dict(axes.at)]
    if axes.c is None:
        order = [left.index(axes.y), left.index(axes.x)]
        return values.transpose(order)[:, :, None]
    return values.transpose([left.index(axis) for axis in (axes.y, axes.x, axes.c)])
