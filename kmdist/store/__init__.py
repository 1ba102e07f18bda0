"""One run = one Zarr v3 group: write it from many workers, publish it, resume it, read it.

==================  ============================================================================
`RunWriter`         claim an output, checkpoint, publish; `contents`: write labels and arrays
`open_run`          read a published run; `run_arrays`: arrays of a fit, images of a run
`format`            `names` of nodes; `layout`: metadata, chunks and shards of arrays; `labels`:
                    maps with pyramids; `contents`: all that workers write, and the root
`targets`           where objects go: a folder, or a prefix in an object store
`zarr_trees`        trees that somebody else wrote, read so that nothing in them does harm
`claims`            who may write, and the rename that makes a run visible; `url_claims`: the same
                    in an object store; `durability`: what survives a power cut
==================  ============================================================================
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
