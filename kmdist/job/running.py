"""What every job goes through: open the inputs, claim the output, pass by pass, publish.

Or its plan, before anything runs: only headers are read, nothing is started, nothing written.

Client-side cost: one probe an image (batches of `PROBE_BATCH` to a task), one task a block and
pass, and what `kmdist.engine.passes` adds for merging.
"""

import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kmdist.cluster import Compute, client_of, connect, local_workers, open_pool, profile_of
from kmdist.cluster.workers import LOCAL_MEMORY_SHARE, PROCESSES_SHARE
from kmdist.engine.dask_pool import DaskPool
from kmdist.engine.passes import Slots, ThreadPool, memory_limit_bytes, usable_cores
from kmdist.errors import UsageError, quantity
from kmdist.images import Rejection
from kmdist.job.job import (
    Deadline,
    Job,
    NoUsableImageError,
    StrictError,
    right_ending,
    temporary_output,
)
from kmdist.job.memory import Budget, Outline, choose_outline
from kmdist.job.options import JobOptions
from kmdist.job.progress import Message, Watcher, watch_nothing
from kmdist.job.recipe import Procedure, Results, W, Workload
from kmdist.store import Run, RunWriter, open_run, run_location
from kmdist.store.claims.claims import check_output
from kmdist.store.targets import local_path
from kmdist.urls import is_url

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp")
"""Of an output that is meant to be a picture."""


def run_job(
    procedure: Procedure[W],
    output: str | Path | None,
    options: JobOptions,
    *,
    watch: Watcher = watch_nothing,
    command: Sequence[str] = (),
    deadline: Deadline | None = None,
) -> Run:
    """Run a procedure, or go on with it, and open what it has published.

    Parameters
    ----------
    output : the run to write; None: a temporary one, removed when this process ends.
    command : the command line, to say how to resume; see `RunWriter.create`.
    deadline : when the job is to stop, to be gone on with later.

    Raises
    ------
    UsageError : inputs or output are not as they must be.
    KmdistError : no image can be used, or the job cannot be done; what is finished is kept.
    OutOfTimeError : the deadline has come.
    """
    target = run_location(output) if output is not None else temporary_output()
    if PurePosixPath(target).suffix.lower() in PICTURE_SUFFIXES:
        raise UsageError(
            f"output {target}: is named as a picture, and a run is a folder; name it as run.zarr, "
            "and have pictures made of it: kmdist view, kmdist export"
        )
    with _opened(procedure, target, options, watch, command, deadline) as (job, workload):
        if job.writer.already_complete:
            watch(Message(f"{target} is complete already"))
        else:
            _require_memory(job, procedure, workload)
            publish(job, workload, procedure.run(job, workload))
    return open_run(target)


@contextmanager
def _opened(
    procedure: Procedure[W],
    output: str | Path,
    options: JobOptions,
    watch: Watcher,
    command: Sequence[str],
    deadline: Deadline | None,
) -> Iterator[tuple[Job, W]]:
    """Everything up to the first pass, and the right ending for whatever happens after.

    If an error ends the block, the partial run is kept and its ``--resume`` command said, but
    removed after errors that a resume would meet again; see `right_ending`.
    """
    with ExitStack() as stack:
        started_s = time.perf_counter()
        if not options.resume:  # before millions of files are probed; again when it is claimed
            check_output(local_path(output), overwrite=options.overwrite)
        if client_of(options) is not None or not profile_of(options).local:
            pool = stack.enter_context(open_pool(options, work_mpx=0.0))
            workload = procedure.open(options, pool, watch)
        else:  # how many workers, and of which kind, depends on what is found
            pool = None
            n_threads = options.workers or usable_cores()
            with closing(ThreadPool(n_threads, memory_bytes=1)) as probing:
                workload = procedure.open(options, probing, watch)
        _require_usable(workload.n_images, workload.rejected, options)
        writer = RunWriter.create(
            output,
            recipe=procedure.recipe,
            parameters=dict(procedure.parameters(workload, options)),
            fingerprint=workload.fingerprint,
            images=workload.names,
            resume=options.resume,
            overwrite=options.overwrite,
            command=command,
        )
        probed_s = time.perf_counter() - started_s
        # What the tasks write lies within what the ending keeps or removes: they end before it.
        with right_ending(writer, watch), stack.pop_all() as opened:
            pool = pool or opened.enter_context(open_pool(options, work_mpx=workload.work_mpx))
            job = Job(options, pool, writer, watch, deadline)
            job.timings["probe"] = probed_s
            job.rejected.update((r.image, r) for r in workload.rejected)
            workers, blocks = quantity(pool.threads, "worker"), len(workload.blocks)
            watch(Message(f"{workload.described}, {quantity(blocks, 'block')}, {workers}"))
            if job.rejected:
                text = f"{quantity(len(job.rejected), 'file')} cannot be used"
                watch(Message(text, warning=True))
            for note in workload.notes:
                watch(note)
            yield job, workload


def _require_memory(job: Job, procedure: Procedure[W], workload: W) -> None:
    """Say what memory the job needs, and refuse it where there is less."""

    def outline_of(keep: bool) -> Outline:
        return procedure.outline(workload, job.options, keep=keep)

    _, memory = choose_outline(outline_of, job.pool, job.options.keep_pixels)
    job.watch(Message(str(memory)))
    job.watch(Message(memory.explained, detail=True))
    memory.require()
    job.keep, job.memory_bytes = bool(memory.keep), memory.total_bytes


def _require_usable(n_images: int, rejections: Sequence[Rejection], options: JobOptions) -> None:
    if rejections and options.strict:
        raise StrictError(rejections[0])
    if not n_images:
        listed = "\n".join(f"  {r.image}: {r.reason} [{r.code}]" for r in rejections[:20])
        more = f"\n  … and {len(rejections) - 20} more" if len(rejections) > 20 else ""
        raise NoUsableImageError(f"no image can be used:\n{listed}{more}", rejections)


def publish(job: Job, workload: Workload, results: Results) -> None:
    """Complete the run: its attributes, those of each k where there are several, the rename."""
    rejected = sorted(job.rejected.values(), key=lambda r: r.image)
    common = {
        "seed": job.options.seed,
        "rejected": [{"image": r.image, "code": r.code, "reason": r.reason} for r in rejected],
        "timings": {stage: round(seconds, 3) for stage, seconds in job.timings.items()},
        "host": {
            "name": platform.node(),
            "workers": job.pool.threads,
            "memory_bytes": job.memory_bytes,
        },
        **workload.record,
        **results.common,
    }
    if len(results.by_k) == 1:
        (single,) = results.by_k.values()
        job.writer.publish({**common, **single})
    else:
        job.writer.publish(common, runs=results.by_k)


@dataclass(frozen=True)
class Plan:
    """What a job would do.

    Parameters
    ----------
    images, megapixels, blocks : of usable images.
    rejected : files whose headers show that they cannot be used.
    workers, worker_kind : task slots, and ``thread``, ``process`` or ``cluster``.
    passes : over the pixels, each decoding every image once unless pixels are kept.
    tasks : submitted over all passes, merging included.
    memory : the budget.
    disk_bytes : results before compression; what they take at most.
    checkpoint_bytes : beside them while the job runs, for photographs.
    free_bytes : on the output's file system; None of an object store.
    """

    recipe: str
    output: str
    images: int
    megapixels: float
    blocks: int
    rejected: tuple[Rejection, ...]
    workers: int
    worker_kind: str
    passes: int
    tasks: int
    memory: Budget
    disk_bytes: int
    checkpoint_bytes: int
    free_bytes: int | None

    def lines(self) -> list[str]:
        """The plan as text, a line a fact."""
        free = "" if self.free_bytes is None else f"; {self.free_bytes / 1e9:.1f} GB are free"
        return [
            f"recipe   {self.recipe} -> {self.output}",
            f"images   {self.images:,} ({self.megapixels:,.1f} Mpx), "
            f"{quantity(len(self.rejected), 'file')} cannot be used",
            f"blocks   {self.blocks:,} on {quantity(self.workers, f'{self.worker_kind} worker')}",
            f"passes   {self.passes} over the pixels, {quantity(self.tasks, 'task')}",
            str(self.memory),
            f"disk     at most {self.disk_bytes / 1e9:.3f} GB of results and about "
            f"{self.checkpoint_bytes / 1e9:.3f} GB of checkpoints while it runs{free}",
        ]


@dataclass(frozen=True)
class PlannedSlots:
    """Stands for workers that are not started: their number and memory."""

    threads: int
    memory_bytes: int
    processes: int


def plan_job(procedure: Procedure[W], output: str | Path, options: JobOptions) -> Plan:
    """Plan a job.

    Raises
    ------
    UsageError, KmdistError : inputs or options are not as they must be, or a scheduler that is
        to be joined does not answer.
    """
    with closing(ThreadPool(4, memory_bytes=1)) as probing:
        workload = procedure.open(options, probing, watch_nothing)
    slots, kind = planned_slots(options, workload.work_mpx)

    def outline_of(keep: bool) -> Outline:
        usable = bool(workload.blocks)
        return procedure.outline(workload, options, keep=keep) if usable else Outline()

    outline, memory = choose_outline(outline_of, slots, options.keep_pixels)
    return Plan(
        procedure.recipe,
        str(output),
        workload.n_images,
        workload.megapixels,
        len(workload.blocks),
        tuple(workload.rejected),
        slots.threads,
        kind,
        outline.passes(sum(one.pixels for one in workload.blocks) or 1),
        outline.tasks,
        memory,
        outline.result_bytes,
        outline.checkpoint_bytes,
        None if is_url(output) else free_bytes(Path(output)),
    )


def planned_slots(compute: Compute, work_mpx: float) -> tuple[Slots, str]:
    """Workers the job would get. A scheduler that runs is asked; none is started."""
    client = client_of(compute)
    if client is not None:
        return DaskPool(client), "cluster"
    profile = profile_of(compute)
    if profile.local:
        n_workers, kind = local_workers(profile, compute, work_mpx)
        if kind == "thread":
            return ThreadPool(n_workers), kind  # which starts none before a task comes
        memory = int(PROCESSES_SHARE * LOCAL_MEMORY_SHARE * memory_limit_bytes())
        return PlannedSlots(n_workers, memory, n_workers + 1), kind
    if profile.address:
        with connect(profile, trust=compute.trust, insecure=compute.insecure) as client:
            pool = DaskPool(client)
            return PlannedSlots(pool.threads, pool.memory_bytes, pool.processes), "cluster"
    n_workers = profile.scale if isinstance(profile.scale, int) else profile.min_workers
    n_workers = max(n_workers, 1)
    return PlannedSlots(n_workers, n_workers * 4 * 10**9, n_workers + 1), f"{profile.class_name}"


def free_bytes(output: Path) -> int:
    """Free space on the file system that an output will lie on."""
    folder = output.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
