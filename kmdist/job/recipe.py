"""What a recipe says of itself, so that one job serves them all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, Union

from kmdist.errors import ImageError, UsageError
from kmdist.job.options import JobOptions
from kmdist.job.progress import Message, Watcher

if TYPE_CHECKING:  # recipes are listed before any of these is needed
    import numpy as np

    from kmdist.engine.passes import Pool
    from kmdist.images import Found, Rejection, Window
    from kmdist.job.exhibits import Exhibit
    from kmdist.job.job import Job
    from kmdist.job.memory import Outline
    from kmdist.store import Run, RunImage

Inputs = str | Path | Iterable[Union[str, Path, "Found"]]
"""Image files, as users name them."""


class Workload(Protocol):
    """Inputs that were opened, in blocks; `kmdist.job.photographs.Photographs` of image files."""

    @property
    def n_images(self) -> int:
        """Images that can be used."""

    @property
    def megapixels(self) -> float:
        """Of these images."""

    @property
    def work_mpx(self) -> float:
        """Megapixels of photographs that are as much work: threads or processes are to do it."""

    @property
    def blocks(self) -> Sequence[Any]:
        """What one task of a pass works on, each; depends on inputs and block size alone."""

    @property
    def rejected(self) -> Sequence["Rejection"]:
        """Inputs that cannot be used."""

    @property
    def names(self) -> Sequence[str]:
        """Of the images that get label maps of their own."""

    @property
    def fingerprint(self) -> str:
        """By which a resume knows the inputs again."""

    @property
    def described(self) -> str:
        """The usable images in a few words."""

    @property
    def record(self) -> Mapping[str, Any]:
        """What the run's record says of them."""

    @property
    def notes(self) -> Sequence[Message]:
        """What else is to be said of them."""


W = TypeVar("W", bound=Workload)


@dataclass(frozen=True)
class Results:
    """What the record of a run says besides what every job records.

    Parameters
    ----------
    by_k : of each number of clusters asked for.
    common : of the run as a whole.
    """

    by_k: Mapping[int, Mapping[str, Any]]
    common: Mapping[str, Any] = field(default_factory=dict)


class Procedure(Protocol[W]):
    """What a job does from inputs to a run: fit, or label with a model that was fitted."""

    @property
    def recipe(self) -> str:
        """Name of the recipe, as the run records it."""

    def open(self, options: JobOptions, pool: "Pool", watch: Watcher) -> W:
        """Open the inputs; `pool` may read their headers.

        Raises
        ------
        UsageError : an input is not as it must be.
        """

    def parameters(self, workload: W, options: JobOptions) -> Mapping[str, Any]:
        """What decides the result besides the inputs: equal for a run to be resumed."""

    def outline(self, workload: W, options: JobOptions, *, keep: bool) -> "Outline":
        """What `run` is going to do; nothing is run.

        Parameters
        ----------
        keep : what can be kept between the passes is kept, as `kmdist.job.job.Job.keep` says.
        """

    def run(self, job: "Job", workload: W) -> Results:
        """Pass by pass, write the run's arrays and label maps."""


class Model(Protocol):
    """What a run has learnt, to label new pixels with."""

    @property
    def k(self) -> int:
        """Number of clusters."""

    def label(self, pixels: "np.ndarray", /) -> "np.ndarray":
        """Labels of pixels in memory, a pure function; of photographs (y, x, 3) uint8, sRGB."""


class Original(Protocol):
    """What an image of a run was labelled from, as pictures show it."""

    @property
    def size_bytes(self) -> int:
        """Of the file."""

    def rgb(self, window: "Window") -> "np.ndarray":
        """(y, x, 3) uint8 of a window; (y, x, 4) where palettes have alpha."""


class Recipe(Protocol):
    """One way to cluster images, found by its name in `kmdist.recipes.registry`.

    Every command imports every recipe, so that importing one must be light. Those that label the
    pixels of image files derive from `kmdist.job.photograph_recipe.PhotographRecipe`.

    Attributes
    ----------
    name : as the command, job specs and runs have it.
    options : class of its options, which `fit` is given.
    reads : options of ``kmdist predict`` that only some recipes have, which this one takes.
    model_options : options of `fit` that make its run a model and nothing else: one set of
        clusters and no labels.
    pictures : names of what `figure` draws; without one of them label maps are drawn, if any.
    recolors : whether label maps stand for the picture, and are compared with it, or lie over it.
    colors_of_images : whether clusters have colours of the images, not some that tell them apart.
    exported : suffixes of the files that an export may write for an image; none: there are no
        label maps to draw.
    """

    name: ClassVar[str]
    options: ClassVar[type[JobOptions]]
    reads: ClassVar[tuple[str, ...]] = ()
    model_options: ClassVar[Mapping[str, Any]] = {}
    pictures: ClassVar[tuple[str, ...]] = ()
    recolors: ClassVar[bool] = False
    colors_of_images: ClassVar[bool] = True
    exported: ClassVar[tuple[str, ...]] = (".png",)

    def fit(self, inputs: Any, options: Any) -> Procedure[Any]:
        """Cluster inputs.

        Raises
        ------
        UsageError : options that do not go together.
        """

    def label(self, run: "Run", inputs: Any, options: Any) -> Procedure[Any]:
        """Label inputs with the clusters of a run of one k.

        Raises
        ------
        UsageError : the run has no single set of clusters.
        """

    def model_of(self, run: "Run") -> Model:
        """What labels pixels as a run labelled its own; errors as of `label`."""

    def predict(self, run: "Run", images: Any) -> Any:
        """Label images in memory: what `Run.predict` does."""

    def summary(self, run: "Run") -> list[str]:
        """What ``kmdist info`` says of the images."""

    def exhibits(self, run: "Run") -> "Sequence[Exhibit]":
        """What a report of a run shows besides label maps; of several k also each one's."""
        return ()

    def export_further(self, run: "Run", folder: "Path", stems: "Mapping[str, str]") -> None:
        """Write what ``kmdist export`` gives besides pictures, of a run of one k.

        Parameters
        ----------
        stems : names of the files of each image, without suffix.
        """
        return  # nothing: most recipes are shown whole by their pictures

    def original(self, run: "Run", image: "RunImage") -> Original:
        """What an image with a label map was labelled from.

        Raises
        ------
        ImageError : it is gone, has another size than the label map, or cannot be read.
        """
        raise ImageError("missing", f"images of {self.name} have no label maps")

    def least_files(self, options: Any) -> int:
        """Files that a model takes at least."""
        return 1

    def name_in_run(self, name: str) -> str:
        """A file's name as its run holds it."""
        return name

    def figure(self, run: "Run", what: str | None) -> Any:
        """A picture of the run, as a figure of matplotlib.

        Parameters
        ----------
        what : one of `pictures`; None: the one to begin with.
        """
        raise UsageError(f"{run.path} is a run of {self.name}, which has no figures")
