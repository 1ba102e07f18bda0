"""Options of `kmdist export` and `kmdist extract`, of which their commands are made too."""

from typing import Annotated, Literal

from msgspec import Meta

from kmdist.errors import UsageError
from kmdist.options import NaturalInt, NonNegative, Option, Options

Sort = Literal["share", "hue", "lightness"]
MAX_FEATHER_PX = 1000


def amount(value: str | float) -> float:
    """A share of 0 to 1.

    Raises
    ------
    ValueError : none.
    """
    try:
        share = float(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is no amount of 0 to 1; a folder is named by -o") from error
    if not 0 <= share <= 1:
        raise ValueError(f"{value} is no amount of 0 (no errors) to 1 (all of them)")
    return share


class ExportOptions(Options, frozen=True, kw_only=True):
    """How pictures and palettes are written."""

    dither: Annotated[
        float,
        Option(
            "Diffuse errors (Floyd-Steinberg), or a share of them, 0 to 1, away from edges: no "
            "bands in skies.",
            metavar="[AMOUNT]",
            parse=amount,
            bare=1.0,
        ),
    ] = 0.0
    sort: Annotated[Sort, Option("Order of the colours in the files of the palette.")] = "share"
    polygons: Annotated[
        bool,
        Option("Write regions as GeoJSON, in the reference system of the source (kmdist[geo])."),
    ] = False
    min_area: Annotated[
        NonNegative,
        Option("Of the smallest polygon, in units of that system (m²), or pixels.", metavar="AREA"),
    ] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_area and not self.polygons:
            raise UsageError("--min-area is of polygons: give --polygons")


class ExtractOptions(Options, frozen=True, kw_only=True):
    """What becomes of the pixels that are kept, and of their outline."""

    mask: Annotated[bool, Option("Write white on black instead of the pixels.")] = False
    min_region: Annotated[
        NaturalInt,
        Option("Drop regions of fewer pixels, and fill holes of fewer.", metavar="N"),
    ] = 0
    largest: Annotated[bool, Option("Keep the largest region alone.")] = False
    feather: Annotated[
        float,
        Meta(ge=0, le=MAX_FEATHER_PX),
        Option("Fade out over so many pixels on either side of the edge.", metavar="PX"),
    ] = 0.0
