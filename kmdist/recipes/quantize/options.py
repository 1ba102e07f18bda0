"""Options of quantize."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from msgspec import Meta

from kmdist.errors import UsageError
from kmdist.job.options import FittingOptions, K, k_option
from kmdist.options import Option, path_or_text, unchanged

if TYPE_CHECKING:
    from kmdist.recipes.quantize.transparency import Transparency

DEFAULT_K = 16
MAX_K = 256


class Colors(Protocol):
    """An array of colours."""

    def __array__(self) -> Any: ...


def color_code(value: Any) -> str:
    """A colour as ``#rrggbb``.

    Raises
    ------
    ValueError : no colour.
    """
    from kmdist.images.color import hex_color
    from kmdist.recipes.quantize.transparency import color_of

    return hex_color(color_of(str(value)))


class QuantizeOptions(FittingOptions, frozen=True, kw_only=True):
    """Reduce photographs to a palette of k colours.

    INPUT is a folder, a glob, image files, or a text file that lists them; `sample:photos` are
    bundled photographs. Writes label maps and the palette to RUN.zarr.

    \b
    kmdist quantize photos/ -o run.zarr -k 16
    kmdist view run.zarr -o picture.png
    """

    DEFAULT_K: ClassVar[int] = DEFAULT_K

    k: Annotated[
        K,
        k_option(
            "Colours of the palette; several to compare: 2,8,25; 2..32 or auto chooses one.",
            DEFAULT_K,
            f"palettes have 1 to {MAX_K} colours",
            at_most=MAX_K,
        ),
    ] = None
    psnr: Annotated[
        Annotated[float, Meta(ge=5, le=100)] | None,
        Option(
            "Instead of k: the fewest colours found that reach this quality.",
            metavar="DB",
            one_off=True,
        ),
    ] = None
    shared: Annotated[
        bool,
        Option("One palette for the collection, or one an image.", off="--per-image", one_off=True),
    ] = True
    space: Annotated[
        Literal["rgb", "lab", "oklab", "hsv"],
        Option("Colour space in which distances are measured."),
    ] = "rgb"
    metric: Annotated[Literal["euclidean", "manhattan"], Option("manhattan: k-medians.")] = (
        "euclidean"
    )
    init: Annotated[
        str | Path | Colors | Sequence[Sequence[float]],
        Option(
            "First centres; FILE: a palette (.gpl, .json, .npy, .ase) or a run. In Python also "
            "(k, 3) sRGB colours.",
            metavar="random|k-means++|FILE",
            parse=unchanged,
            schema={"type": "string"},
        ),
    ] = "k-means++"
    refine: Annotated[
        Literal["breathing"] | None,
        Option(
            "breathing: go on from each palette by moving colours of little use to where they are "
            "missed; takes some ten times as long."
        ),
    ] = None
    lock: Annotated[
        str | Path | Colors | Sequence[Sequence[float]] | None,
        Option(
            "Colours that must be in the palette, as they are; FILE: a palette (.gpl, .json, .npy, "
            ".ase, .aco, .css, .hex), a picture of few colours, or a run.",
            metavar="FILE",
            parse=unchanged,
            schema={"type": "string"},
        ),
    ] = None
    weights: Annotated[
        str | Path | None,
        Option(
            "Masks of what matters more, named as the images: white counts fully, black not at "
            "all.",
            metavar="MASKS",
            parse=path_or_text,
            schema={"type": "string"},
        ),
    ] = None
    alpha: Annotated[
        bool,
        Option("Colours have alpha, as the palette then; else transparency shows the background."),
    ] = False
    background: Annotated[
        str,
        Option(
            "Colour seen through what is partly transparent; wholly transparent stays.",
            metavar="COLOR",
            parse=color_code,
            schema={"type": "string"},
        ),
    ] = "#ffffff"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k is not None and self.psnr is not None:
            raise UsageError("k and psnr both decide the number of colours: give one of them")
        given = not isinstance(self.init, str) or self.init not in ("k-means++", "random")
        if self.refine and (self.metric != "euclidean" or self.lock is not None):
            raise UsageError(
                "refine moves means: leave it out with metric manhattan, and with lock"
            )
        if self.lock is not None and given:
            raise UsageError("init gives all first centres, and lock some for good: give one")
        if self.metric == "manhattan" and self.space != "rgb":
            raise UsageError(
                f"medians are found by counting 8-bit values, not in {self.space}: use space rgb "
                "with metric manhattan, or metric euclidean"
            )
        if self.alpha and self.metric != "euclidean":
            raise UsageError("colours with alpha have no medians: leave out metric, or alpha")
        if self.alpha and self.background != "#ffffff":
            raise UsageError("with alpha nothing is laid over a background: give one of them")
        if self.choices and not self.shared:
            raise UsageError(
                f"k = {self.k} chooses one k for the collection; give a number of colours"
            )

    @property
    def transparency(self) -> "Transparency":
        """What becomes of it."""
        from kmdist.recipes.quantize.transparency import Transparency

        return Transparency.of_record({"alpha": self.alpha, "background": self.background})

    @property
    def ks(self) -> tuple[int, ...]:
        """Numbers of colours, ascending; one entry of 0 where `choices` or `psnr` decides."""
        return super().ks if self.psnr is None else (0,)
