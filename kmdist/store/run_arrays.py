"""What a run holds below its root: the arrays of a fit, and its images by name."""

import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kmdist.errors import KmdistError, UsageError, quantity
from kmdist.store.format.labels import LABELS_NAME
from kmdist.store.format.names import candidate_keys, name_of_key
from kmdist.store.targets import Readable
from kmdist.store.zarr_trees import require_fitting_chunks
from kmdist.typed_data import converted

if TYPE_CHECKING:
    import zarr


MAX_READ_BYTES = 1 << 31
"""Of one read: names of 40 million images, 1,024 rows of a million columns."""

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]


class Left(msgspec.Struct):
    """One image that a run has left out, as it is recorded."""

    image: str
    code: str
    reason: str


class FitRecord(msgspec.Struct):
    """What is recorded of a fit; keys besides these are the recipe's own."""

    k: PositiveInt | None = None
    inertia: float | None = None
    n_iter: int | None = None
    stop_reason: str | None = None
    unclustered: int | None = None


class Host(msgspec.Struct):
    """Where a run was made: its driver's host, its workers, and the memory projected for them."""

    name: str
    workers: int
    memory_bytes: int


class RunRecord(FitRecord, kw_only=True):
    """What is recorded of a run."""

    recipe: str
    parameters: dict[str, Any] | None = None
    runs: list[Annotated[str, msgspec.Meta(pattern=r"^k[0-9]{1,9}$")]] | None = None
    rejected: list[Left] | None = None
    scores: dict[str, Any] | None = None
    timings: dict[str, float] | None = None
    versions: dict[str, str] | None = None
    host: Host | None = None
    seed: int | None = None
    space: str | None = None
    pixels: int | None = None


class ImageRecord(FitRecord, kw_only=True):
    """What is recorded of an image."""

    name: str | None = None
    source: str | None = None
    width: PositiveInt
    height: PositiveInt
    planes: PositiveInt | None = None


def validated(where: Any, record: Any, kind: type[FitRecord]) -> dict[str, Any]:
    """A record as it is, if its values are what its keys promise.

    Raises
    ------
    KmdistError : it is damaged, or nobody's that kmdist knows.
    """
    try:
        converted(record, kind)
    except msgspec.ValidationError as error:
        raise KmdistError(f"{where}: the record of this run is damaged: {error}") from error
    found: dict[str, Any] = record
    return found


class Colors(np.ndarray):
    """(k, 3) uint8 sRGB of clusters, which label maps index: ``run.palette[labels]`` is a picture.

    Pixels that are not clustered have the largest value of the labels' type, and are white there;
    where colours have alpha, (k, 4), they are transparent.
    """

    def __getitem__(self, index: Any) -> Any:
        is_labels = isinstance(index, np.ndarray) and index.dtype.kind == "u" and self.ndim == 2
        marker = np.iinfo(index.dtype).max if is_labels else 0
        if not is_labels or len(self) > marker:
            return super().__getitem__(index)
        nowhere = index == marker
        picture = np.asarray(self)[np.where(nowhere, 0, index)]
        picture[nowhere] = 255 if self.shape[1] == 3 else 0
        return picture


class Fit:
    """Arrays of one fit: of a run, or of an image of a run fitted per image."""

    def __init__(self, target: Readable, key: str, attributes: Mapping[str, Any]) -> None:
        self._target = target
        self._key = key
        self.attributes = dict(attributes)

    @property
    def centroids(self) -> NDArray[np.float32] | None:
        """(k, d) float32, in the space that was clustered; None if this level has no fit."""
        return self.array("centroids")

    @property
    def palette(self) -> NDArray[np.uint8] | None:
        """(k, 3) uint8 sRGB, see `Colors`; None where clusters have no colour."""
        palette = self.array("palette")
        return None if palette is None else palette.view(Colors)

    @property
    def counts(self) -> NDArray[np.int64] | None:
        """(k,) int64, members of each cluster."""
        return self.array("counts")

    @property
    def history(self) -> NDArray[np.float64] | None:
        """(iteration, 3) float64: inertia, shift, empty clusters repaired."""
        return self.array("history")

    @property
    def inertia(self) -> float | None:
        """Σ w‖x − c‖² for the centroids that were returned."""
        value = self.attributes.get("inertia")
        return None if value is None else float(value)

    @property
    def unclustered(self) -> int | None:
        """Label of pixels that were not clustered; None if there are none."""
        value = self.attributes.get("unclustered")
        return None if value is None else int(value)

    def clusters_info(self) -> dict[str, Any]:
        """Counts and palette as plain lists; None where this level has none."""
        counts, palette = self.counts, self.palette
        return {
            "counts": None if counts is None else counts.tolist(),
            "palette": None if palette is None else palette.tolist(),
        }

    def array(self, key: str) -> NDArray[Any] | None:
        """A small array below this level, read whole; None if there is none.

        Raises
        ------
        KmdistError : it is not as runs have it, or cannot be read.
        """
        if not self._target.exists(self._path(f"{key}/zarr.json")):
            return None
        lazy = self.lazy(key)
        if lazy.nbytes > MAX_READ_BYTES:
            raise self._damaged(key, f"its shape is {lazy.shape}")
        values = self._read_part(key, lazy, ...)
        if problem := array_problem(key, values, self.attributes.get("k")):
            raise self._damaged(key, problem)
        return values

    def arrays(
        self,
        shapes: Mapping[str, tuple[str | int, ...]],
        sizes: Mapping[str, int] = MappingProxyType({}),
    ) -> dict[str, NDArray[Any]]:
        """Arrays that belong together, by name; those that are not there are left out.

        Parameters
        ----------
        shapes : of each array, sizes or names of dimensions: equal names are equal sizes.
        sizes : of dimensions that are known.

        Raises
        ------
        KmdistError : as of `array`, or they do not fit together.
        """
        found, bound = {}, dict(sizes)
        for key, shape in shapes.items():
            values = self.array(key)
            if values is None:
                continue
            if len(shape) == values.ndim:
                for name, size in zip(shape, values.shape, strict=True):
                    bound.setdefault(str(name), size)
            wanted = tuple(bound.get(str(n), n) if isinstance(n, str) else n for n in shape)
            if values.shape != wanted:
                raise self._damaged(key, f"its shape is {values.shape}, and must be {wanted}")
            found[key] = values
        return found

    def lazy(self, key: str) -> "zarr.Array[Any]":
        """An array below this level, of which slicing reads the chunks needed.

        Raises
        ------
        KmdistError : there is no such array, or its metadata are damaged.
        """
        import zarr

        path = self._path(key)
        if not self._target.exists(f"{path}/zarr.json"):
            raise KmdistError(f"{self._target} has no array {path!r}")
        store = self._target.zarr_store()
        try:
            found = zarr.open_array(store, path=path, mode="r", zarr_format=3)
            require_fitting_chunks(found)
        except Exception as error:  # zarr's own classes reject what they do not know in many ways
            raise self._damaged(key, error) from error
        if found.dtype.kind not in "biuf":
            raise self._damaged(key, f"its values are {found.dtype}")
        store.expect(found)
        return found

    def _read_part(self, key: str, lazy: Any, window: Any) -> NDArray[Any]:
        try:
            return np.asarray(lazy[window])
        except Exception as error:  # each codec fails in its own ways
            raise self._damaged(key, error) from error

    def _damaged(self, key: str, why: object) -> KmdistError:
        name = type(why).__name__
        return KmdistError(
            f"array {self._path(key)!r} of {self._target} is damaged or cannot be read: "
            f"{str(why) or name}. Make the run anew, or put it back from a backup"
        )

    def _path(self, key: str) -> str:
        return f"{self._key}/{key}" if self._key else key


class RunImage(Fit):
    """One image of a run; its arrays are None where the run was fitted as a whole.

    Attributes
    ----------
    name : path relative to its input folder; key : node name below ``images/``.
    attributes : source, width, height, unclustered, and what the recipe added.
    """

    def __init__(self, target: Readable, key: str, attributes: Mapping[str, Any]) -> None:
        super().__init__(target, key, attributes)
        self.key = key.rpartition("/")[2]
        self.name = str(self.attributes.get("name", self.key))

    def __repr__(self) -> str:
        return f"<RunImage {self.name!r} {self.width} × {self.height}>"

    @property
    def source(self) -> str:
        """True path of the image."""
        return str(self.attributes.get("source", self.name))

    @property
    def width(self) -> int:
        """Columns, after EXIF orientation."""
        return int(self.attributes["width"])

    @property
    def height(self) -> int:
        """Rows, after EXIF orientation."""
        return int(self.attributes["height"])

    @property
    def planes(self) -> int:
        """Of a volume; 0 of a picture."""
        return int(self.attributes.get("planes") or 0)

    @property
    def levels(self) -> int:
        """Levels of the pyramid, the image itself among them."""
        names = self._target.children(f"{self._key}/labels/{LABELS_NAME}")
        return sum(name[0] == "s" and name[1:].isdecimal() for name in names)

    def info(self) -> dict[str, Any]:
        """Name and size; where the image has a fit of its own, that as well."""
        found: dict[str, Any] = {"name": self.name, "width": self.width, "height": self.height}
        if self.planes:
            found["planes"] = self.planes
        if self.inertia is not None:
            fitted = ("k", "inertia", "n_iter", "stop_reason")
            found.update({key: self.attributes.get(key) for key in fitted})
            found.update(self.clusters_info())
        return found

    def labels(self, level: int = 0) -> "zarr.Array[Any]":
        """Label map (y, x), or (z, y, x) of a volume, lazily sliced; each level is half the last.

        Raises
        ------
        UsageError : there is no such level.
        KmdistError : there is no label map, or it is not of this image.
        """
        key = f"labels/{LABELS_NAME}/s{level}/labels"
        try:
            found = self.lazy(key)
        except KmdistError as error:
            if level in range(levels := self.levels) or not levels:
                raise
            what = f"level {level}: {self.name} has levels 0 to {levels - 1}"
            raise UsageError(what) from error
        size = (self.planes, self.height, self.width)[not self.planes :]
        fits = (
            found.ndim == len(size) and found.size < math.prod(size)
            if level
            else found.shape == size
        )
        if not fits or found.dtype.kind != "u":
            what = f"it is {found.dtype} of shape {found.shape}, in an image of {size}"
            raise self._damaged(key, what)
        return found

    def read_labels(
        self,
        level: int = 0,
        window: Any = ...,
        *,
        k: int | None = None,
        plane: int | None = None,
    ) -> NDArray[Any]:
        """Labels of a window of a level, read and checked.

        Parameters
        ----------
        window : slices of rows and columns; all by default.
        k : clusters that there are; None: any label will do.
        plane : of a volume; None: the middle one, as pictures show it.

        Raises
        ------
        KmdistError : they are damaged, of other clusters, or cannot be read.
        """
        key, lazy = f"labels/{LABELS_NAME}/s{level}/labels", self.labels(level)
        window = (slice(None), slice(None)) if window is ... else window
        ranges = zip(window, lazy.shape[-2:], strict=True)
        sizes = [len(range(*part.indices(size))) for part, size in ranges]
        if math.prod(sizes) * lazy.dtype.itemsize > MAX_READ_BYTES:
            raise self._damaged(key, f"{sizes[0]:,} × {sizes[1]:,} labels are read at once")
        if self.planes:
            window = (self.planes // 2 if plane is None else plane, *window)
        labels = self._read_part(key, lazy, window)
        if k is not None and labels.size:
            known = labels if self.unclustered is None else labels[labels != self.unclustered]
            if known.size and int(known.max()) >= k:
                raise self._damaged(key, f"it holds the label {known.max()} of {k} clusters")
        return labels

    def require_readable(self) -> None:
        """Read all labels; errors as of `read_labels`."""
        for plane in range(max(self.planes, 1)):
            self.read_labels(plane=plane)


class Images(Mapping[str, RunImage]):
    """Images of a run by name, each read when asked for.

    Names are listed from one folder; only those that end in a hash cost a read each.
    """

    def __init__(self, target: Readable, key: str) -> None:
        self._target = target
        self._key = key

    def __repr__(self) -> str:
        return f"<{quantity(len(self), 'image')}>"

    def __getitem__(self, name: str) -> RunImage:
        for key in candidate_keys(name) if name else []:
            image = self._read(key)
            if image is not None and image.name == name:
                return image
            if image is not None and name_of_key(key) == name:
                raise KmdistError(f"{self._target}: the image {key} says it is {image.name!r}")
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        try:
            self[str(name)]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def _names(self) -> list[str]:
        names = []
        for key in self._target.children(self._key):
            name = None if key == "zarr.json" else name_of_key(key)
            if name is None and key != "zarr.json":
                image = self._read(key)
                name = None if image is None else image.name
            if name is not None:
                names.append(name)
        return sorted(names)

    def _read(self, key: str) -> RunImage | None:
        path = f"{self._key}/{key}"
        text = self._target.get(f"{path}/zarr.json")
        if text is None:
            return None
        where = f"{self._target}: {path}"
        try:
            attributes = json.loads(text)["attributes"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise KmdistError(f"{where}/zarr.json is damaged") from error
        return RunImage(self._target, path, validated(where, attributes, ImageRecord))


_SHAPES: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "centroids": ("f", ("k", "feature")),
    "palette": ("u", ("k", "channel")),
    "counts": ("i", ("k",)),
    "history": ("f", ("iteration", 3)),
    "names": ("u", ("byte",)),
    "paths": ("u", ("byte",)),
}
"""Kind of values and shape of arrays by name; those that are not here are their recipe's."""


def array_problem(name: str, values: "np.ndarray[Any, Any]", k: int | None) -> str:
    """What is wrong with an array; empty if nothing is.

    Parameters
    ----------
    k : clusters of the fit, where that is known.
    """
    if name not in _SHAPES:
        return ""
    kind, shape = _SHAPES[name]
    sizes = [k if size == "k" else size for size in shape]
    fits = values.ndim == len(sizes) and all(
        not isinstance(size, int) or size == n for size, n in zip(sizes, values.shape, strict=True)
    )
    wide = kind == "u" and values.dtype != np.uint8
    if not fits or values.dtype.kind != kind or wide:
        return f"it is {values.dtype} of shape {values.shape}"
    if name == "palette" and values.shape[1] not in (3, 4):
        return f"its colours have {values.shape[1]} channels"
    if name == "counts" and values.size and int(values.min()) < 0:
        return "it holds a negative number"
    if name in ("centroids", "counts") and not np.isfinite(values).all():
        return "it holds what is no number"
    return ""
