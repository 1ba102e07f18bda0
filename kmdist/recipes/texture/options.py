"""Options of texture."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from kmdist.errors import UsageError
from kmdist.job.options import BlockMpx, FittingOptions, K, Method, SharedClusters, k_option
from kmdist.options import NaturalInt, NonNegative, Option, Share

DEFAULT_K = 6
MAX_K = 4096


class TextureOptions(FittingOptions, frozen=True, kw_only=True):
    """Segment photographs by texture: k-means on pooled responses of a filter bank.

    INPUT is a folder, a glob, image files, or a text file that lists them; `sample:photos` are
    bundled photographs. Tiled TIFF and Zarr images are read by tile, never whole.

    \b
    kmdist texture photos/ -o texture.zarr -k 6
    kmdist view texture.zarr photo.jpg -o picture.png
    kmdist extract texture.zarr photo.jpg --at 120,80 -o cutout.png
    """

    DEFAULT_K: ClassVar[int] = DEFAULT_K

    k: Annotated[
        K,
        k_option(
            "Clusters; several to compare: 4,6,8; 2..12 or auto chooses, an image or collection.",
            DEFAULT_K,
            f"textures have 1 to {MAX_K} clusters",
            at_most=MAX_K,
        ),
    ] = None
    preset: Annotated[
        Literal["textons", "gabor", "lm", "color+texture", "tutorial"] | None,
        Option(
            "What is measured; tutorial for comparison only.",
            default="color+texture for photographs in colour, textons for grey ones",
        ),
    ] = None
    shared: SharedClusters = False
    sample: Annotated[
        Share | None,
        Option(
            "Share of the positions a fit takes.", default="all, up to 131,072", metavar="SHARE"
        ),
    ] = None
    scales: Annotated[Literal["linear", "published"], Option("Scales of the Leung-Malik bank.")] = (
        "linear"
    )
    pool_px: Annotated[
        NonNegative | None,
        Option(
            "Standard deviation of the window that features are pooled in.",
            default="the preset's",
            metavar="PX",
        ),
    ] = None
    whiten: Annotated[
        NaturalInt | None, Option("Keep N half-whitened components.", metavar="N")
    ] = None
    textons: Annotated[
        Annotated[int, Meta(ge=0, le=256)] | None,
        Option("Number of textons; 0: none.", metavar="N"),
    ] = None
    color_weight: Annotated[
        NonNegative | None, Option("Weight of colour against texture.", metavar="W")
    ] = None
    keep_responses: Annotated[
        bool, Option("Write the filter responses beside the labels.", one_off=True)
    ] = False
    init: Annotated[Method, Option("First centres.")] = "k-means++"
    block_mpx: BlockMpx = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fit_only and self.keep_responses:
            raise UsageError("fit_only makes clusters to label with later: it keeps no responses")
