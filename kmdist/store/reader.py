"""Read a published run, to the end or an error; its label maps as lazy arrays."""

import difflib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kmdist.arguments import checked_arguments
from kmdist.errors import KmdistError, UsageError, quantity, shown
from kmdist.store.format.contents import COMPLETE, SCHEMA
from kmdist.store.run_arrays import Fit, Images, RunImage, RunRecord, validated
from kmdist.store.targets import FsspecTarget, LocalTarget, Readable, Target, UrlPath
from kmdist.store.zarr_trees import LookingStore
from kmdist.urls import is_url

if TYPE_CHECKING:
    import xarray
    import zarr

T = TypeVar("T")
_ROOT = "zarr.json"

SCORES = (
    "accuracy_hungarian",
    "accuracy_majority",
    "nmi",
    "ari",
    "homogeneity",
    "completeness",
)


class Nearness(NamedTuple):
    """How near a picture is to its original.

    Attributes
    ----------
    psnr_db : infinite where they are equal.
    ssim : −1 … 1; not a number for pictures of fewer than 7 rows or columns.
    delta_e : mean CIEDE2000, 0 … 100, where 1 is just seen side by side; not a number in runs of
        earlier versions.
    """

    psnr_db: float
    ssim: float
    delta_e: float = math.nan

    def info(self) -> dict[str, float | None]:
        """As JSON: None for what is no finite number."""
        rounded = zip(self._fields, map(round, self, (4, 6, 4)), strict=True)
        return {name: value if math.isfinite(value) else None for name, value in rounded}


class OpenedTarget(Readable):
    """Reads of a run, each followed by a look whether the run is still the one that was opened.

    A run is replaced by an exchange before anything of the old one is removed (in an object
    store: after its root is), so what was read before the look is of the run that was opened.

    Parameters
    ----------
    target : where the run lies.

    Raises
    ------
    KmdistError : from all methods: the run was replaced, moved or removed.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stamp = target.stamp(_ROOT)

    def __repr__(self) -> str:
        return repr(self._target)

    def __str__(self) -> str:
        return str(self._target)

    def get(self, key: str) -> bytes | None:
        return self._of_this_run(self._target.get(key))

    def exists(self, key: str) -> bool:
        return self._of_this_run(self._target.exists(key))

    def children(self, prefix: str = "") -> list[str]:
        return self._of_this_run(self._target.children(prefix))

    def zarr_store(self) -> Any:
        """A store for zarr-python whose reads are looked at in the same way."""
        return LookingStore(self._target.zarr_store(), self.require_same)

    def require_same(self) -> None:
        """Raise `KmdistError` where the run is not the one that was opened."""
        if self._stamp is not None and self._target.stamp(_ROOT) != self._stamp:
            raise KmdistError(
                f"{self._target} was replaced, moved or removed since it was opened: open it again"
            )

    # After the read, not before it: what is read then may still be of both.
    def _of_this_run(self, value: T) -> T:
        self.require_same()
        return value


class Run(Fit):
    """A published run.

    Attributes
    ----------
    path : its folder (or URL), ``RUN.zarr`` or ``RUN.zarr/k8``.
    attributes : the run's record, ``attributes.kmdist``.
    """

    def __init__(
        self, path: Any, target: Readable, key: str, attributes: Mapping[str, Any]
    ) -> None:
        super().__init__(target, key, attributes)
        self.path = path

    def __repr__(self) -> str:
        what = f"k = {self.k}" if self.k else f"k = {', '.join(map(str, self.runs))}"
        return f"<Run {self.path} ({self.recipe}, {what})>"

    @property
    def recipe(self) -> str:
        """Name of the recipe that wrote it."""
        return str(self.attributes["recipe"])

    @property
    def k(self) -> int | None:
        """Number of clusters; None for a run of several k."""
        if self.attributes.get("runs"):
            return None
        k = self.attributes.get("k")
        if k is None and self.centroids is not None:
            return len(self.centroids)
        return None if k is None else int(k)

    @property
    def said_k(self) -> str:
        """``k = 8``, or ``k up to 8, by image`` where each image has the number chosen for it."""
        asked = self.parameters
        chosen = bool(asked.get("choose")) or asked.get("psnr") is not None
        by_image = chosen and bool(self.attributes.get("per_image"))
        return f"k up to {self.k}, by image" if by_image else f"k = {self.k}"

    @property
    def parameters(self) -> dict[str, Any]:
        """What was asked for."""
        return dict(self.attributes.get("parameters") or {})

    @property
    def n_iter(self) -> int | None:
        """Iterations of the fit."""
        if "n_iter" in self.attributes:
            value = self.attributes["n_iter"]
            return None if value is None else int(value)
        return None if self.history is None else len(self.history)

    @cached_property
    def images(self) -> Images:
        """Images with label maps, by name."""
        return Images(self._target, self._path("images"))

    @cached_property
    def runs(self) -> dict[int, "Run"]:
        """Runs by k, where there are several."""
        found = {}
        for name in self.attributes.get("runs") or ():
            found[int(name[1:])] = _run_at(self.path / name, self._target, self._path(name))
        return found

    @property
    def fits(self) -> list["Run"]:
        """Runs of one k each: this one, or where there are several those of `runs`."""
        return list(self.runs.values()) or [self]

    @cached_property
    def fidelity(self) -> dict[str, Nearness]:
        """How near each image, by name, is to its original in the colours of its labels.

        Empty where the run does not say, or has lost images since.
        """
        figures = self.array("fidelity")
        if figures is None or len(figures) != len(self.images):
            return {}
        rows = (Nearness(*row) for row in figures.tolist())
        return dict(zip(self.images, rows, strict=True))

    def image(self, name: str) -> RunImage:
        """One image, by its name, its file's name where one image has it, or its node's name.

        Raises
        ------
        UsageError : the run has no such image, and similar names are listed; several images have
            the name; or the run has several k.
        """
        self._require_one_k()
        if name in self.images:
            return self.images[name]
        for candidate in self.images if len(self.images) <= 10_000 else ():
            if self.images[candidate].key == name or self.images[candidate].source == name:
                return self.images[candidate]
        ending = [one for one in self.images if one.endswith(f"/{name}")]
        if len(ending) == 1:
            return self.images[ending[0]]
        if ending:
            listed = ", ".join(map(shown, ending[:3])) + (" …" if len(ending) > 3 else "")
            raise UsageError(f"{self.path} has {len(ending)} images {name!r}: {listed}")
        near = difflib.get_close_matches(name, list(self.images)[:10_000], n=3, cutoff=0.3)
        hint = f"; similar: {', '.join(map(shown, near))}" if near else ""
        raise UsageError(f"{self.path} has no image {name!r} (of {len(self.images)}){hint}")

    def _require_one_k(self) -> None:
        if self.runs:
            raise UsageError(
                f"{self.path} holds several k ({', '.join(map(str, self.runs))}); take one: "
                f"run.runs[{min(self.runs)}], or RUN/k{min(self.runs)} where a path is given"
            )

    @cached_property
    def names(self) -> list[str]:
        """Names of the items that `labels` (n,) are of; empty where they have none."""
        return self._lines("names")

    @cached_property
    def paths(self) -> list[str]:
        """Where these items were when the run was made; empty where it does not say."""
        return self._lines("paths")

    def _lines(self, name: str) -> list[str]:
        text = self.array(name)
        if text is None:
            return []
        return text.tobytes().decode("utf-8", "surrogateescape").split("\n")[:-1]

    def labels(self, name: str | None = None, level: int = 0) -> "zarr.Array[Any]":
        """Label map (y, x) of an image, or without a name the labels (n,) of all items, lazily.

        Raises
        ------
        UsageError : no such image, no name where the run has label maps, or several k.
        """
        self._require_one_k()
        if name is not None:
            return self.image(name).labels(level)
        if self._target.exists(self._path("labels/zarr.json")):
            return self.lazy("labels")
        if len(self.images) == 1:
            return self.image(next(iter(self.images))).labels(level)
        raise UsageError(f"{self.path} has {quantity(len(self.images), 'image')}; name one of them")

    def to_xarray(self, name: str | None = None) -> Any:
        """Labels as lazy Dask arrays with named dimensions.

        Parameters
        ----------
        name : of an image; None: of all.

        Returns
        -------
        xarray.DataArray (y, x), or (image,) where the run has one label for each image; of all
        images an xarray.DataTree with one dataset ``labels`` for each, by name; of several k a
        DataTree with one branch ``kN`` for each.

        Raises
        ------
        UsageError : no such image, or xarray is not installed.
        """
        try:
            import xarray
        except ImportError as error:
            raise UsageError("to_xarray needs xarray: pip install 'kmdist[xarray]'") from error
        if self.runs:
            trees = {f"k{k}": one.to_xarray(name) for k, one in self.runs.items()}
            if name is not None or not all(isinstance(t, xarray.DataTree) for t in trees.values()):
                trees = {key: _as_dataset(one) for key, one in trees.items()}
            return xarray.DataTree.from_dict(trees)
        if name is not None or not len(self.images):
            return _lazy(self.labels(name), self)
        return xarray.DataTree.from_dict(
            {one: _as_dataset(_lazy(self.images[one].labels(), self)) for one in self.images}
        )

    def plot(self, image: str | None = None, ax: Any = None) -> Any:
        """Draw an image in the colours of its clusters.

        Parameters
        ----------
        image : its name; None: the first.
        ax : axes of matplotlib; None: the current ones.

        Returns
        -------
        The axes; of a run without label maps the figure that its recipe draws.

        Raises
        ------
        UsageError : no such image.
        """
        return import_module("kmdist.pages.notebook").plot(self, image, ax)

    def _repr_html_(self) -> str:
        return str(import_module("kmdist.pages.notebook").run_html(self))

    def predict(self, images: Any) -> Any:
        """Label new images in memory with the run's clusters; `kmdist predict` is for many.

        Parameters
        ----------
        images : one image, a sequence of them, or a mapping of names to them. An image is a path,
            or an array (y, x), (y, x, 3) or (y, x, 4) in NumPy or Dask, RGB order. For a run of
            digits: an array (n, h, w), or what names a stack; see
            `kmdist.recipes.digits.stacks.open_stack`.

        Returns
        -------
        Labels (y, x) for one image, transparent pixels with the largest value of their type; a
        list or a dict of them for several. For a run of digits (n,) int32.

        Raises
        ------
        UsageError : the run has no single palette, or an array is no image.
        ImageError : a file cannot be used.
        """
        self._require_one_k()
        # By name: the store lies below the recipes and knows none of them.
        recipe = import_module("kmdist.recipes.registry").recipe_named(self.recipe)
        return recipe.predict(self, images)

    def info(self) -> dict[str, Any]:
        """What ``kmdist info --json`` prints, as plain lists and numbers."""
        record = self.attributes
        scores = record.get("scores") or {}
        found: dict[str, Any] = {"recipe": self.recipe, "k": self.k, "inertia": self.inertia}
        found["n_iter"] = self.n_iter
        found.update({key: record.get(key) for key in ("stop_reason", "seed")})
        first = self.fits[0]  # each k has the same images
        near = first.fidelity
        found["images"] = [
            {**first.images[name].info(), **near[name].info()}
            if name in near
            else first.images[name].info()
            for name in first.images
        ]
        found["fidelity"] = record.get("fidelity")
        found["rejected"] = record.get("rejected", [])
        found.update(self.clusters_info())
        found["selection"] = record.get("selection")
        found["scores"] = {key: scores.get(key) for key in SCORES}
        found["timings"] = record.get("timings", {})
        found["fingerprint"] = record.get("fingerprint")
        if self.runs:
            found["runs"] = {f"k{k}": run.info() for k, run in self.runs.items()}
        return found


def _as_dataset(array: Any) -> "xarray.Dataset":
    return array.to_dataset(name="labels")


def _lazy(stored: Any, run: Run) -> "xarray.DataArray":
    """An array as Dask blocks of whole chunks, or of whole shards."""
    import dask.array as da
    import xarray

    blocks = da.from_array(stored, chunks=stored.shards or stored.chunks)
    marker = {} if run.unclustered is None else {"unclustered": run.unclustered}
    dims = stored.metadata.dimension_names
    return xarray.DataArray(blocks, dims=dims, name="labels", attrs={"k": run.k, **marker})


@checked_arguments
def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a published run, or one k of it (``RUN.zarr/k8``).

    Raises
    ------
    UsageError : nothing is there, or it is no run.
    KmdistError : the run is not complete, damaged, or of a newer format.
    """
    place: Any = UrlPath(os.fspath(path).rstrip("/")) if is_url(path) else Path(path).expanduser()
    if isinstance(place, Path) and not place.is_dir():
        if place.exists():
            raise UsageError(f"{place} is a file; a run is a folder that kmdist has written")
        raise UsageError(f"{place}: does not exist{_what_is_there(place)}")
    target = LocalTarget(place) if isinstance(place, Path) else FsspecTarget(str(place))
    return _run_at(place, OpenedTarget(target), "")


def _run_at(folder: Any, target: Readable, key: str) -> Run:
    """The run at a key of a tree, if it can be read."""
    inside = f"{key}/" if key else ""
    text = target.get(f"{inside}zarr.json")
    if text is None:
        if target.children(f"{inside}state"):
            raise _incomplete(folder)
        if is_url(folder) and not target.children(key):
            raise UsageError(f"{folder}: does not exist")
        raise UsageError(f"{folder} is no run of kmdist: it has no zarr.json")
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KmdistError(f"{folder}/zarr.json is damaged: {error}") from error
    attributes = metadata.get("attributes") if isinstance(metadata, dict) else None
    record = attributes.get("kmdist") if isinstance(attributes, dict) else None
    if not isinstance(record, dict) or "schema" not in record:
        raise UsageError(f"{folder} is a Zarr node, but no run of kmdist")
    schema = record["schema"]
    if not isinstance(schema, int) or schema > SCHEMA:
        raise KmdistError(
            f"{folder} has format {schema!r}; this kmdist reads up to {SCHEMA}. Update kmdist"
        )
    if record.get("state") != COMPLETE or "recipe" not in record:
        raise _incomplete(folder)
    return Run(folder, target, key, validated(folder, record, RunRecord))


def _incomplete(folder: Any) -> KmdistError:
    return KmdistError(
        f"{folder} is not complete: its run is going on or was interrupted. Run the same command "
        "again with --resume"
    )


def _what_is_there(folder: Path) -> str:
    """A remedy for a path that does not exist."""
    if folder.with_name(f".{folder.name}.partial").is_dir():
        return "; its run is going on or was interrupted: repeat the command with --resume"
    if folder.with_name(f".{folder.name}.previous").is_dir():
        return f"; an earlier run is kept in .{folder.name}.previous: rename it back"
    if folder.name[:1] == "k" and folder.name[1:].isdecimal() and folder.parent.is_dir():
        found = (child.name for child in folder.parent.glob("k[0-9]*"))
        others = sorted(found, key=lambda name: (len(name), name))
        return f"; {folder.parent} holds {', '.join(others) if others else 'one k alone'}"
    return ""


@contextmanager
def interpreting(run: Run) -> Iterator[None]:
    """Say in one line where the record and arrays of a run contradict each other.

    Each value is checked as it is read; that an index of one lies within another is found here.

    Raises
    ------
    KmdistError : they do.
    """
    try:
        yield
    except KmdistError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise KmdistError(
            f"{run.path} is damaged, or was not written by kmdist: {type(error).__name__}: {error}"
        ) from error


def opened(run: Run | str | os.PathLike[str]) -> Run:
    """A run that may be given as its path; errors as of `open_run`."""
    return run if isinstance(run, Run) else open_run(run)


def single_k(run: Run | str | os.PathLike[str], command: str) -> Run:
    """A run of one k.

    Raises
    ------
    UsageError : the run holds several; their paths are named.
    """
    run = opened(run)
    if run.runs:
        paths = ", ".join(str(one.path) for one in run.runs.values())
        raise UsageError(f"{run.path} holds several k; kmdist {command} takes one of: {paths}")
    return run
