"""How many threads work may use."""

import os


def usable_cores() -> int:
    """Cores this process may use, by affinity and cgroup."""
    from dask.system import cpu_count

    return max(1, int(cpu_count() or os.cpu_count() or 1))
