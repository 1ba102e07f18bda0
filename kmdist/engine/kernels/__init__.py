"""Per-block mathematics in numba. Import the module that is needed: each compiles on first use."""

import kmdist.kernel_cache  # noqa: F401  before kernels are decorated
