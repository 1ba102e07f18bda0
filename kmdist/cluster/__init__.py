"""Where jobs run: from `cluster.yaml`, a scheduler's address or nothing to a pool of workers.

==================  ============================================================================
`Compute`           what a job's options say of where it runs
`open_pool`         workers for a job, released at the end
`profiles`          the cluster file
`connection`        from a profile to a connected client: starting, joining, waiting, refusing
`check`             what `kmdist cluster check` finds
==================  ============================================================================
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
