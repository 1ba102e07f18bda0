"""Numba mathematics of colours: counting, trees, seeds, label tables."""

import kmdist.kernel_cache  # noqa: F401  before kernels are decorated
