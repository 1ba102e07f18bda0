"""Options of digits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta
from msgspec.structs import force_setattr

from kmdist.errors import UsageError
from kmdist.job.options import MAX_ITER, N_INIT, TOL, JobOptions, K, Method, k_option
from kmdist.options import NaturalInt, NonNegative, Option, PositiveInt, path_or_text, unchanged

DEFAULT_K = 10

Polarity = Literal["auto", "light", "dark"]


def cell_size(value: Any) -> tuple[int, int]:
    """Width and height of a cell: ``20x20``, or two numbers.

    Raises
    ------
    ValueError : neither of these.
    """
    parts = value.lower().split("x") if isinstance(value, str) else value
    if isinstance(parts, list | tuple) and len(parts) == 2:
        sides = [str(side) for side in parts]
        if all(side.isdecimal() and int(side) > 1 for side in sides):
            return int(sides[0]), int(sides[1])
    raise ValueError(f"{value!r} must be a width and a height in pixels such as 20x20")


CELL = Option(
    "INPUT is a sheet of cells of this size: 20x20.",
    metavar="WxH",
    parse=cell_size,
    schema={"type": "string", "pattern": "^[0-9]+x[0-9]+$"},
    one_off=True,
)


def classes_option(help: str) -> Option:
    """Where true classes come from."""
    return Option(
        help, metavar="rows|FILE", parse=path_or_text, schema={"type": "string"}, one_off=True
    )


class DigitsOptions(JobOptions, frozen=True, kw_only=True):
    """Group images of single characters, such as handwritten digits.

    INPUT is an IDX file (MNIST's, gzipped or not), a sheet with --cell, a folder of images
    (sub-folders are classes), a .npy, .npz or Zarr stack, or the bundled sample:digits. Classes
    that come with the images only score the result.

    \b
    kmdist digits train-images-idx3-ubyte.gz -o run.zarr -k 10
    kmdist digits digits.png --cell 20x20 --labels rows -o run.zarr
    """

    OMITTED: ClassVar[tuple[str, ...]] = ("max_pixels",)
    ONE_INPUT: ClassVar[bool] = True

    k: Annotated[
        K,
        k_option(
            "Clusters, or several numbers to compare: 10,16,64.",
            DEFAULT_K,
            "must be 1 or more",
            choices=False,
        ),
    ] = None
    preset: Annotated[
        Literal["raw", "deskew", "gradient", "landmark", "refined"] | None,
        Option(
            "How images are described and grouped.",
            default="landmark from 5,000 images on, refined from 200, else gradient",
        ),
    ] = None
    cell: Annotated[tuple[int, int] | None, CELL] = None
    labels: Annotated[
        str | Path | None,
        classes_option("True classes, to score the result: rows of the sheet, or a file."),
    ] = None
    test: Annotated[
        Any,
        Option(
            "Further images, labelled and scored afterwards.",
            metavar="INPUT",
            parse=unchanged,
            schema={"type": "string"},
            one_off=True,
        ),
    ] = None
    test_labels: Annotated[str | Path | None, classes_option("Their true classes.")] = None
    polarity: Annotated[
        Polarity, Option("light: light ink on dark paper; auto: as the borders show.")
    ] = "auto"
    init: Annotated[Method | None, Option("First centres.", default="k-means++")] = None
    n_init: Annotated[PositiveInt | None, Option(N_INIT, default="1")] = None
    max_iter: Annotated[PositiveInt | None, Option(MAX_ITER, default="300")] = None
    tol: Annotated[NonNegative | None, Option(TOL, default="0.0001")] = None

    @property
    def ks(self) -> tuple[int, ...]:
        """Numbers of clusters, ascending."""
        return self.k if isinstance(self.k, tuple) else (DEFAULT_K,)


class ChangeOptions(JobOptions, frozen=True, kw_only=True):
    """How clusters of a run are changed."""

    OMITTED: ClassVar[tuple[str, ...]] = ("cluster", "max_pixels", "strict")

    images: Annotated[
        Any,
        Option(
            "Where the images of RUN are now.",
            default="where they were",
            metavar="INPUT",
            parse=unchanged,
        ),
    ] = None
    cluster_file: Annotated[
        str | None, Option("Run where this cluster file says.", metavar="FILE[:PROFILE]")
    ] = None

    def __post_init__(self) -> None:
        force_setattr(self, "cluster", self.cluster_file)
        super().__post_init__()


class SplitOptions(ChangeOptions, frozen=True, kw_only=True):
    """Divide one cluster of a digits run further, and write a new run of all images.

    RUN has one k; RUN.zarr/k8 is one of several. The new run keeps the tree of what became what,
    and can be split, merged and used by predict in turn.

    \b
    kmdist split run.zarr --cluster 7 -k 3 -o finer.zarr
    """

    divided: Annotated[NaturalInt, Option("The cluster to divide.", name="cluster")]
    k: Annotated[Annotated[int, Meta(ge=2)], Option("Parts.", short="-k")] = 2


def _groups(value: Any) -> tuple[tuple[int, ...], ...]:
    """Groups of cluster numbers, each a text ``2,5`` or a sequence."""
    groups = []
    for group in value:
        parts = [str(part) for part in (group.split(",") if isinstance(group, str) else group)]
        if len(parts) < 2 or not all(part.strip().isdecimal() for part in parts):
            raise ValueError(f"{group!r} must be two or more cluster numbers such as 2,5")
        groups.append(tuple(int(part) for part in parts))
    return tuple(groups)


class MergeOptions(ChangeOptions, frozen=True, kw_only=True):
    """Join clusters of a digits run, and write a new run of all images.

    RUN has one k; RUN.zarr/k64 is one of several. The new run keeps the tree of what became what,
    and can be split, merged and used by predict in turn.

    \b
    kmdist merge run.zarr --clusters 2,5 -o joined.zarr
    kmdist merge run.zarr/k64 --to 10 -o ten.zarr
    """

    OMITTED: ClassVar[tuple[str, ...]] = (*ChangeOptions.OMITTED, "seed")

    clusters: Annotated[
        Sequence[Sequence[int]],
        Option(
            "Join these; may be given again for another group.", metavar="A,B[,...]", parse=_groups
        ),
    ] = ()
    to: Annotated[PositiveInt | None, Option("Join until K are left.", metavar="K")] = None
    method: Annotated[
        Literal["ward", "spectral"],
        Option(
            "Of --to: those whose union adds least inertia, or those that many images lie between."
        ),
    ] = "ward"

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.clusters) == (self.to is not None):
            raise UsageError("merge takes either --clusters 2,5 or --to 10")
