"""What a job would do, before anything runs: images, blocks, passes, memory, disk.

Only headers are read. Nothing is started and nothing is written.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from kmdist.cluster import Compute, client_of, connect, local_workers, profile_of
from kmdist.engine.dask_pool import DaskPool
from kmdist.engine.passes import ThreadPool, memory_limit_bytes
from kmdist.errors import quantity
from kmdist.images import Rejection
from kmdist.job.memory import Budget, Outline, choose_outline
from kmdist.job.options import JobOptions
from kmdist.job.progress import watch_nothing
from kmdist.job.recipe import Procedure, W
from kmdist.urls import is_url


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
    probing = ThreadPool(4, memory_bytes=1)
    try:
        workload = procedure.open(options, probing, watch_nothing)
    finally:
        probing.close()
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


def planned_slots(compute: Compute, work_mpx: float) -> tuple[PlannedSlots, str]:
    """Workers the job would get. A scheduler that runs is asked; none is started."""
    client = client_of(compute)
    if client is not None:
        pool = DaskPool(client)
        return PlannedSlots(pool.threads, pool.memory_bytes, pool.processes), "cluster"
    profile = profile_of(compute)
    if profile.local:
        threads, kind = local_workers(profile, compute, work_mpx)
        memory = int((0.8 if kind == "thread" else 0.9 * 0.85) * memory_limit_bytes())
        return PlannedSlots(threads, memory, 1 if kind == "thread" else threads + 1), kind
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
