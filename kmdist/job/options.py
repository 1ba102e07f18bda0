"""Options that every recipe's job has: how it runs, and how clusters are fitted."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from kmdist.cluster.profiles import Compute
from kmdist.images import Choice
from kmdist.job.choices import K, k_choices
from kmdist.options import NaturalInt, NonNegative, Option, PositiveInt, texts_option

BlockMpx = Annotated[
    float, Meta(ge=0.01, le=1024), Option("Megapixels per unit of distributed work.")
]
KeepPixels = Annotated[
    Literal["auto", "always", "never"],
    Option("Keep decoded pixels between the passes; auto: where they fit in memory."),
]
Method = Literal["k-means++", "k-means||", "random"]

SharedClusters = Annotated[
    bool,
    Option(
        "One set of clusters for the collection, or one an image.",
        off="--per-image",
        one_off=True,
    ),
]

N_INIT = "Restarts."
MAX_ITER = "Iterations at most."
TOL = "Stop when centres move less, relative to the variance; 0: until no label changes."


class JobOptions(Compute, frozen=True, kw_only=True):
    """How any recipe runs.

    `ONE_INPUT`: it takes a single input, not several.
    """

    ONE_INPUT: ClassVar[bool] = False

    seed: Annotated[NaturalInt, Option("Same seed, input and options: the same bytes.")] = 0
    block_mpx: BlockMpx = 16.0
    keep_pixels: KeepPixels = "auto"
    include: Annotated[
        Sequence[str],
        texts_option("Take only files that match, by name, folder or path in INPUT.", "GLOB"),
    ] = ()
    exclude: Annotated[
        Sequence[str], texts_option("Leave out files and folders that match.", "GLOB")
    ] = ()
    max_pixels: Annotated[
        PositiveInt, Option("Refuse larger images that must be decoded whole.")
    ] = 200_000_000
    strict: Annotated[
        bool, Option("Stop at the first image that cannot be used.", one_off=True)
    ] = False
    resume: Annotated[bool, Option("Go on with an interrupted run.", one_off=True)] = False
    overwrite: Annotated[
        bool, Option("Replace an existing run once this is done.", one_off=True)
    ] = False

    @property
    def choice(self) -> Choice:
        """Of the files found, which are wanted."""
        return Choice(tuple(self.include), tuple(self.exclude))

    @property
    def ks(self) -> tuple[int, ...]:
        """Numbers of clusters that are fitted; empty where the recipe is not asked for any."""
        return ()

    @property
    def choices(self) -> tuple[int, ...]:
        """Numbers of clusters of which one is chosen; or empty."""
        return ()


class FittingOptions(JobOptions, frozen=True, kw_only=True):
    """How any recipe runs that fits k-means with `kmdist.KMeans`'s options."""

    DEFAULT_K: ClassVar[int]

    k: K = None
    n_init: Annotated[PositiveInt, Option(N_INIT)] = 1
    max_iter: Annotated[PositiveInt, Option(MAX_ITER)] = 300
    tol: Annotated[NonNegative, Option(TOL)] = 1e-4

    @property
    def choices(self) -> tuple[int, ...]:
        """Numbers of clusters of which one is chosen by label-free scores; or empty."""
        return k_choices(self.k) if isinstance(self.k, str) else ()

    @property
    def ks(self) -> tuple[int, ...]:
        """Numbers of clusters, ascending; one entry of 0 where `choices` decides."""
        if isinstance(self.k, str):
            return (0,)
        return self.k if isinstance(self.k, tuple) else (self.DEFAULT_K,)
