"""Run a command and measure it: wall time, CPU time, and peak memory of the whole process tree."""

import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Parameters
    ----------
    wall_s, cpu_s : seconds; CPU of the command and all its descendants that were waited for.
    peak_bytes : highest memory of the tree, sampled ten times a second; see `tree_memory_bytes`.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    stdout: str
    stderr: str
    returncode: int


def tree_memory_bytes(pid: int) -> int:
    """Memory of a process and all its descendants, from Linux's ``smaps_rollup``.

    What each has of its own, and of the pages of files, which they share, those of the process that
    has the most: whatever else maps the same libraries on this machine does not count.
    """
    own = files = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except (OSError, ProcessLookupError):
            continue
        sizes = {name: 1024 * int(size) for name, size in _SIZE.findall(text)}
        anonymous = sizes["Pss_Anon"] + sizes["Pss_Shmem"]
        own, files = own + anonymous, max(files, sizes["Rss"] - sizes["Anonymous"])
    return own + files


_SIZE = re.compile(r"^(\w+): +(\d+) kB$", re.MULTILINE)


def measure(
    command: list[str], *, cwd: str | None = None, env: dict[str, str] | None = None
) -> Measured:
    """Run `command` to its end and measure its process tree."""
    before = psutil.Process().cpu_times()
    started_s = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peak_bytes = 0
    finished = threading.Event()

    def sample() -> None:
        nonlocal peak_bytes
        while not finished.wait(0.1):
            peak_bytes = max(peak_bytes, tree_memory_bytes(process.pid))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    stdout, stderr = process.communicate()
    wall_s = time.perf_counter() - started_s
    finished.set()
    sampler.join()
    after = psutil.Process().cpu_times()
    cpu_s = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return Measured(wall_s, cpu_s, peak_bytes, stdout, stderr, process.returncode)
