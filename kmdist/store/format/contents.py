"""What a run holds: label maps, arrays and groups, as workers write them; its root, last."""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kmdist import __version__
from kmdist.errors import KmdistError
from kmdist.store.format import labels
from kmdist.store.format.labels import PIXELS, Grid, LabelMap, label_map
from kmdist.store.format.layout import (
    ArraySpec,
    array_metadata,
    array_spec,
    dump_json,
    group_metadata,
    write_region,
)
from kmdist.store.format.names import image_key
from kmdist.store.targets import STATE, FsspecTarget, LocalTarget, Target


class RunContents:
    """Writes into a run, from many workers at once: whole chunks, whole shards, whole images.

    Parameters
    ----------
    target : where objects go.
    ranks : of images whose names differ in case alone; see `kmdist.store.format.names.clash_ranks`.
    images : label maps that the run will have.
    """

    def __init__(self, target: Target, ranks: Mapping[str, int], images: int) -> None:
        self._target = target
        self._ranks = dict(ranks)
        self._images = images

    def write_labels(
        self,
        image: str,
        labels_yx: ArrayLike,
        *,
        k: int,
        unclustered: NDArray[np.bool_] | None = None,
        marked: bool | None = None,
        palette: ArrayLike | None = None,
        source: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        prefix: str = "",
        grid: Grid = PIXELS,
    ) -> int | None:
        """Write the label map of a whole image, its pyramid and metadata.

        Parameters
        ----------
        image : its name, as given to `create`.
        labels_yx : (y, x) integers 0 … k − 1; no copy is made of the type `label_dtype` names.
        unclustered : (y, x) True where the pixel is not clustered; the label there is ignored.
        marked : whether the type has room for the marker; None: where `unclustered` has a True.
        palette : (k, 3) uint8 sRGB, to draw the labels.
        source : true path of the image, if it differs from the name.
        attributes : more for the image's group.
        prefix : ``kN`` where the run holds several k.
        grid : where the pixels of the image lie.

        Returns
        -------
        int or None : the marker of unclustered pixels in this map, if it has one.

        Raises
        ------
        ValueError : labels out of range, or shapes differ.
        KmdistError : the disk is full, or the run is gone.
        """
        values = np.asarray(labels_yx)
        if marked is None:
            marked = unclustered is not None and bool(unclustered.any())
        key = self.image_group(image, prefix)
        described = label_map(image, key, values.shape, k, marked, grid)
        labels.write_image(self._open_target(), described, values, unclustered)
        self._write_label_metadata(described, palette, source, attributes)
        return described.unclustered

    def open_labels(
        self,
        image: str,
        shape: tuple[int, int],
        *,
        k: int,
        marked: bool,
        palette: ArrayLike | None = None,
        source: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        prefix: str = "",
        grid: Grid = PIXELS,
    ) -> LabelMap:
        """Begin a label map that is written by window; parameters as for `write_labels`."""
        key = self.image_group(image, prefix)
        described = label_map(image, key, shape, k, marked, grid)
        self._write_label_metadata(described, palette, source, attributes)
        return described

    def write_label_window(
        self,
        label_map: LabelMap,
        y0: int,
        x0: int,
        labels_yx: ArrayLike,
        unclustered: NDArray[np.bool_] | None = None,
    ) -> None:
        """Write labels at (y0, x0): whole chunks, or whole shards, or up to the image's edge.

        Raises
        ------
        ValueError : the window is not aligned, or labels are out of range.
        """
        labels.write_window(self._open_target(), label_map, (y0, x0), labels_yx, unclustered)

    def read_labels(self, label_map: LabelMap) -> NDArray[Any]:
        """All labels of a map that was written by window."""
        return labels.read_labels(self._open_target(), label_map)

    def write_pyramid_window(
        self, label_map: LabelMap, level: int, window: tuple[int, int, int, int]
    ) -> None:
        """Make a window (of ``label_map.windows(level)``) from the complete level below."""
        labels.write_pyramid_window(self._open_target(), label_map, level, window)

    def write_array(
        self,
        key: str,
        array: ArrayLike,
        dimension_names: Sequence[str],
    ) -> None:
        """Write a small array whole, in one chunk: centroids, palette, counts, history."""
        values = np.asarray(array)
        _check_dimensions(key, dimension_names)
        spec = array_spec(key, values.shape, values.dtype, dimension_names=dimension_names)
        self._open_target().put(f"{key}/zarr.json", array_metadata(spec))
        write_region(self._open_target(), spec, (0,) * values.ndim, values)

    def create_array(
        self,
        key: str,
        shape: Sequence[int],
        dtype: DTypeLike,
        *,
        chunks: Sequence[int],
        shards: Sequence[int] | None = None,
        dimension_names: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
    ) -> ArraySpec:
        """Begin an array that is written by region; the result pickles, for the workers."""
        _check_dimensions(key, dimension_names)
        spec = array_spec(
            key, shape, dtype, chunks=chunks, shards=shards, dimension_names=dimension_names
        )
        self._open_target().put(f"{key}/zarr.json", array_metadata(spec, attributes))
        return spec

    def write_region(self, spec: ArraySpec, origin: Sequence[int], values: ArrayLike) -> None:
        """Write whole chunks (whole shards) of an array from `create_array`.

        Raises
        ------
        ValueError : the region is not aligned: two writers of one chunk would lose data.
        """
        write_region(self._open_target(), spec, origin, np.asarray(values))

    def write_group(self, key: str) -> None:
        """Write the metadata of a group of one's own; those of images come with their labels."""
        self._open_target().put(f"{key}/zarr.json", group_metadata())

    def image_group(self, image: str, prefix: str = "") -> str:
        """Key of an image's group, ``images/NAME``, for arrays that belong to the image."""
        if not self._images:
            raise ValueError(
                f"{image}: create the writer with images=[all names], so that names which differ "
                "in case alone do not become one folder"
            )
        key = f"images/{image_key(image, self._ranks.get(image, 0))}"
        return f"{prefix}/{key}" if prefix else key

    def remove_labels(self, image: str, prefix: str = "") -> None:
        """Remove what was written of an image that turned out to be unreadable in the middle."""
        self._open_target().delete(self.image_group(image, prefix))

    def _open_target(self) -> Target:
        return self._target

    def _write_label_metadata(
        self,
        described: LabelMap,
        palette: ArrayLike | None,
        source: str | None,
        attributes: Mapping[str, Any] | None,
    ) -> None:
        own = {"source": source or described.image, **(attributes or {})}
        labels.write_metadata(self._open_target(), described, palette, own)


def _check_dimensions(key: str, dimension_names: Sequence[str]) -> None:
    """Refuse sizes of y and x above a pyramid, whose levels have other ones."""
    if "images" in key.split("/") and {"y", "x"} & set(dimension_names):
        raise ValueError(
            f"array {key!r}: dimensions {tuple(dimension_names)} above the label pyramid, whose "
            "levels have y and x of other sizes, keep xarray.open_datatree from opening the run; "
            "give them other names"
        )


SCHEMA = 1
"""Version of the run format; a reader refuses a newer one."""

COMPLETE = "complete"

CONSOLIDATE_IMAGES = 1000
"""Metadata of all nodes are repeated at the root up to this many label maps."""

_PACKAGES = {
    "numpy": "numpy",
    "numba": "numba",
    "dask": "dask",
    "zarr": "zarr",
    "opencv": "opencv-python-headless",
}


def write_root(
    target: Target,
    attributes: Mapping[str, Any],
    runs: Mapping[int, Mapping[str, Any]],
    *,
    images: int,
) -> None:
    """Write the groups that hold a run together, its root last.

    Parameters
    ----------
    attributes : of the run; ``host`` is of its root alone, so that all else is the same anywhere.
    runs : attributes that differ, by k, where there are several k.
    images : label maps per k; their group is written if there are any.
    """
    record = {
        "schema": SCHEMA,
        "versions": versions(),
        "rejected": [],
        "unclustered": None,
        **attributes,
        "state": COMPLETE,
    }
    shared = {key: value for key, value in record.items() if key != "host"}
    for k, own in sorted(runs.items()):
        target.put(f"k{k}/zarr.json", _run_group({**shared, "k": k, **own}))
        if images:
            target.put(f"k{k}/images/zarr.json", group_metadata())
    if images and not runs:
        target.put("images/zarr.json", group_metadata())
    if runs:
        record["runs"] = [f"k{k}" for k in sorted(runs)]
    root = _run_group(record)
    if images * max(len(runs), 1) <= CONSOLIDATE_IMAGES:
        root = _consolidated(target, root)
    target.put("zarr.json", root)


def read_attributes(folder: str | Path) -> dict[str, Any] | None:
    """``attributes.kmdist`` of a folder or prefix; None: not the root of a run, whole or half."""
    target = LocalTarget(folder) if isinstance(folder, Path) else FsspecTarget(folder)
    try:
        return attributes_of(target.get("zarr.json"))
    except (KmdistError, ValueError):  # a FIFO, unreadable, unreachable, or no name of a file
        return None


def attributes_of(root: bytes | None) -> dict[str, Any] | None:
    """``attributes.kmdist`` of the text of a root; None if it is no run's."""
    try:
        attributes = json.loads(root or b"")["attributes"]["kmdist"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return attributes if isinstance(attributes, dict) else None


def versions() -> dict[str, str]:
    """Versions of what decides the bytes of a result."""
    found = {"kmdist": __version__, "python": python_version()}
    for name, package in _PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _run_group(record: Mapping[str, Any]) -> bytes:
    return group_metadata({"kmdist": record})


def _consolidated(target: Target, root: bytes) -> bytes:
    """Add the metadata of all nodes to the root's, as text: none of it is parsed.

    Reading the 5,000 small files of 1,000 images takes 0.2 s on a local disk.
    """
    nodes = [b"%s:%s" % (dump_json(key), text) for key, text in _nodes(target, "")]
    inline = b'{"kind":"inline","must_understand":false,"metadata":{%s}}' % b",".join(nodes)
    return b'%s,"consolidated_metadata":%s}' % (root[:-1], inline)


def _nodes(target: Target, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Metadata of all nodes below a group, depth first; arrays have only chunks below them."""
    for name in target.children(prefix):
        if name == STATE and not prefix:
            continue
        key = f"{prefix}/{name}" if prefix else name
        text = target.get(f"{key}/zarr.json")
        if text is None:
            continue
        yield key, text
        if b'"node_type":"group"' in text[:60]:
            yield from _nodes(target, key)
