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

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
