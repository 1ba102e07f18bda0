"""What a job would do, before anything runs: images, blocks, passes, memory, disk.

Only headers are read. Nothing is started and nothing is written.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from kmdist.cluster import Compute, connect, local_workers, profile_of
from kmdist.engine.passes import DaskPool, Pool, ThreadPool, memory_limit_bytes
from kmdist.images import Rejection, find_images, plan_blocks
from kmdist.job.job import Job, JobOptions
from kmdist.job.memory import Projection
from kmdist.job.outline import Outline, n_fits
from kmdist.job.probing import probe_all
from kmdist.job.progress import quantity, watch_nothing
from kmdist.job.work import work_of

PYRAMID = 4 / 3
"""Pixels of a label map with its pyramid, per pixel of the image."""
METADATA_BYTES = 20_000
"""Of one image in a run: groups, arrays, partly filled disk blocks."""


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
    memory : projection, or None for a recipe that has none.
    disk_bytes : results before compression; what they take at most.
    checkpoint_bytes : beside them while the job runs, for photographs.
    free_bytes : on the output's file system.
    """

    recipe: str
    output: str
    images: int
    megapixels: float
    blocks: int
    rejected: tuple[Rejection, ...]
    workers: int
    worker_kind: str
    passes: int | None
    tasks: int | None
    memory: Projection | None
    disk_bytes: int
    checkpoint_bytes: int
    free_bytes: int

    def lines(self) -> list[str]:
        """The plan as text, a line a fact."""
        lines = [
            f"recipe   {self.recipe} -> {self.output}",
            f"images   {self.images:,} ({self.megapixels:,.1f} Mpx), "
            f"{quantity(len(self.rejected), 'file')} cannot be used",
            f"blocks   {self.blocks:,} on {quantity(self.workers, f'{self.worker_kind} worker')}",
        ]
        if self.passes is not None:
            lines.append(
                f"passes   {self.passes} over the pixels, {quantity(self.tasks or 0, 'task')}"
            )
        if self.memory is not None:
            may_use = f"may use {self.memory.limit_bytes / 1e9:.2f} GB"
            lines.append(f"{self.memory}; {may_use}{self.memory.kept}")
        lines.append(
            f"disk     at most {self.disk_bytes / 1e9:.3f} GB of results and about "
            f"{self.checkpoint_bytes / 1e9:.3f} GB of checkpoints while it runs; "
            f"{self.free_bytes / 1e9:.1f} GB are free"
        )
        return lines


class _Slots:
    """Stands for workers that are not started: their number and memory."""

    def __init__(self, threads: int, memory_bytes: int, processes: int) -> None:
        self.threads, self.memory_bytes, self.processes = threads, memory_bytes, processes


def plan_job(
    recipe: str,
    options: Mapping[str, Any],
    outline_of: Callable[[Mapping[str, Any], Job], Outline],
) -> Plan:
    """Plan a job.

    Parameters
    ----------
    options : of the recipe's command, by the names of its function's parameters.
    outline_of : the recipe's own part, from its options and the job's blocks.

    Raises
    ------
    UsageError, KmdistError : inputs or options are not as they must be, or a scheduler that is
        to be joined does not answer.
    """
    compute = compute_of(options)
    job_options = JobOptions(
        compute,
        block_mpx=options["block_mpx"],
        keep_pixels=options["keep_pixels"],
        max_pixels=options["max_pixels"],
    )
    found, lost = find_images(list(options["inputs"]))
    probing = ThreadPool(4, memory_bytes=1)
    try:
        sources, unusable = probe_all(probing, found, job_options.max_pixels, watch_nothing)
    finally:
        probing.close()
    work = work_of(plan_blocks(sources, block_mpx=job_options.block_mpx), sources)
    slots, kind = planned_slots(compute, sum(one.pixels for one in work) / 1e6)
    # Nothing is written, so that there is no writer.
    job = Job(job_options, sources, work, cast(Pool, slots), cast(Any, None), watch_nothing)
    outline = outline_of(options, job) if work else Outline()
    labels = n_fits(options) * (PYRAMID * job.pixels + METADATA_BYTES * len(sources))
    return Plan(
        recipe,
        str(options["output"]),
        len(sources),
        job.pixels / 1e6,
        len(work),
        (*lost, *unusable),
        slots.threads,
        kind,
        outline.passes,
        outline.tasks,
        outline.memory,
        int(labels) + outline.further_bytes,
        outline.checkpoint_bytes,
        free_bytes(Path(str(options["output"]))),
    )


def compute_of(options: Mapping[str, Any]) -> Compute:
    """Where the tasks of a command run."""
    return Compute(
        options.get("workers"),
        options.get("worker_kind", "auto"),
        options.get("cluster"),
        options.get("scheduler"),
        None,
        tuple(options.get("trust", ())),
        bool(options.get("insecure", False)),
    )


def planned_slots(compute: Compute, work_mpx: float) -> tuple[_Slots, str]:
    """Workers the job would get. A scheduler that runs is asked; none is started."""
    profile = profile_of(compute)
    if profile.local:
        threads, kind = local_workers(profile, compute, work_mpx)
        memory = int((0.8 if kind == "thread" else 0.9 * 0.85) * memory_limit_bytes())
        return _Slots(threads, memory, 1 if kind == "thread" else threads + 1), kind
    if profile.address:
        with connect(profile, trust=compute.trust, insecure=compute.insecure) as client:
            pool = DaskPool(client)
            return _Slots(pool.threads, pool.memory_bytes, pool.processes), "cluster"
    n_workers = profile.scale if isinstance(profile.scale, int) else profile.min_workers
    n_workers = max(n_workers, 1)
    return _Slots(n_workers, n_workers * 4 * 10**9, n_workers + 1), f"{profile.class_name}"


def free_bytes(output: Path) -> int:
    """Free space on the file system that an output will lie on."""
    folder = output.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
