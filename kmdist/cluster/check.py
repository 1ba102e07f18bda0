"""What `kmdist cluster check` finds: who answers, what each worker has, what it can see."""

import os
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from kmdist.cluster.connection import connect, worker_versions
from kmdist.cluster.profiles import Compute, profile_of
from kmdist.cluster.workers import local_workers
from kmdist.errors import quantity

PACKAGES = ("kmdist", "numpy", "numba", "zarr", "cv2")
"""Packages whose versions decide the bytes of a result, by import name."""

TASK_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Parameters
    ----------
    text : what was found, and what to do where it is not well.
    well : whether jobs can run with it.
    warning : jobs run, but bytes may differ between workers.
    """

    text: str
    well: bool = True
    warning: bool = False


@dataclass(frozen=True)
class Machine:
    """What a process runs on and what it sees.

    Parameters
    ----------
    features : CPU features that compiled kernels may use, sorted.
    seen : by path, size and modification time, or None where it cannot be read.
    """

    host: str
    cpu: str
    features: tuple[str, ...]
    seen: Mapping[str, tuple[int, int] | None]


def describe_machine(paths: Sequence[str] = ()) -> Machine:
    """Look at the process this runs in; a task."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    return Machine(
        platform.node(),
        str(llvm.get_host_cpu_name()),
        tuple(sorted(name for name, on in features.items() if on)),
        {path: _stat(path) for path in paths},
    )


def _stat(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
        if not os.access(path, os.R_OK):
            return None
    except OSError:
        return None
    return (0 if os.path.isdir(path) else status.st_size, status.st_mtime_ns)


def check_cluster(compute: Compute, paths: Sequence[str] = ()) -> list[Finding]:
    """Connect, run a task on each worker, and compare the workers with this process.

    Parameters
    ----------
    paths : inputs and outputs that every worker should see as this process does.

    Raises
    ------
    UsageError, KmdistError : as for `kmdist.cluster.connect`.
    """
    profile = profile_of(compute)
    here = [os.path.abspath(os.path.expanduser(path)) for path in paths]
    if profile.local and compute.client is None:
        n_workers, kind = local_workers(profile, compute, 0.0)
        machine = describe_machine(here)
        plural = "s" if n_workers > 1 else ""
        return [
            Finding(f"this machine: {n_workers} worker{plural} ({kind}s for small work)"),
            Finding(f"CPU: {machine.cpu}, {len(machine.features)} features"),
            *(
                Finding(f"{p}: {_sight(seen)}", seen is not None)
                for p, seen in machine.seen.items()
            ),
        ]
    if compute.client is not None:
        return _check_client(compute.client, here)
    started_s = time.monotonic()
    with connect(profile, trust=compute.trust, insecure=compute.insecure, check=False) as client:
        connected_s = time.monotonic() - started_s
        address = client.scheduler.address
        return [
            Finding(f"scheduler {address} answers ({connected_s:.1f} s)"),
            *_check_client(client, here),
        ]


def _check_client(client: Any, paths: Sequence[str]) -> list[Finding]:
    info = client.scheduler_info(n_workers=-1)["workers"]
    threads = sum(worker["nthreads"] for worker in info.values())
    memory_gb = sum(worker["memory_limit"] or 0 for worker in info.values()) / 1e9
    hosts = {worker["host"] for worker in info.values()}
    findings = [
        Finding(
            f"{quantity(len(info), 'worker')}, {quantity(threads, 'thread')}, {memory_gb:.1f} GB, "
            f"on {quantity(len(hosts), 'host')}",
            bool(info),
        )
    ]
    versions = worker_versions(client, PACKAGES)
    findings += _compare_versions(versions)
    able = [address for address, found in versions.items() if found.get("kmdist")]
    machines, failed = _ask(client, able, paths)
    findings += [Finding(f"worker {a}: ran no task: {why}", False) for a, why in failed.items()]
    if machines:
        findings.append(Finding(f"{len(machines)} of {len(info)} workers ran a task"))
        findings += _compare_machines(machines)
        findings += _compare_sight(machines, paths)
    return findings


def _compare_versions(workers: Mapping[str, Any]) -> list[Finding]:
    findings = []
    for package in ("python", *PACKAGES):
        mine = _version_here(package)
        theirs: dict[str, list[str]] = {}
        for address, found in workers.items():
            theirs.setdefault(str(found.get(package)), []).append(address)
        if set(theirs) <= {mine}:
            findings.append(Finding(f"{package} {mine} on all"))
            continue
        for version, addresses in sorted(theirs.items()):
            if version != mine:
                findings.append(_difference(package, mine, version, addresses))
    return findings


def _difference(package: str, mine: str, version: str, addresses: Sequence[str]) -> Finding:
    who = f"{quantity(len(addresses), 'worker')} (such as {addresses[0]})"
    if version == "None":
        name = "opencv-python-headless" if package == "cv2" else package
        return Finding(f"{who} lack {package}: `pip install {name}=={mine}` there", False)
    minor = package == "python" and version.rpartition(".")[0] == mine.rpartition(".")[0]
    fatal = package == "kmdist" or (package == "python" and not minor)
    remedy = "install the same" if fatal else "results may differ in bytes from runs elsewhere"
    return Finding(f"{package}: {mine} here, {version} on {who}; {remedy}", not fatal, not fatal)


def _version_here(package: str) -> str:
    if package == "python":
        return platform.python_version()
    return str(getattr(import_module(package), "__version__", None))


def _ask(
    client: Any, addresses: Sequence[str], paths: Sequence[str]
) -> tuple[dict[str, Machine], dict[str, str]]:
    """One task on each worker; what they say, and why others say nothing."""
    futures = {
        address: client.submit(describe_machine, list(paths), workers=[address], pure=False)
        for address in addresses
    }
    machines: dict[str, Machine] = {}
    failed: dict[str, str] = {}
    deadline_s = time.monotonic() + TASK_TIMEOUT_S
    for address, future in futures.items():
        try:
            machines[address] = future.result(timeout=max(0.1, deadline_s - time.monotonic()))
        except Exception as error:  # a worker may fail in any way; that is what is asked
            failed[address] = f"{type(error).__name__}: {error}".rstrip(": ")
    return machines, failed


def _compare_machines(machines: Mapping[str, Machine]) -> list[Finding]:
    mine = set(describe_machine().features)
    kinds = Counter((m.cpu, m.features) for m in machines.values())
    findings = []
    for (cpu, features), count in kinds.items():
        missing, more = sorted(mine - set(features)), sorted(set(features) - mine)
        if not missing and not more:
            findings.append(
                Finding(f"CPU {cpu}: {quantity(count, 'worker')}, the same features as here")
            )
            continue
        parts = [f"without {', '.join(missing)}"] if missing else []
        parts += [f"with {', '.join(more)} besides"] if more else []
        findings.append(
            Finding(
                f"CPU {cpu}: {quantity(count, 'worker')} {' and '.join(parts)}; bytes may differ "
                "between workers: use workers of one kind where runs must be repeatable",
                warning=True,
            )
        )
    return findings


def _compare_sight(machines: Mapping[str, Machine], paths: Sequence[str]) -> list[Finding]:
    findings = []
    for path in paths:
        mine = _stat(path)
        if mine is None:
            findings.append(Finding(f"{path}: {_sight(None)} here", False))
        blind = [a for a, m in machines.items() if m.seen[path] is None]
        other = [a for a, m in machines.items() if m.seen[path] not in (None, mine)]
        for addresses, what in (
            (blind, "cannot read it: mount it there under the same path"),
            (other, "see another file or folder under this path"),
        ):
            if addresses:
                findings.append(
                    Finding(
                        f"{path}: {len(addresses)} of {len(machines)} workers {what} "
                        f"(such as {addresses[0]})",
                        False,
                    )
                )
        if mine is not None and not blind and not other:
            findings.append(Finding(f"{path}: every worker sees what is seen here"))
    return findings


def _sight(seen: object) -> str:
    return "cannot be read" if seen is None else "can be read"
