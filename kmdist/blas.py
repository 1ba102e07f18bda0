"""Matrix products on one thread, whatever number the BLAS library would use by itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_users = 0
_limits: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within, BLAS uses one thread; what was set before holds again when the last user leaves.

    The order in which a product is summed may depend on the number of threads, and a task has
    one core. Tasks on threads of one process overlap, hence the count of users.
    """
    global _users, _limits
    with _lock:
        _users += 1
        if _users == 1:
            from threadpoolctl import threadpool_limits

            _limits = threadpool_limits(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limits.restore_original_limits()
                _limits = None
