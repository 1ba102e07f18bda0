"""Pools of workers for jobs: threads, processes, or a cluster's workers."""

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from typing import Any

from kmdist.cluster.connection import connect
from kmdist.cluster.profiles import Compute, Profile, profile_of
from kmdist.engine.dask_pool import DaskPool, active_client
from kmdist.engine.passes import Pool, ThreadPool, memory_limit_bytes, usable_cores

PROCESS_MPX = 400.0
"""Work above this many megapixels starts one process per core; below, threads do (start-up of
two workers costs about 2 s, what decoding and labelling 400 Mpx costs on two cores is 3.5 s)."""

FEW_CORES = 4
PROCESS_MPX_FEW_CORES = 16_000.0
"""The same up to `FEW_CORES` workers. Tasks hold the interpreter for a tenth of their time, so that
few threads do not wait for each other, and share tables that processes have one each of: 20,000
VGA images (6,144 Mpx) took two threads 76 s and two processes 88 s. Above it a crash of a decoder,
which takes threads with it, would cost hours."""

_NOISY = ("distributed", "tornado")

_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": 1 << 25,
    "MALLOC_TRIM_THRESHOLD_": 1 << 27,
    "OMP_NUM_THREADS": 1,
    "MKL_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 1,
}
"""Of worker processes. Dask's own trims every 64 kB that is freed, so that each small image
faults its pages in anew: twice the time of threads for many VGA images."""

CALM = {
    "admin.system-monitor.interval": "5s",
    "admin.tick.interval": "1s",
    "worker.memory.monitor-interval": "500ms",
    "worker.profile.enabled": False,
}
"""Of local clusters, where nobody looks at a dashboard: by default the event loops of a scheduler
and two workers wake 200 times a second to watch themselves, which is 8 % of two cores."""

PROCESSES_SHARE = 0.9
"""Of the memory of this machine, which worker processes are limited to together."""

LOCAL_MEMORY_SHARE = 0.85
"""Of local workers' memory limits; the rest is for what allocators do not give back."""


DEATHS = 3
"""Local workers that a block may kill before it is set aside; Dask's own is one more."""


LOCAL_PATIENCE_S = 60.0
"""Seconds that there may be no worker on this machine before a job gives up."""


def client_of(compute: Compute) -> Any:
    """The connected client to run on: the given one or, where nothing is, Dask's active one.

    A client is active from when a user makes it until it is closed.
    """
    asked = compute.remote or compute.workers is not None or compute.worker_kind != "auto"
    return compute.client if asked else active_client()


@contextmanager
def open_pool(compute: Compute, *, work_mpx: float) -> Iterator[Pool]:
    """Workers for a job of the given size, released at the end.

    Parameters
    ----------
    compute : where to run.
    work_mpx : size of the work in megapixels; decides between threads and processes.

    Raises
    ------
    UsageError : the cluster file or the options are not as they must be.
    KmdistError : no scheduler answers, or too few workers come in time.
    """
    client = client_of(compute)
    if client is not None:
        yield DaskPool(client, top_up=_reviver_of(client))
        return
    profile = profile_of(compute)
    if profile.local:
        with _local_pool(profile, compute, work_mpx) as pool:
            yield pool
    else:
        with (
            _quiet_dask(),
            connect(profile, trust=compute.trust, insecure=compute.insecure) as client,
        ):
            yield DaskPool(client, patience_s=max(profile.timeout, LOCAL_PATIENCE_S))


def local_workers(profile: Profile, compute: Compute, work_mpx: float) -> tuple[int, str]:
    """Number and kind (``thread`` or ``process``) of workers on this machine."""
    wanted = usable_cores() if profile.workers == "auto" else int(profile.workers)
    n_workers = compute.workers or wanted
    kind = compute.worker_kind if compute.worker_kind != "auto" else profile.worker_kind
    if kind == "auto":
        most_mpx = PROCESS_MPX_FEW_CORES if n_workers <= FEW_CORES else PROCESS_MPX
        kind = "process" if work_mpx > most_mpx and n_workers > 1 else "thread"
    return n_workers, kind


@contextmanager
def _local_pool(profile: Profile, compute: Compute, work_mpx: float) -> Iterator[Pool]:
    n_workers, kind = local_workers(profile, compute, work_mpx)
    if kind == "thread":
        pool = ThreadPool(n_workers)
        try:
            yield pool
        finally:
            pool.close()
        return
    import dask
    from distributed import Client, LocalCluster

    # Jobs project their memory and keep within it; spilling what fits would only cost time.
    memory = {"target": False, "spill": False, "pause": 0.92, "terminate": 0.97}
    settings = {
        **CALM,
        **{f"worker.memory.{key}": value for key, value in memory.items()},
        "nanny.pre-spawn-environ": _ENVIRONMENT,
        "scheduler.allowed-failures": DEATHS - 1,
    }
    with ExitStack() as stack:
        stack.enter_context(
            dask.config.set({f"distributed.{key}": value for key, value in settings.items()})
        )
        stack.enter_context(_quiet_dask())
        with _interrupts_held():
            cluster = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # None would take port 8787 all the same
                memory_limit=int(PROCESSES_SHARE * memory_limit_bytes() / n_workers),
                silence_logs=logging.CRITICAL,
            )
            stack.enter_context(cluster)
        # Not the default client: losing its scheduler would leave Dask pointing at it.
        client = stack.enter_context(Client(cluster, set_as_default=False))
        yield DaskPool(
            client,
            memory_share=LOCAL_MEMORY_SHARE,
            patience_s=LOCAL_PATIENCE_S,
            top_up=_Reviver(cluster, n_workers),
        )


class _Reviver:
    """Replaces workers of a local cluster that their nannies have given up.

    Dask does not start a worker again that dies before its nanny has seen it start, as one does
    that is given a block at once which kills it.
    """

    def __init__(self, cluster: Any, n_workers: int) -> None:
        self._cluster, self._n_workers = cluster, n_workers
        self._suspects: set[Any] = set()

    def __call__(self) -> None:
        """Replace those that were dead at the last call too; a restart takes a moment."""
        workers = self._cluster.workers
        dead = {name for name, nanny in list(workers.items()) if _is_dead(nanny)}
        for name in dead & self._suspects:
            nanny = workers.pop(name, None)
            if nanny is not None:
                self._cluster.loop.add_callback(nanny.close)
        self._suspects = dead - self._suspects
        if len(workers) < self._n_workers:
            self._cluster.scale(self._n_workers)


def _reviver_of(client: Any) -> _Reviver | None:
    """What keeps up the workers of the caller's cluster, where it runs in this process."""
    from distributed import LocalCluster, Nanny

    cluster = client.cluster
    if not isinstance(cluster, LocalCluster):
        return None
    nannies = all(isinstance(worker, Nanny) for worker in cluster.workers.values())
    return _Reviver(cluster, len(cluster.workers)) if nannies else None


def _is_dead(nanny: Any) -> bool:
    """Whether a nanny, or the worker that it had, has ended; one that begins has none yet."""
    over = ("closed", "failed", "stopped")
    process = nanny.process
    return nanny.status.name in over or (process is not None and process.status.name in over)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back; processes started meanwhile, and those that replace them, never get it.

    A terminal sends it to worker processes too, which would die of it with a traceback each
    while this process is about to end them in order. They inherit the mask of the thread that
    Dask starts here.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # multiprocessing's own process, which unblocks the signal in the thread that first needs it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _quiet_dask() -> Iterator[None]:
    """Dask's own log lines about workers and schedulers that go are not the user's concern.

    What matters of them is said again, plainly, by the errors of `kmdist.engine.passes`.
    """
    import distributed  # noqa: F401  its loggers get levels of their own when it is imported

    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _NOISY]
    levels = {name: logging.getLogger(name).level for name in {*names, "distributed"}}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
