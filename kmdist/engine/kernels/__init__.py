"""Per-block mathematics in numba. Import the module that is needed: each compiles on first use.

With ``NUMBA_BOUNDSCHECK=1`` and ``KMDIST_PLAIN_KERNELS=1`` in the environment, and a
``NUMBA_CACHE_DIR`` of its own, every index of every kernel is checked; kernels that compute
addresses check their arguments always. A slow test runs the tests of the engine so.
"""

import kmdist.kernel_cache  # noqa: F401  before kernels are decorated
