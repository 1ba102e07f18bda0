"""Filter banks and their responses on one tile: NumPy and SciPy, no Dask, no files."""

from lazy_loader import attach_stub

import kmdist.kernel_cache  # noqa: F401  before kernels are decorated

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
