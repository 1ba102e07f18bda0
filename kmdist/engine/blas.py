"""Matrix products on one thread, whatever number the BLAS library would use by itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Keeper:
    """A thread that holds the limit for as long as anyone needs it.

    threadpoolctl lets one thread at a time set the limits of OpenBLAS and silently ignores the
    others (3.8), so that tasks on several threads cannot each set and restore them.
    """

    def __init__(self) -> None:
        self._holds, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, name="kmdist-blas", daemon=True)
        self._thread.start()
        self._holds.wait()

    def _hold(self) -> None:
        from threadpoolctl import threadpool_limits

        try:
            with threadpool_limits(limits=1, user_api="blas"):
                self._holds.set()
                self._leave.wait()
        finally:
            self._holds.set()

    def release(self) -> None:
        """Restore what was set before."""
        self._leave.set()
        self._thread.join()


_lock = threading.Lock()
_users = 0
_keeper: _Keeper | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within, BLAS uses one thread; what was set before holds again when the last user leaves.

    The order in which a product is summed depends on the number of threads, and a task has one
    core. Tasks on threads of one process overlap, hence the count of users.
    """
    global _users, _keeper
    import scipy.linalg.blas  # noqa: F401 (limits apply to libraries that are loaded)

    with _lock:
        _users += 1
        if _users == 1:
            _keeper = _Keeper()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _keeper is not None:
                _keeper.release()
                _keeper = None
