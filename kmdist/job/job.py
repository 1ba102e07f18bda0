"""What every recipe's run goes through: find, probe, plan, open, pass by pass, publish.

Client-side cost: one probe an image (batches of `PROBE_BATCH` to a task), one task a block and
pass, and what `kmdist.engine.passes` adds for merging.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmdist.cluster import Compute, open_pool, profile_of
from kmdist.engine.passes import FAN_IN, Pool, ThreadPool, run_pass
from kmdist.errors import UsageError
from kmdist.images import (
    Found,
    ImageSource,
    Rejection,
    find_images,
    plan_blocks,
)
from kmdist.job.endings import NoUsableImageError, StrictError, right_ending
from kmdist.job.probing import fingerprint, probe_all
from kmdist.job.progress import Event, Message, Watcher, quantity, watch_nothing
from kmdist.job.work import Work, work_of
from kmdist.store import RunWriter
from kmdist.store.claims.claims import check_output
from kmdist.store.targets.local import local_path


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
    """A run in progress: its inputs, its workers, where it writes and who watches."""

    options: JobOptions
    sources: list[ImageSource]
    work: list[Work]
    pool: Pool
    writer: RunWriter
    watch: Watcher
    rejected: dict[str, Rejection] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def pixels(self) -> int:
        """Pixels of all usable images."""
        return sum(work.pixels for work in self.work)

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


@contextmanager
def open_job(
    recipe: str,
    inputs: Sequence[str | Path | Found],
    output: str | Path,
    parameters: Mapping[str, Any],
    options: JobOptions,
    *,
    watch: Watcher = watch_nothing,
    command: Sequence[str] = (),
) -> Iterator[Job]:
    """Everything up to the first pass, and the right ending for whatever happens after.

    The run is published by the recipe (`Job.writer.publish`). If an error ends the block, the
    partial run is kept and its ``--resume`` command said, but removed after `StrictError`,
    `NoUsableImageError` and `UsageError`.

    Parameters
    ----------
    command : the command line, to say how to resume; see `RunWriter.create`.

    Raises
    ------
    UsageError : inputs or output are not as they must be.
    KmdistError : no image can be used.
    """
    with ExitStack() as stack:
        started_s = time.perf_counter()
        if not options.resume:  # before millions of files are probed; again when it is claimed
            check_output(local_path(output), overwrite=options.overwrite)
        found, lost = find_images(inputs)
        compute = options.compute
        remote = compute.client is not None or not profile_of(compute).local
        if remote:
            pool = stack.enter_context(open_pool(compute, work_mpx=0.0))
        else:
            pool = ThreadPool(compute.workers or _usable_cores(), memory_bytes=1)
        try:
            sources, unusable = probe_all(pool, found, options.max_pixels, watch)
        finally:
            if isinstance(pool, ThreadPool):
                pool.close()
        _require_usable(sources, [*lost, *unusable], options)
        blocks = plan_blocks(sources, block_mpx=options.block_mpx)
        work = work_of(blocks, sources)
        writer = RunWriter.create(
            output,
            recipe=recipe,
            parameters=dict(parameters),
            fingerprint=fingerprint(sources),
            images=[source.name for source in sources],
            resume=options.resume,
            overwrite=options.overwrite,
            command=command,
        )
        probed_s = time.perf_counter() - started_s
        with right_ending(writer, watch):
            if not remote:
                mpx = sum(block.pixels for block in work) / 1e6
                pool = stack.enter_context(open_pool(compute, work_mpx=mpx))
            job = Job(options, sources, work, pool, writer, watch)
            job.timings["probe"] = probed_s
            job.rejected.update((r.image, r) for r in [*lost, *unusable])
            _say_what_was_found(job)
            yield job


def _usable_cores() -> int:
    from kmdist.engine.cores import usable_cores

    return usable_cores()


def _require_usable(
    sources: Sequence[ImageSource], rejections: Sequence[Rejection], options: JobOptions
) -> None:
    if rejections and options.strict:
        raise StrictError(rejections[0])
    if not sources:
        listed = "\n".join(f"  {r.image}: {r.reason} [{r.code}]" for r in rejections[:20])
        more = f"\n  … and {len(rejections) - 20} more" if len(rejections) > 20 else ""
        raise NoUsableImageError(f"no image can be used:\n{listed}{more}", rejections)


def _say_what_was_found(job: Job) -> None:
    n_pages = sum(1 for source in job.sources if source.pages > 1)
    deep = sum(1 for source in job.sources if source.dtype != "uint8")
    job.watch(
        Message(
            f"{quantity(len(job.sources), 'image')}, {job.pixels / 1e6:,.1f} Mpx, "
            f"{quantity(len(job.work), 'block')}, {quantity(job.pool.threads, 'worker')}"
        )
    )
    if job.rejected:
        job.watch(Message(f"{quantity(len(job.rejected), 'file')} cannot be used", warning=True))
    if n_pages:
        extra = sum(source.pages - 1 for source in job.sources)
        job.watch(
            Message(
                f"more than one page or frame in {quantity(n_pages, 'file')}; the first is used, "
                f"{extra:,} left out",
                warning=True,
            )
        )
    if deep:
        job.watch(Message(f"not 8-bit: {quantity(deep, 'image')}"))


def publish(job: Job, results: Mapping[int, Mapping[str, Any]]) -> None:
    """Complete the run: its attributes, those of each k where there are several, the rename."""
    rejected = [
        {"image": r.image, "code": r.code, "reason": r.reason}
        for r in sorted(job.rejected.values(), key=lambda r: r.image)
    ]
    common = {
        "seed": job.options.seed,
        "rejected": rejected,
        "timings": {stage: round(seconds, 3) for stage, seconds in job.timings.items()},
        "pixels": job.pixels,
    }
    if len(results) == 1:
        (single,) = results.values()
        job.writer.publish({**common, **single})
    else:
        job.writer.publish(common, runs=results)
