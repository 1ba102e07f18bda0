"""A run in progress: how it is to run, its workers, where it writes, who watches."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kmdist.cluster import Compute
from kmdist.engine.passes import FAN_IN, Pool, run_pass
from kmdist.errors import UsageError
from kmdist.images import Rejection
from kmdist.job.endings import StrictError
from kmdist.job.memory import Projection
from kmdist.job.progress import Event, Message, Watcher
from kmdist.store import RunWriter


@dataclass(frozen=True)
class JobOptions:
    """How any recipe runs; the command line's options of the same names.

    Parameters
    ----------
    compute : where the tasks run.
    block_mpx : megapixels per block.
    keep_pixels : ``auto``, ``always`` or ``never``: decoded pixels between the passes.
    max_pixels : limit for images that are decoded whole.
    strict : stop at the first image that cannot be used.
    resume : go on with an interrupted run.
    overwrite : replace an existing run once the new one is complete.
    seed : of every random number.
    """

    compute: Compute = field(default_factory=Compute)
    block_mpx: float = 16.0
    keep_pixels: str = "auto"
    max_pixels: int = 200_000_000
    strict: bool = False
    resume: bool = False
    overwrite: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.keep_pixels not in ("auto", "always", "never"):
            raise UsageError(f"--keep-pixels {self.keep_pixels!r}: must be auto, always or never")
        if not 0.01 <= self.block_mpx <= 1024:
            raise UsageError(f"--block-mpx {self.block_mpx}: must be 0.01 to 1024")


@dataclass
class Job:
    """A run in progress: its workers, where it writes and who watches."""

    options: JobOptions
    pool: Pool
    writer: RunWriter
    watch: Watcher
    rejected: dict[str, Rejection] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)

    def require(self, projection: Projection) -> None:
        """Say what memory the job needs, and refuse it where there is less.

        Raises
        ------
        KmdistError : it cannot fit.
        """
        self.watch(Message(str(projection)))
        projection.require()

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

    def over_blocks(
        self,
        stage: str,
        function: Callable[..., Any],
        items: Sequence[Any],
        *arguments: Any,
        pixels: Sequence[int],
        done_before: int = 0,
        fan_in: int = FAN_IN,
        ahead: int = 4,
        merge: Callable[[list[Any]], Any] | None = None,
        on_done: Callable[[int, Any], None] | None = None,
        on_failure: Callable[[int, BaseException], Any] | None = None,
        alone: Callable[[int], Any] | None = None,
    ) -> Any:
        """`run_pass` with progress in blocks and megapixels, and its seconds recorded."""
        finished, mpx = 0, 0.0
        total = len(items) + done_before

        def advance(index: int, result: Any) -> None:
            nonlocal finished, mpx
            finished, mpx = finished + 1, mpx + pixels[index] / 1e6
            if on_done:
                on_done(index, result)
            self.watch(Event(stage, finished + done_before, total, mpx=mpx))

        with self.timed(stage):
            return run_pass(
                self.pool,
                function,
                items,
                *arguments,
                merge=merge,
                fan_in=fan_in,
                ahead=ahead,
                on_done=advance,
                on_failure=on_failure,
                alone=alone,
            )
