"""The folder in which a run is made, and the one rename that makes it visible.

::

    .RUN.zarr.partial/          the run so far; a reader refuses it
        state/lock              held (flock) while a process works on it, freed by its death
        state/owner.json        who: host, pid, start
        state/request.json      what: recipe, parameters, fingerprint of the input
        state/run-XXXX          which: workers of an earlier run of the same name do not find theirs
    .RUN.zarr.new-XXXX/         a partial folder not yet complete enough to be seen as one
    .RUN.zarr.old-XXXX/         a replaced run, or a discarded one, being removed
    .RUN.zarr.previous          an old run between two renames, where the system cannot exchange

Each change of state is one rename, so that a kill at any moment leaves one of these: ``state/``
marks the newest work, a partial folder without it is waste.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmdist.errors import KmdistError
from kmdist.store.claims.durability import machine, sync, sync_folder, write_durably
from kmdist.store.format.contents import attributes_of
from kmdist.store.format.layout import dump_json
from kmdist.store.targets import STATE

_NEW_IS_STALE_S = 60.0
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
# Lustre mounted without flock, some FUSE file systems.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Lock:
    """An exclusive lock on a partial folder, which dies with this process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others take over; twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def partial_path(output: Path) -> Path:
    """``.RUN.zarr.partial`` beside ``RUN.zarr``."""
    return output.with_name(f".{output.name}.partial")


def guard(run: str) -> str:
    """Key that exists while a run of this identity is being made."""
    return f"{STATE}/run-{run}"


def take_lock(folder: Path) -> Lock | None:
    """Lock a folder that is being made; None if another process holds it.

    Raises
    ------
    FileNotFoundError : the folder has no ``state/`` (any more).
    """
    path = folder / STATE / "lock"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and lock the folder may have been published or removed.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return Lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno in _NO_LOCKS and not _owner_may_live(folder):
                return Lock(descriptor)
            os.close(descriptor)
            if error.errno in _NO_LOCKS:
                return None
            raise
        os.close(descriptor)


def create(output: Path, request: Mapping[str, Any]) -> Lock:
    """Make a new partial folder, locked and complete with owner and request, at once.

    Parameters
    ----------
    request : what is asked; ``run`` is the identity of this run.

    Raises
    ------
    FileExistsError : another process made it first.
    """
    partial = partial_path(output)
    fresh = _aside(output, "new")
    os.makedirs(fresh / STATE)
    lock = take_lock(fresh)
    if lock is None:
        raise KmdistError(f"{fresh} is locked by another process, though this one has made it")
    try:
        write_owner(fresh, str(request["run"]))
        write_durably(fresh / STATE / "request.json", dump_json(request))
        os.rename(fresh, partial)
    except BaseException as error:
        lock.release()
        shutil.rmtree(fresh, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(error.errno, "made by another process", str(partial)) from error
        raise
    return lock


def write_owner(folder: Path, run: str) -> None:
    """Record this process as the one at work, and let workers of the run write."""
    owner = {**machine(), "pid": os.getpid(), "start": _now()}
    half = folder / STATE / "owner.json.half"
    half.write_bytes(dump_json(owner))
    os.replace(half, folder / STATE / "owner.json")
    (folder / guard(run)).touch()


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """``owner`` or ``request`` of a partial folder; empty if it cannot be read."""
    try:
        record = json.loads((folder / STATE / f"{name}.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def describe_owner(folder: Path) -> str:
    """Who works, or worked, on a partial folder, for a message."""
    owner = read_record(folder, "owner")
    if not owner:
        return "an unknown process"
    return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('start')}"


def identity(run: Path) -> dict[str, Any] | None:
    """What tells a run from all others: the inode of its folder, the digest of its root.

    Returns
    -------
    dict, for JSON; None where no run of kmdist stands, and where a link does.
    """
    try:
        folder = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        with open(os.open("zarr.json", os.O_RDONLY | os.O_NONBLOCK, dir_fd=folder), "rb") as file:
            root = file.read()
        inode = os.fstat(folder).st_ino
    except OSError:
        return None
    finally:
        os.close(folder)
    if attributes_of(root) is None:
        return None
    return {"inode": inode, "root": hashlib.sha256(root).hexdigest()}


def publish(output: Path, replaces: Mapping[str, Any] | None) -> None:
    """Make the partial folder the run, in one rename; the old run, if any, goes after that.

    All data reach the disk first: a power cut leaves the old run or the whole new one.

    Parameters
    ----------
    replaces : identity of the run that may be replaced; None: nothing may be.

    Raises
    ------
    KmdistError : something else is there; the partial folder stays, and is named.
    """
    partial = partial_path(output)
    sync(partial)
    if replaces is not None and identity(output) == replaces:
        exchange(partial, output)
        if identity(partial) != replaces:  # it came between the look and the exchange
            exchange(output, partial)
            raise _kept_beside(output)
        remove(partial)
    else:
        try:
            os.rename(partial, output)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise _kept_beside(output) from error
    sync_folder(output.parent)
    shutil.rmtree(output / STATE, ignore_errors=True)


def _kept_beside(output: Path) -> KmdistError:
    remedy = f"move {output} away and use --resume"
    if identity(output) is not None:
        remedy += ", or replace what is there now with --resume --overwrite"
    return KmdistError(
        f"what stands at {output} has appeared since this run began, and is kept. The new run is "
        f"complete in {partial_path(output)}: {remedy}"
    )


def remove(folder: Path) -> None:
    """Remove a run or a partial folder: out of sight at once, then from the disk."""
    name = folder.name.removeprefix(".").removesuffix(".partial")
    waste = _aside(folder.with_name(name), "old")
    try:
        os.rename(folder, waste)
    except FileNotFoundError:
        return
    shutil.rmtree(waste, ignore_errors=True)


def sweep(output: Path, *, complete: bool) -> None:
    """Clear what killed processes left beside an output, and only what nobody can want.

    Parameters
    ----------
    complete : whether a complete run stands at the output.
    """
    partial, previous = partial_path(output), output.with_name(f".{output.name}.previous")
    if previous.is_dir() and not os.path.lexists(output):
        os.rename(previous, output)
    replaced = read_record(output, "request").get("replaces")
    for old in (previous, partial):
        if not old.is_dir() or (old / STATE).is_dir() or (old == previous and not complete):
            continue
        if replaced not in (None, identity(old)):
            # Killed between the exchange and the look at what came out of it: a stranger's.
            exchange(output, old)
            if old == previous:
                os.rename(previous, partial)
            return
        remove(old)
    if complete:
        shutil.rmtree(output / STATE, ignore_errors=True)
    prefixes = (f".{output.name}.old-", f".{output.name}.new-")
    for folder in output.parent.iterdir():
        if folder.name.startswith(prefixes[0]) or (
            folder.name.startswith(prefixes[1]) and _is_stale(folder)
        ):
            shutil.rmtree(folder, ignore_errors=True)


def exchange(first: Path, second: Path) -> None:
    """Swap two folders, in one step where the system can (Linux's ``renameat2``).

    Where it cannot, the second moves to ``.NAME.previous`` for the moment between two renames,
    whence `sweep` brings it back after a kill.
    """
    if _exchange_at_once(first, second):
        return
    previous = second.with_name(f".{second.name}.previous")
    remove(previous)
    os.rename(second, previous)
    try:
        os.rename(first, second)
    except OSError:
        os.rename(previous, second)
        raise
    os.rename(previous, first)


def _exchange_at_once(first: Path, second: Path) -> bool:
    renameat2 = getattr(_libc(), "renameat2", None)
    if renameat2 is None:
        return False
    paths = os.fsencode(first), os.fsencode(second)
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _is_stale(folder: Path) -> bool:
    """Whether the maker of a new folder has died: nobody holds its lock, and it is not young."""
    try:
        if time.time() - folder.stat().st_mtime < _NEW_IS_STALE_S:
            return False
        lock = take_lock(folder)
    except OSError:
        return True
    if lock is None:
        return False
    lock.release()
    return True


def _owner_may_live(folder: Path) -> bool:
    """Judge by the record where the file system has no locks; another host's cannot be asked."""
    owner = read_record(folder, "owner")
    if not owner:
        return False
    if owner.get("host") != machine()["host"]:
        return True
    try:
        os.kill(int(owner["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError, TypeError):
        return False
    except PermissionError:
        return True
    return True


def _aside(output: Path, kind: str) -> Path:
    return output.with_name(f".{output.name}.{kind}-{os.urandom(4).hex()}")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
