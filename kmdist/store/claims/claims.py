"""Who may write to an output: begin, resume, overwrite, or be told why not.

A run is made in a folder of its own, and one rename makes it visible::

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
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from kmdist import __version__
from kmdist.errors import KmdistError, UsageError
from kmdist.store.claims.durability import (
    SyncClock,
    forget_unsynced,
    is_alive,
    machine,
    sync,
    sync_folder,
    write_durably,
)
from kmdist.store.format.contents import COMPLETE, SCHEMA, attributes_of, read_attributes
from kmdist.store.format.layout import dump_json
from kmdist.store.targets import STATE, LocalTarget, Target
from kmdist.urls import is_url

_NEW_IS_STALE_S = 60.0
_REMOVING_TRIES = 10
_REMOVING_WAIT_S = 0.05
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


@dataclass
class Claim:
    """The right to write to an output.

    Attributes
    ----------
    run : identity of this run and its resumptions, random.
    resumed : an interrupted run is being continued.
    complete : the run that was asked for is there already; there is nothing to write.
    replaces : identity of the run at the output that may be replaced; None: nothing may be.
    """

    output: Path
    lock: Lock | None
    run: str = ""
    resumed: bool = False
    complete: bool = False
    replaces: Mapping[str, Any] | None = None

    _clock: SyncClock = field(default_factory=SyncClock, repr=False)

    def target(self) -> Target:
        """Where the run is written."""
        return LocalTarget(partial_path(self.output), guard(self.run))

    def tick(self) -> None:
        """Called as work is finished: now and then what was written is brought to the disk."""
        self._clock.tick(partial_path(self.output))

    def prepare(self, *, walk: bool) -> None:
        """Called before the root is written.

        Parameters
        ----------
        walk : look at all that was written, to remove what killed workers had not finished.
        """
        if walk:
            LocalTarget(partial_path(self.output)).remove_halves()

    def publish(self) -> None:
        """Make the run visible whose root has been written; the old one, if any, goes then.

        Raises
        ------
        KmdistError : something else is there meanwhile, or it cannot be written.
        """
        try:
            _publish(self.output, self.replaces)
        except OSError as error:
            raise KmdistError(f"cannot publish {self.output}: {error}") from error

    def discard(self) -> None:
        """Remove what has been written of the run, checkpoints and all."""
        remove(partial_path(self.output))

    def release(self) -> None:
        """Let another process take over."""
        if self.lock is not None:
            self.lock.release()


def claim_output(
    output: Path, request: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Claim:
    """Claim an output as `RunWriter.create` describes.

    Raises
    ------
    UsageError, KmdistError : as there.
    """
    try:
        os.makedirs(output.parent, exist_ok=True)
    except OSError as error:
        raise KmdistError(f"cannot make the folder {output.parent}: {error.strerror}") from error
    try:
        there = read_attributes(output) or {}
        sweep(output, complete=there.get("state") == COMPLETE)
        if partial_path(output).is_dir():
            claim = _claim_partial(output, request, resume=resume, overwrite=overwrite)
            if claim is not None:
                return claim
        if resume and _same_run(there, request):
            return Claim(output, None, complete=True)
        check_output(output, overwrite=overwrite)
        run = os.urandom(8).hex()
        replaces = identity(output)
        made = {**request, "versions": versions_asked(), "replaces": replaces, "run": run}
        return Claim(output, create(output, made), run, replaces=replaces)
    except FileExistsError as error:
        raise KmdistError(f"another process has just begun to write {output}") from error
    except OSError as error:
        raise KmdistError(f"cannot write {output}: {error.strerror or error}") from error


def _claim_partial(
    output: Path, request: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Claim | None:
    """Take over an interrupted run; None where it was removed, or can be left for a fresh one."""
    folder = partial_path(output)
    try:
        lock = take_lock(folder)
    except FileNotFoundError:
        return None
    if lock is None:
        raise KmdistError(
            f"{output} is being written by {describe_owner(folder)}. Wait for it, choose "
            f"another output, or end that process (if it is gone for certain, remove {folder})"
        )
    try:
        before = read_record(folder, "request")
        changes = differences(before, {**request, "versions": versions_asked()})
        if resume and not changes:
            if overwrite:
                check_output(output, overwrite=True)
                before["replaces"] = identity(output)
                write_durably(folder / STATE / "request.json", dump_json(before))
            forget_unsynced(folder, read_record(folder, "owner"))
            run = str(before.get("run"))
            write_owner(folder, run)
            return Claim(output, lock, run, resumed=True, replaces=before.get("replaces"))
        if overwrite:
            remove(folder)
            lock.release()
            return None
        raise _in_the_way(output, changes, resume=resume)
    except BaseException:
        lock.release()
        raise


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What was asked differently, in words; empty if nothing was."""
    if not before:
        return ["its record cannot be read"]
    found = []
    for key in ("recipe", "fingerprint"):
        if before.get(key) != now.get(key):
            label = "input" if key == "fingerprint" else key
            found.append(f"{label}: was {before.get(key)!r}, now {now.get(key)!r}")
    for group in ("parameters", "versions"):
        then, today = before.get(group) or {}, now.get(group) or {}
        for key in sorted({*then, *today}):
            if then.get(key) != today.get(key):
                label = key if group == "parameters" else f"version of {key}"
                found.append(f"{label}: was {then.get(key)!r}, now {today.get(key)!r}")
    return found


def _in_the_way(output: Path, changes: list[str], *, resume: bool) -> UsageError:
    if resume:
        return UsageError(
            f"the interrupted run of {output} was asked differently, and cannot be resumed "
            f"({'; '.join(changes)}). Ask as then, or use --overwrite to discard it and begin anew"
        )
    return UsageError(
        f"an interrupted run of {output} is kept in {partial_path(output)}. Continue it "
        "with --resume, or discard it with --overwrite"
    )


def _same_run(there: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    if there.get("state") != COMPLETE:
        return False
    # Another version's result is still the result; only half of one must not be mixed.
    return not differences({**there, "versions": {}}, {**request, "versions": {}})


def run_location(output: str | os.PathLike[str]) -> str | Path:
    """An output as it is passed on: a URL as text, which `Path` would mangle, all else a path.

    Raises
    ------
    UsageError : it lies within a run, which is replaced as a whole, and what is in it lost.
    """
    place = os.fspath(output) if is_url(output) else Path(output)
    for folder in _folders_above(place):
        if read_attributes(folder) is not None:
            raise UsageError(
                f"output {place} lies within the run {folder}, and would be lost when that is "
                "replaced; choose a place beside it"
            )
    return place


def _folders_above(place: str | Path) -> list[str | Path]:
    if isinstance(place, Path):
        return [*Path(os.path.abspath(place.expanduser())).parents]
    scheme, _, key = place.partition("://")
    return [f"{scheme}://{folder}" for folder in PurePosixPath(key).parents if folder.name]


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that a new run may not take.

    Raises
    ------
    UsageError : something is there that is no run, or a run and `overwrite` is not given.
    """
    if not output.exists() and not output.is_symlink():
        return
    empty = output.is_dir() and not any(output.iterdir())
    if not empty and read_attributes(output) is None:
        raise UsageError(
            f"output {output} exists and is no run of kmdist: --overwrite would not replace it. "
            "Choose another, or move it away"
        )
    if not overwrite:
        raise UsageError(
            f"output {output} exists. Choose another, or use --overwrite to replace it"
        )


def versions_asked() -> dict[str, Any]:
    """Versions that must be equal for a run to be resumed."""
    return {"kmdist": __version__, "schema": SCHEMA}


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
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    owner = {**machine(), "pid": os.getpid(), "start": start}
    write_durably(folder / STATE / "owner.json", dump_json(owner))
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


def _publish(output: Path, replaces: Mapping[str, Any] | None) -> None:
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
    shutil.rmtree(waste / STATE, ignore_errors=True)  # no worker begins to write any more
    for _ in range(_REMOVING_TRIES):
        shutil.rmtree(waste, ignore_errors=True)
        if not waste.exists():
            return
        time.sleep(_REMOVING_WAIT_S)  # a worker finishes what it had begun to write


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
    return is_alive(owner.get("pid"))


def _aside(output: Path, kind: str) -> Path:
    return output.with_name(f".{output.name}.{kind}-{os.urandom(4).hex()}")
