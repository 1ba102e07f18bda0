"""A run in progress (how, its workers, where it writes, who watches), and how it ends."""

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from kmdist.engine.lloyd import State
from kmdist.engine.passes import Pool
from kmdist.errors import KmdistError, UsageError
from kmdist.images import Rejection
from kmdist.job.options import JobOptions
from kmdist.job.progress import Event, Message, Watcher
from kmdist.store import RunWriter


class NoUsableImageError(KmdistError):
    """No image has a pixel that can be clustered: there is nothing to keep.

    Attributes
    ----------
    rejections : why, image by image.
    """

    def __init__(self, message: str, rejections: Iterable[Rejection]) -> None:
        super().__init__(message)
        self.rejections = tuple(rejections)


class NothingToFitError(KmdistError):
    """The images are all alike: a resume would end as this job did, so nothing is kept."""


class StrictError(KmdistError):
    """An image cannot be used and ``--strict`` asks to stop: the partial run is removed."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(
            f"{rejection.image}: {rejection.reason} [{rejection.code}]; stopped because of --strict"
        )


class OutOfTimeError(KmdistError):
    """The time at which a job is to end has come; what is finished is kept."""


@dataclass(frozen=True)
class Deadline:
    """The time at which a job is to stop cleanly, between two tasks.

    Parameters
    ----------
    moment : when. clock : tells the time.
    """

    moment: datetime
    clock: Callable[[], datetime]

    def check(self) -> None:
        """Stop if the time has come.

        Raises
        ------
        OutOfTimeError : it has.
        """
        if self.clock() >= self.moment:
            raise OutOfTimeError(
                f"it is {self.moment:%H:%M}: stopped; the next night goes on from here"
            )


@contextmanager
def right_ending(writer: RunWriter, watch: Watcher) -> Iterator[None]:
    """If an error ends the block, keep the partial run and say how to go on, or remove it.

    It is removed after `StrictError`, `NoUsableImageError`, `NothingToFitError` and `UsageError`.
    """
    try:
        yield
    except (StrictError, NoUsableImageError, NothingToFitError, UsageError):
        if not writer.already_complete:
            writer.discard()
        raise
    except BaseException as error:
        _keep_partial(writer, error, watch)
        raise


def _keep_partial(writer: RunWriter, error: BaseException, watch: Watcher) -> None:
    writer.release()
    watch(
        Message(
            f"stopped; what is finished is kept and nothing was published. Go on with: "
            f"{writer.resume_command}",
            warning=True,
        )
    )
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        raise KmdistError(
            f"{error.filename or writer.output}: {error.strerror or error}"
        ) from error


def temporary_output() -> Path:
    """A place for a run nobody named, removed when the process ends."""
    import atexit
    import shutil

    folder = tempfile.mkdtemp(prefix="kmdist-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(os.path.join(folder, "run.zarr"))


@dataclass
class Job:
    """A run in progress: its workers, where it writes, who watches, and when it is to stop.

    Parameters
    ----------
    keep : whether what can be kept between the passes is kept.
    memory_bytes : the projected peak of all processes.
    """

    options: JobOptions
    pool: Pool
    writer: RunWriter
    watcher: Watcher
    deadline: Deadline | None = None
    rejected: dict[str, Rejection] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    keep: bool = False
    memory_bytes: int = 0

    def watch(self, event: Event | Message) -> None:
        """Tell who watches; each step that is told is one after which the job may stop.

        Raises
        ------
        OutOfTimeError : the deadline has come.
        """
        self.watcher(event)
        if self.deadline is not None and isinstance(event, Event):
            self.deadline.check()

    def say_state(self, state: State) -> None:
        """Tell of an iteration of a fit; errors as of `watch`."""
        note = f"k = {len(state.centroids)}  inertia {state.inertia:.6g}"
        self.watch(Event("fit", state.iteration, 0, unit="iteration", note=note))

    def reject(self, rejections: Sequence[Rejection]) -> None:
        """Record images that cannot be used; with ``strict`` stop there."""
        for rejection in rejections:
            self.rejected[rejection.image] = rejection
            if self.options.strict:
                raise StrictError(rejection)

    def no_pixel(self, done: str) -> NoUsableImageError:
        """That none can be ``clustered``, or ``labelled``."""
        return NoUsableImageError(
            f"no pixel can be {done}: every image is transparent or unreadable",
            self.rejected.values(),
        )

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Record the seconds a stage takes."""
        started_s = time.perf_counter()
        yield
        self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - started_s
