"""One run = one Zarr v3 group: write it from many workers, publish it, resume it, read it.

==================  ============================================================================
`RunWriter`         claim an output, checkpoint, publish; `contents`: write labels and arrays
`open_run`          read a published run
`names`, `layout`   node names; metadata, chunks and shards of arrays
`labels`            label maps with pyramids; `contents`: all that workers write, and the root
`targets`           where objects go: a folder, or a prefix in an object store
`fits`              arrays of a fit, images of a run
`checkpoints`       states of the fit and manifests of finished blocks
`durability`        what survives a power cut
`claims`            who may write; `partial`: the folder of a run in the making, and its rename
`url_claims`        the same in an object store; `lease`: one writer at a time there
==================  ============================================================================
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "ArraySpec": "kmdist.store.format.layout",
    "LabelMap": "kmdist.store.format.labels",
    "LocalTarget": "kmdist.store.targets",
    "Run": "kmdist.store.reader",
    "RunImage": "kmdist.store.fits",
    "RunWriter": "kmdist.store.writer",
    "Target": "kmdist.store.targets",
    "image_key": "kmdist.store.format.names",
    "label_dtype": "kmdist.store.format.layout",
    "FsspecTarget": "kmdist.store.targets",
    "open_run": "kmdist.store.reader",
    "run_location": "kmdist.store.targets",
    "unclustered_value": "kmdist.store.format.layout",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kmdist.store' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
