"""Passes over data in blocks, on threads of this process or on a Dask cluster.

`pools` is where tasks run; `run` is one function on every item, merged in a fixed tree.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
