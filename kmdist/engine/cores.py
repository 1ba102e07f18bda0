"""How many threads work may use."""

import os


def usable_cores() -> int:
    """Cores this process may use, by affinity and cgroup."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT or os.cpu_count() or 1)
