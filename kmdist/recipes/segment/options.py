"""Options of segment."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

from msgspec import Meta

from kmdist.errors import UsageError
from kmdist.job.options import FittingOptions, K, SharedClusters, k_option
from kmdist.options import NaturalInt, Option, PositiveInt, texts

DEFAULT_K = 8
MAX_K = 65_535
LEAST, MOST = 1e-9, 1e9
"""Of weights, with which scaled values neither vanish nor overflow."""


def channels_asked(value: Any) -> tuple[str, ...]:
    """Channels by number or name: ``1,3,5-8``, ``DAPI,Cy5``, or a list of these.

    Raises
    ------
    ValueError : neither.
    """
    if isinstance(value, str):
        value = value.split(",")
    listed = value if isinstance(value, list | tuple) else [value]
    return texts([str(one).strip() for one in listed])


def weights_asked(value: Any) -> tuple[str, ...]:
    """Weights of channels: ``NIR=2,3=0.5``, a list of these, or a mapping.

    Raises
    ------
    ValueError : none of these, or a weight that is no number of `LEAST` to `MOST`.
    """
    if isinstance(value, Mapping):
        value = [f"{name}={number}" for name, number in value.items()]
    listed = channels_asked(value)
    for one in listed:
        try:
            name, _, number = one.rpartition("=")
            valid = name != "" and LEAST <= float(number) <= MOST
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(
                f"{one!r}: must be NAME=NUMBER, a channel and a number of {LEAST:g} to {MOST:g}"
            )
    return listed


def number_or_nan(value: Any) -> float:
    """A number, or not a number.

    Raises
    ------
    ValueError : neither.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{value!r} is neither a number nor nan") from error


class Centers(Protocol):
    """An array of first centres."""

    def __array__(self) -> Any: ...


def first_centers(value: Any) -> Any:
    """The name of a method, a ``.npy`` file, or (k, c) numbers; checked where they are used."""
    return str(value) if isinstance(value, Path) else value


class SegmentOptions(FittingOptions, frozen=True, kw_only=True):
    """Cluster pixels of any number of channels, as they are.

    INPUT is a folder, a glob, or files: TIFF of any samples, Zarr and OME-Zarr, .npy, .npz, or a
    run of texture with kept responses. From Python also arrays. Writes label maps and centroids in
    the units of the input to RUN.zarr.

    \b
    kmdist segment scene.tif -o run.zarr -k 8
    kmdist segment stack.zarr -o run.zarr -k 6 --scale standard
    """

    DEFAULT_K: ClassVar[int] = DEFAULT_K

    k: Annotated[
        K,
        k_option(
            "Clusters of the pixels; several to compare: 4,8,16; 2..32 or auto chooses one.",
            DEFAULT_K,
            f"segment makes 1 to {MAX_K:,} clusters",
            at_most=MAX_K,
        ),
    ] = None
    shared: SharedClusters = True
    channels: Annotated[
        tuple[str, ...],
        Option(
            "Channels to cluster, by number from 1 or by name: 1,3,5-8.",
            default="all",
            metavar="LIST",
            parse=channels_asked,
            schema={"type": ["string", "integer", "array"]},
        ),
    ] = ()
    scale: Annotated[
        Literal["none", "standard", "minmax", "robust"],
        Option(
            "What each channel is divided by, so that one unit does not drown another: nothing, "
            "its standard deviation, its range, or the range between its quartiles."
        ),
    ] = "none"
    weight: Annotated[
        tuple[str, ...],
        Option(
            "Channels that count more or less: what is scaled is multiplied by this.",
            metavar="NAME=NUMBER,...",
            parse=weights_asked,
            schema={"type": ["string", "array", "object"]},
        ),
    ] = ()
    components: Annotated[
        PositiveInt | None,
        Option("Cluster so many principal components of the scaled channels."),
    ] = None
    coordinates: Annotated[
        Annotated[float, Meta(ge=0, le=MOST)],
        Option(
            "Columns and rows as further features: the longer side of an image is as far as this "
            "times the root of the channels' total variance; 0: none."
        ),
    ] = 0.0
    min_region: Annotated[
        NaturalInt,
        Option(
            "Regions of fewer pixels join the neighbour with which they share the longest border."
        ),
    ] = 0
    bands: Annotated[
        tuple[str, ...],
        Option(
            "One scene is several files of one channel, the files of a folder that match: "
            "'B*.tif', or a list in the order wanted.",
            metavar="GLOB,...",
            parse=channels_asked,
            schema={"type": ["string", "array"]},
        ),
    ] = ()
    nodata: Annotated[
        float | None,
        Option(
            "A value that says there is no data, besides what the file itself says; nan always "
            "does.",
            metavar="VALUE|nan",
            parse=number_or_nan,
            schema={"type": ["number", "string"]},
        ),
    ] = None
    channel_axis: Annotated[
        int | None,
        Option("Which axis is the channel, from 0; default: by its name, else the short one."),
    ] = None
    z: Annotated[NaturalInt | None, Option("Which plane of a volume, from 0.")] = None
    volume: Annotated[
        bool,
        Option("All planes of a volume are one image, whose label map is (z, y, x)."),
    ] = False
    t: Annotated[NaturalInt | None, Option("Which time point, from 0.")] = None
    init: Annotated[
        str | Path | Centers,
        Option(
            "First centres; FILE: (k, c) numbers in the units of the input (.npy). In Python also "
            "an array.",
            metavar="k-means++|k-means|||random|FILE",
            parse=first_centers,
            schema={"type": "string"},
        ),
    ] = "k-means++"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.choices and not self.shared:
            raise UsageError(f"k = {self.k} chooses one k for the collection; give a number")
        if self.volume and (self.z is not None or self.bands):
            raise UsageError("volume takes all planes of each file: it goes without z and bands")

    @property
    def weights(self) -> dict[str, float]:
        """By the name or number of the channel."""
        return {one.rpartition("=")[0]: float(one.rpartition("=")[2]) for one in self.weight}

    @property
    def nodata_values(self) -> tuple[float, ...]:
        """Values that stand for no data besides NaN."""
        return () if self.nodata is None or math.isnan(self.nodata) else (self.nodata,)
