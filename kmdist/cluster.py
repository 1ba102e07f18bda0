"""From `cluster.yaml`, a scheduler's address or nothing at all to a pool of workers."""

import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kmdist.errors import KmdistError, UsageError
from kmdist.passes import DaskPool, Pool, ThreadPool, memory_limit_bytes

PROCESS_MPX = 400.0
"""Work above this many megapixels starts one process per core; below, threads do (start-up of
two workers costs about 2 s, what decoding and labelling 400 Mpx costs on two cores is 3.5 s)."""

LOCAL_MEMORY_SHARE = 0.85
"""Of local workers' memory limits; the rest is for what allocators do not give back."""

TRUSTED_MODULES = (
    "dask.distributed",
    "distributed",
    "dask_jobqueue",
    "dask_kubernetes",
)


@dataclass(frozen=True)
class Compute:
    """Where a job runs; the command line's options of the same names.

    Parameters
    ----------
    workers : number of local workers; None: usable cores.
    worker_kind : ``auto``, ``thread`` or ``process``.
    cluster : ``FILE[:PROFILE]`` of a cluster file, or None.
    scheduler : address of a running Dask scheduler, or None.
    client : a connected `distributed.Client` to use as it is, or None.
    trust : further modules whose classes a cluster file may name.
    """

    workers: int | None = None
    worker_kind: str = "auto"
    cluster: str | None = None
    scheduler: str | None = None
    client: Any = None
    trust: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.worker_kind not in ("auto", "thread", "process"):
            raise UsageError(f"--worker-kind {self.worker_kind!r}: must be auto, thread or process")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers}: must be 1 or more")
        if self.cluster and self.scheduler:
            raise UsageError("--cluster and --scheduler both say where to run: give one of them")


@dataclass(frozen=True)
class Profile:
    """One profile of a cluster file, as DESIGN's keys name it."""

    name: str
    file: str
    version: int = 1
    module: str | None = None
    class_name: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    address: str | None = None
    security: Mapping[str, Any] | None = None
    scale: int | Mapping[str, Any] | None = None
    adapt: Mapping[str, Any] | None = None
    min_workers: int = 1
    timeout: float = 60.0
    workers: int | str = "auto"
    worker_kind: str = "auto"


_KEYS = {f.name if f.name != "class_name" else "class" for f in fields(Profile)} - {"name", "file"}


def read_profile(spec: str) -> Profile:
    """Read one profile of a cluster file.

    Parameters
    ----------
    spec : ``FILE`` or ``FILE:PROFILE``; without a name, the file's ``default``.

    Raises
    ------
    UsageError : the file, the profile or a key is not there or not allowed.
    """
    import yaml
    from dask.config import expand_environment_variables

    path, name = _split_spec(spec)
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cluster file {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"cluster file {path}: not valid YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("profiles"), dict):
        raise UsageError(f"cluster file {path}: must have a mapping 'profiles' of named profiles")
    name = name or content.get("default", "local")
    profiles = content["profiles"]
    if name not in profiles:
        raise UsageError(
            f"cluster file {path}: no profile {name!r}; it has {', '.join(map(str, profiles))}"
        )
    keys = expand_environment_variables(profiles[name] or {})
    return _checked_profile(path, str(name), keys)


def _split_spec(spec: str) -> tuple[str, str | None]:
    if Path(spec).exists() or ":" not in spec:
        return spec, None
    path, _, name = spec.rpartition(":")
    return path, name


def _checked_profile(path: str, name: str, keys: Any) -> Profile:
    where = f"cluster file {path}, profile {name!r}"
    if not isinstance(keys, dict):
        raise UsageError(f"{where}: must be a mapping of keys, not {type(keys).__name__}")
    for key in keys:
        if key not in _KEYS:
            close = get_close_matches(str(key), _KEYS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"{where}: unknown key {key!r}{hint} Allowed: {sorted(_KEYS)}")
    if keys.get("address") and keys.get("module"):
        raise UsageError(f"{where}: 'address' joins a cluster and 'module' starts one: keep one")
    if bool(keys.get("module")) != bool(keys.get("class")):
        raise UsageError(f"{where}: 'module' and 'class' go together")
    renamed = {("class_name" if key == "class" else key): value for key, value in keys.items()}
    for key, kind in (("kwargs", dict), ("security", dict), ("adapt", dict), ("args", list)):
        if renamed.get(key) is not None and not isinstance(renamed[key], kind):
            raise UsageError(f"{where}: {key!r} must be a {kind.__name__}, got {renamed[key]!r}")
    return Profile(name=name, file=path, **renamed)


@contextmanager
def open_pool(compute: Compute, *, work_mpx: float) -> Iterator[Pool]:
    """Workers for a job of the given size, released at the end.

    Parameters
    ----------
    compute : where to run.
    work_mpx : size of the work in megapixels; decides between threads and processes.

    Raises
    ------
    KmdistError : no scheduler answers, or too few workers come in time.
    """
    if compute.client is not None:
        yield DaskPool(compute.client)
        return
    if compute.scheduler:
        profile = Profile("scheduler", "--scheduler", address=compute.scheduler, timeout=30)
    elif compute.cluster:
        profile = read_profile(compute.cluster)
    else:
        profile = Profile("local", "")
    if profile.address or profile.module:
        with _connected(profile, compute.trust) as client:
            yield DaskPool(client)
    else:
        with _local_pool(profile, compute, work_mpx) as pool:
            yield pool


@contextmanager
def _local_pool(profile: Profile, compute: Compute, work_mpx: float) -> Iterator[Pool]:
    from dask.system import CPU_COUNT

    n_workers = compute.workers or (CPU_COUNT if profile.workers == "auto" else profile.workers)
    kind = compute.worker_kind if compute.worker_kind != "auto" else profile.worker_kind
    if kind == "auto":
        kind = "process" if work_mpx > PROCESS_MPX and int(n_workers) > 1 else "thread"
    if kind == "thread":
        pool = ThreadPool(int(n_workers))
        try:
            yield pool
        finally:
            pool.close()
        return
    import dask
    from distributed import Client, LocalCluster

    share = int(0.9 * memory_limit_bytes() / int(n_workers))
    # Jobs project their memory and keep within it; spilling what fits would only cost time.
    memory = {"target": False, "spill": False, "pause": 0.92, "terminate": 0.97}
    with (
        dask.config.set({f"distributed.worker.memory.{k}": v for k, v in memory.items()}),
        _quiet_dask(),
        LocalCluster(
            n_workers=int(n_workers),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None would take port 8787 all the same
            memory_limit=share,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield DaskPool(client, memory_share=LOCAL_MEMORY_SHARE)


@contextmanager
def _quiet_dask() -> Iterator[None]:
    """Dask's own log lines about workers that come and go are not the user's concern."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _connected(profile: Profile, trust: tuple[str, ...]) -> Iterator[Any]:
    from distributed import Client, Security

    where = f"{profile.file}:{profile.name}" if profile.file != "--scheduler" else "--scheduler"
    security = Security(**profile.security) if profile.security else None
    cluster = None if profile.address else _start_cluster(profile, trust, security)
    try:
        try:
            client = Client(profile.address or cluster, timeout=profile.timeout, security=security)
        except (OSError, ValueError, TimeoutError) as error:
            raise KmdistError(
                f"{where}: no Dask scheduler answers at {profile.address}: {error}. "
                "Start one with `dask scheduler`, or correct the address."
            ) from error
        with client:
            _await_workers(client, profile, where)
            yield client
    finally:
        if cluster is not None:
            cluster.close()


def _await_workers(client: Any, profile: Profile, where: str) -> None:
    try:
        client.wait_for_workers(profile.min_workers, timeout=profile.timeout)
    except TimeoutError as error:
        have = len(client.scheduler_info(n_workers=-1)["workers"])
        raise KmdistError(
            f"{where}: {have} of {profile.min_workers} workers came in {profile.timeout:g} s. "
            "Start more (`dask worker ADDRESS`), or raise 'timeout' or lower 'min_workers'."
        ) from error


def _start_cluster(profile: Profile, trust: tuple[str, ...], security: Any) -> Any:
    where = f"cluster file {profile.file}, profile {profile.name!r}"
    module = str(profile.module)
    if not any(module == m or module.startswith(m + ".") for m in (*TRUSTED_MODULES, *trust)):
        raise UsageError(
            f"{where}: module {module!r} is not among those a cluster file may import "
            f"({', '.join(TRUSTED_MODULES)}); add it with --trust {module} if you trust it"
        )
    try:
        factory = getattr(importlib.import_module(module), str(profile.class_name))
    except ImportError as error:
        raise UsageError(
            f"{where}: cannot import {module} ({error}); install it: "
            f"pip install {module.split('.')[0].replace('_', '-')}"
        ) from error
    except AttributeError as error:
        raise UsageError(f"{where}: {module} has no class {profile.class_name!r}") from error
    kwargs = dict(profile.kwargs)
    if security is not None:
        kwargs["security"] = security
    cluster = factory(*profile.args, **kwargs)
    if profile.adapt is not None:
        cluster.adapt(**profile.adapt)
    elif isinstance(profile.scale, Mapping):
        cluster.scale(**profile.scale)
    elif profile.scale is not None:
        cluster.scale(profile.scale)
    return cluster


def usable_cores() -> int:
    """Cores this process may use, by affinity and cgroup."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT or os.cpu_count() or 1)
