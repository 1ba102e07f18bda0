"""One measurement in a fresh process on one core, so that time and memory are a peer's own."""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(frozen=True)
class Measured:
    """What one peer took and returned.

    `cpu_s` and `elapsed_s` are of the fastest repetition, by processor time; `peak_bytes` is
    the process' largest resident size, imports and input included, `input_bytes` what it was
    before the first repetition.
    """

    cpu_s: float
    elapsed_s: float
    peak_bytes: int
    input_bytes: int
    result: Any


def measure(function: str, arguments: dict[str, Any], repeats: int = 1) -> Measured:
    """Run ``module:function`` with JSON arguments in a fresh process pinned to one core.

    The function prepares its input and returns what to repeat; that returns a function of no
    argument that turns the outcome into JSON, outside the clock.
    """
    request = json.dumps([function, arguments, repeats])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.peers", request],
        env=os.environ | dict.fromkeys(_THREAD_LIMITS, "1"),
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _peak_bytes() -> int:
    """Largest resident size of this program; `getrusage` also counts that of its parent."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def _serve(function: str, arguments: dict[str, Any], repeats: int) -> Measured:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    module, name = function.split(":")
    run: Callable[[], Callable[[], Any]] = getattr(importlib.import_module(module), name)(
        **arguments
    )
    before, times = _peak_bytes(), []
    for _ in range(repeats):
        cpu, elapsed = time.process_time(), time.perf_counter()
        outcome = run()
        times.append((time.process_time() - cpu, time.perf_counter() - elapsed))
    peak = _peak_bytes()
    return Measured(*min(times), peak, before, outcome())


if __name__ == "__main__":
    print(json.dumps(vars(_serve(*json.loads(sys.argv[1])))))
