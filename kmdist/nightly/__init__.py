"""Every night over folders that grow: only what is new or changed is labelled.

==================  ============================================================================
`Settings`          what a nightly job is asked for
`run_night`         one night, from taking the lock to writing its JSON
`status`, `find`    what is done, waiting, quarantined; which run holds a file's labels
`verify`            read all results again and hold them against the ledger
`repair`            make anew what `verify` finds damaged, rebuild the ledger from the runs
`retry`             take files out of quarantine
`watch_nights`      label what comes as it comes, until it is stopped
`night`             one night, step by step; what became of each file
`ledger`            SQLite: what is known of every file, run and model; one night at a time
`scan`              what is there, compared with what is known
`models`            versions of the model: when a new one is due, and fitting it
`outcome`           what a night did, and its figures
==================  ============================================================================

::

    RESULTS/ledger.sqlite            what is known
    RESULTS/lock                     held (flock) by the night that runs, freed by its death
    RESULTS/models/0001.zarr …       versions of the model, never changed
    RESULTS/runs/STAMP.zarr          one ordinary run a night (UTC, seconds)
    RESULTS/nights/STAMP.json        what the night did
    RESULTS/damaged/STAMP/           what a repair moved aside
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
