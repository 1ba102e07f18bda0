"""One night at a time: a lock that dies with the process that holds it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmdist.errors import KmdistError


class LockHeldError(KmdistError):
    """Another night is running on the same results: exit code 75 (sysexits.h, EX_TEMPFAIL)."""

    exit_code = 75


@contextmanager
def hold_lock(results: Path) -> Iterator[None]:
    """Hold the lock of a results folder.

    The kernel frees it when the process ends, however it ends; the file that stays means
    nothing. Workers are started afresh and do not inherit it.

    Raises
    ------
    LockHeldError : another process holds it.
    KmdistError : the folder cannot be written.
    """
    path = results / "lock"
    try:
        results.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise KmdistError(f"{path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise LockHeldError(
                f"another night is running on {results} (process {owner}); this one ends here"
            ) from error
        except OSError as error:
            raise KmdistError(
                f"{path}: this file system has no locks ({error.strerror}); keep the results "
                "where flock works, so that two nights cannot meet"
            ) from error
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            # Who holds it is a courtesy to others; on a full disk the lock itself still works.
            pass
        yield
    finally:
        os.close(descriptor)
