"""Label maps with their pyramids, as OME-Zarr 0.5 image labels that every reader opens.

Each level is a group of its own (``s0/labels``, ``s1/labels`` …): a pyramid of arrays of different
sizes in one group cannot be opened by ``xarray.open_datatree``.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kmdist.store.format.layout import (
    CHUNK,
    SHARD,
    ArraySpec,
    array_metadata,
    check_region,
    group_metadata,
    label_array,
    label_dtype,
    pyramid_shapes,
    unclustered_value,
    write_region,
)
from kmdist.store.targets import Target

LABELS_NAME = "kmeans"
"""Name of the label map below ``images/NAME/labels``."""

MAX_COLORS = 256
"""Colours are listed up to this many clusters."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of an image lie: by plane of a volume, row and column.

    Parameters
    ----------
    scale : size of a pixel. translation : place of the centre of the first.
    units : as OME-Zarr names them (micrometer), or empty.
    planes : of a volume, which is an image of planes below one another wherever rows are counted;
        0: of a picture.
    """

    scale: tuple[float, ...] = (1.0, 1.0)
    translation: tuple[float, ...] = (0.0, 0.0)
    units: tuple[str, ...] = ("", "")
    planes: int = 0


PIXELS = Grid()


@dataclass(frozen=True)
class LabelMap:
    """A label map being written: what a worker needs to write a window of it.

    Attributes
    ----------
    image : the image's name; key : its group ``images/NAME``.
    k : labels are 0 … k − 1.
    unclustered : label of pixels that are not clustered, None if the map cannot have any.
    levels : the arrays s0, s1, …; nearest, each half the last.
    grid : of the image.
    """

    image: str
    key: str
    k: int
    unclustered: int | None
    levels: tuple[ArraySpec, ...]
    grid: Grid = PIXELS

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of all planes, and columns."""
        height, width = self.levels[0].shape[-2:]
        return height * max(self.grid.planes, 1), width

    def windows(self, level: int) -> list[tuple[int, int, int, int]]:
        """Windows (y0, x0, y1, x1) of one level that different workers can write safely.

        Each is at most 8,192² and consists of whole chunks and shards.
        """
        height, width = self.levels[level].shape[-2:]
        return [
            (top + y, x, top + min(y + SHARD, height), min(x + SHARD, width))
            for top in range(0, height * max(self.grid.planes, 1), height)
            for y in range(0, height, SHARD)
            for x in range(0, width, SHARD)
        ]


def label_map(
    image: str, key: str, shape: tuple[int, int], k: int, marked: bool, grid: Grid = PIXELS
) -> LabelMap:
    """Describe the label map of an image.

    Parameters
    ----------
    key : ``images/NAME``, below a prefix if there is one.
    shape : rows of all planes and columns, both at least 1.
    marked : whether some pixels may not be clustered.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"{image}: labels must be (y, x) with at least one pixel, got {shape}")
    dtype = label_dtype(k, marked)
    marker = unclustered_value(k, marked)
    height, width = int(shape[0]) // max(grid.planes, 1), int(shape[1])
    levels = tuple(
        label_array(
            f"{key}/labels/{LABELS_NAME}/s{i}/labels", size, dtype, marker or 0, grid.planes
        )
        for i, size in enumerate(pyramid_shapes((height, width)))
    )
    return LabelMap(image, key, k, marker, levels, grid)


def write_metadata(
    target: Target, labels: LabelMap, palette: ArrayLike | None, attributes: Mapping[str, Any]
) -> None:
    """Write every ``zarr.json`` of an image: its group, labels, pyramid levels.

    Parameters
    ----------
    palette : (k, 3) uint8 sRGB, the colours in which viewers draw the labels; None leaves the
        choice to them.
    attributes : more for the image's group, beside name, source, height, width, unclustered.
    """
    height, width = labels.levels[0].shape[-2:]
    own = {"name": labels.image, "source": labels.image, "height": height, "width": width}
    own["unclustered"] = labels.unclustered
    if labels.grid.planes:
        own["planes"] = labels.grid.planes
    target.put(f"{labels.key}/zarr.json", group_metadata({**own, **attributes}))
    target.put(f"{labels.key}/labels/zarr.json", _LABELS_GROUP)
    base = f"{labels.key}/labels/{LABELS_NAME}"
    target.put(f"{base}/zarr.json", _label_group(labels, palette))
    for level, spec in enumerate(labels.levels):
        target.put(f"{base}/s{level}/zarr.json", _EMPTY_GROUP)
        target.put(f"{spec.key}/zarr.json", array_metadata(spec))


def write_window(
    target: Target,
    labels: LabelMap,
    origin: tuple[int, int],
    values: ArrayLike,
    mask: NDArray[np.bool_] | None = None,
) -> None:
    """Write an aligned window of the first level.

    Raises
    ------
    ValueError : a label is outside 0 … k − 1, or the window is not aligned.
    """
    found = np.asarray(values)
    place, parted = _by_plane(labels, 0, origin, found)
    check_region(labels.levels[0], place, parted.shape)
    encoded = encode_labels(labels, found, mask).reshape(parted.shape)
    write_region(target, labels.levels[0], place, encoded)


def _by_plane(
    labels: LabelMap, level: int, origin: tuple[int, int], values: NDArray[Any]
) -> tuple[tuple[int, ...], NDArray[Any]]:
    """Origin and values as the array has them; of volumes a part of a plane, or whole planes."""
    if not labels.grid.planes:
        return origin, values
    rows, columns = labels.levels[level].shape[1:]
    plane, y0 = divmod(origin[0], rows)
    if y0 + len(values) <= rows:
        return (plane, y0, origin[1]), values[None]
    return (plane, y0, origin[1]), values.reshape(-1, rows, columns)


def encode_labels(
    labels: LabelMap, values: NDArray[Any], mask: NDArray[np.bool_] | None
) -> NDArray[Any]:
    """Labels in the stored type, with the marker where `mask` is True.

    Raises
    ------
    ValueError : a label outside the mask is not in 0 … k − 1, the mask has another shape, or it
        marks pixels of a map that has no marker.
    """
    dtype = np.dtype(labels.levels[0].dtype)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{labels.image}: labels must be integers, got {values.dtype}")
    if mask is not None and mask.shape != values.shape:
        raise ValueError(f"{labels.image}: labels {values.shape} but mask {mask.shape}")
    if mask is None or not mask.any():
        _check_labels(labels, values)
        return values.astype(dtype, copy=False)
    if labels.unclustered is None:
        raise ValueError(
            f"{labels.image}: some pixels are not clustered, but the label map was opened without "
            "a marker for them; open it with marked=True"
        )
    cleared = values.copy()
    cleared[mask] = 0
    _check_labels(labels, cleared)
    stored = cleared.astype(dtype, copy=False)
    stored[mask] = labels.unclustered
    return stored


def write_image(
    target: Target, labels: LabelMap, values: ArrayLike, mask: NDArray[np.bool_] | None
) -> None:
    """Write a whole label map with its pyramid; its metadata apart."""
    place, level = _by_plane(labels, 0, (0, 0), encode_labels(labels, np.asarray(values), mask))
    for number, spec in enumerate(labels.levels):
        if number:
            level = np.ascontiguousarray(level[..., ::2, ::2])
        write_region(target, spec, place, level)


def read_labels(target: Target, labels: LabelMap) -> NDArray[Any]:
    """The first level of a map, whole, planes below one another."""
    import zarr

    store, path = target.zarr_store(), labels.levels[0].key
    stored = np.asarray(zarr.open_array(store, path=path, mode="r", zarr_format=3)[...])
    return stored.reshape(labels.shape)


def write_pyramid_window(
    target: Target, labels: LabelMap, level: int, window: tuple[int, int, int, int]
) -> None:
    """Make one window of a level ≥ 1 from the level below it, which must be complete.

    The source is read piece by piece, since zarr-python holds several times what it reads: a
    window of 8,192² in uint8 raises the process by 170 MB this way, by 300 MB in quarters.
    """
    import zarr

    if not 1 <= level < len(labels.levels):
        raise ValueError(
            f"{labels.image}: level {level} is not made from another; levels 1 to "
            f"{len(labels.levels) - 1} are"
        )
    spec = labels.levels[level]
    y0, x0, y1, x1 = window
    made = np.empty((y1 - y0, x1 - x0), dtype=spec.dtype)
    place, parted = _by_plane(labels, level, (y0, x0), made)
    check_region(spec, place, parted.shape)
    (*plane, y0, x0) = place
    below = labels.levels[level - 1].key
    source = zarr.open_array(target.zarr_store(), path=below, mode="r", zarr_format=3)
    for rows, columns in _patches(*made.shape):
        twice: tuple[Any, ...] = (
            *plane,
            slice(2 * (y0 + rows.start), 2 * (y0 + rows.stop)),
            slice(2 * (x0 + columns.start), 2 * (x0 + columns.stop)),
        )
        made[rows, columns] = np.asarray(source[twice])[::2, ::2]
    write_region(target, spec, place, parted)


def _patches(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Cut a window into pieces of 2,048², made of 4,096² pixels of whole chunks each."""
    side = 2 * CHUNK
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield slice(y, min(y + side, height)), slice(x, min(x + side, width))


def _check_labels(labels: LabelMap, values: NDArray[Any]) -> None:
    low = 0 if values.dtype.kind == "u" else int(values.min(initial=0))
    high = int(values.max(initial=0))
    if low < 0 or high >= labels.k:
        raise ValueError(
            f"{labels.image}: labels run from {low} to {high}; with k = {labels.k} they must be "
            f"0 to {labels.k - 1} (unclustered pixels are given by a mask)"
        )


def _label_group(labels: LabelMap, palette: ArrayLike | None) -> bytes:
    """``zarr.json`` of the OME-Zarr image label, put together from texts that images share."""
    colors = b""
    if palette is not None:
        given = np.asarray(palette)
        if given.shape not in ((labels.k, 3), (labels.k, 4)) or given.dtype != np.uint8:
            raise ValueError(
                f"palette must be ({labels.k}, 3) uint8, got {given.shape} {given.dtype}"
            )
        if given.shape[1] == 3:
            given = np.pad(given, ((0, 0), (0, 1)), constant_values=255)
        colors = given.tobytes()
    image_label = _image_label(labels.k, labels.unclustered, colors)
    multiscales = _multiscales(len(labels.levels), labels.grid)
    return (
        '{"zarr_format":3,"node_type":"group","attributes":{"ome":{"version":"0.5",'
        f'"multiscales":{multiscales},"image-label":{image_label}}}}}}}'
    ).encode("ascii")


@lru_cache(maxsize=64)
def _image_label(k: int, unclustered: int | None, colors: bytes) -> str:
    """Colours of the labels, and the marker drawn transparent.

    256 colours take 0.2 ms to format and are the same for all images of a shared palette.
    """
    listed = []
    if colors and k <= MAX_COLORS:
        palette = np.frombuffer(colors, dtype=np.uint8).reshape(-1, 4).tolist()
        listed = [(label, *color) for label, color in enumerate(palette)]
    properties = ""
    if unclustered is not None:
        listed.append((unclustered, 0, 0, 0, 0))
        # ome-zarr-models wants a property for each label that has a colour.
        values = [
            f'{{"label-value":{v},"clustered":{json.dumps(v != unclustered)}}}' for v, *_ in listed
        ]
        properties = f',"properties":[{",".join(values)}]'
    if not listed:
        return "{}"
    texts = [f'{{"label-value":{v},"rgba":[{r},{g},{b},{a}]}}' for v, r, g, b, a in listed]
    return f'{{"colors":[{",".join(texts)}]{properties}}}'


@lru_cache(maxsize=64)
def _multiscales(levels: int, grid: Grid) -> str:
    """Axes and levels. A pixel of level n covers 2ⁿ pixels a side; its centre moves with it."""
    names = "zyx" if grid.planes else "yx"
    datasets = []
    for level in range(levels):
        sizes = [1.0 if name == "z" else float(2**level) for name in names]
        places = zip(grid.translation, grid.scale, sizes, strict=True)
        transformations = [
            {"type": "scale", "scale": [a * b for a, b in zip(sizes, grid.scale, strict=True)]},
            {
                "type": "translation",
                "translation": [start + (size - 1) / 2 * one for start, one, size in places],
            },
        ]
        path = f"s{level}/labels"
        datasets.append({"path": path, "coordinateTransformations": transformations})
    axes = [
        {"name": axis, "type": "space", **({"unit": unit} if unit else {})}
        for axis, unit in zip(names, grid.units, strict=True)
    ]
    scales = [{"name": LABELS_NAME, "axes": axes, "datasets": datasets, "type": "nearest"}]
    return json.dumps(scales, separators=(",", ":"))


_EMPTY_GROUP = group_metadata()
_LABELS_GROUP = group_metadata({"ome": {"version": "0.5", "labels": [LABELS_NAME]}})
