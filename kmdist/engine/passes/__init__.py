"""Passes over data in blocks, on threads of this process or on a Dask cluster.

`pools` is where tasks run; `run` is one function on every item, merged in a fixed tree.
"""

from kmdist.engine.passes.dask_pool import DaskPool, active_client
from kmdist.engine.passes.pools import Holders, LostBlockError, Pool, ThreadPool, memory_limit_bytes
from kmdist.engine.passes.run import (
    FAN_IN,
    SUSPICIOUS,
    fetched,
    in_flight,
    run_pass,
    tree_shape,
)

__all__ = [
    "FAN_IN",
    "SUSPICIOUS",
    "DaskPool",
    "Holders",
    "LostBlockError",
    "Pool",
    "ThreadPool",
    "active_client",
    "fetched",
    "in_flight",
    "memory_limit_bytes",
    "run_pass",
    "tree_shape",
]
