"""A run in progress: how it is to run, its workers, where it writes, who watches."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kmdist.engine.passes import Pool
from kmdist.images import Rejection
from kmdist.job.endings import Deadline, StrictError
from kmdist.job.options import JobOptions
from kmdist.job.progress import Event, Message, Watcher
from kmdist.store import RunWriter


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

    def reject(self, rejections: Sequence[Rejection]) -> None:
        """Record images that cannot be used; with ``strict`` stop there."""
        for rejection in rejections:
            self.rejected[rejection.image] = rejection
            if self.options.strict:
                raise StrictError(rejection)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Record the seconds a stage takes."""
        started_s = time.perf_counter()
        yield
        self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - started_s
