"""What a recipe says of itself, so that one job serves them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from kmdist.engine.passes import Pool
from kmdist.images import Rejection
from kmdist.job.job import Job
from kmdist.job.memory import Projection, Slots
from kmdist.job.options import JobOptions
from kmdist.job.progress import Message, Watcher


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
    def rejected(self) -> Sequence[Rejection]:
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
    def notes(self) -> Sequence[Message]:
        """What else is to be said of them."""


W = TypeVar("W", bound=Workload)


@dataclass(frozen=True)
class Outline:
    """What a dry run says that depends on the recipe; see `kmdist.job.plan.Plan`.

    Parameters
    ----------
    result_bytes : of all results before compression.
    """

    passes: int | None = None
    tasks: int | None = None
    memory: Projection | None = None
    checkpoint_bytes: int = 0
    result_bytes: int = 0


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

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> W:
        """Open the inputs; `pool` may read their headers.

        Raises
        ------
        UsageError : an input is not as it must be.
        """

    def parameters(self, workload: W, options: JobOptions) -> Mapping[str, Any]:
        """What decides the result besides the inputs: equal for a run to be resumed."""

    def outline(self, workload: W, slots: Slots, options: JobOptions) -> Outline:
        """What `run` would take; nothing is run."""

    def run(self, job: Job, workload: W) -> Results:
        """Pass by pass, write the run's arrays and label maps."""
