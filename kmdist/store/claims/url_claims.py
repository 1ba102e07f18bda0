"""Who may write to an output in an object store, and how a run there becomes visible.

An object store has neither rename nor locks. A run is written in its place, and what makes it a
run, the root's ``zarr.json``, is put last; until then readers refuse it, and ``state/`` holds what
a resume needs.

A run that replaces another is written beside it::

    PREFIX/RUN.zarr                  the old run, complete until the new one is
    PREFIX/.RUN.zarr.partial         the new one; readers of kmdist refuse it as an output's name

and exchanged when it is complete: the old root's metadata are deleted, what only the old run has
is removed, the new run is copied (within the store), its root's metadata last, and its first
place is cleared. Meanwhile readers are told that the run is not complete; they never open half of
each. A kill in between loses nothing: the next writer finds the complete new run and goes on with
the exchange. Who has opened the old run is told that it was replaced (`kmdist.store.reader`).

One writer at a time: the right to write is announced, renewed, and lost when it lapses. An object
store has no lock that dies with its holder, and not every one can put an object only
where there is none. So a writer first puts an object of its own below ``state/claims/`` and then
lists that folder. Stores list whatever was put before (S3, Google's and Azure's do, and fsspec is
told not to cache), so of two that begin at once at least one sees the other, and who sees another
withdraws: both may have to try again, never do both go on.

The object is put anew every `RENEW_EVERY_S`. Another host takes over a claim that was not renewed
for `LEASE_S`, by clocks that may differ by the difference of the two; this host takes over at once
if the process is gone. Who was thought dead and is not finds, at its next renewal or before it
publishes, that its claim is gone or a later one there, and stops. What its workers may still write
until then are blocks of the same run if that was resumed, hence the same bytes.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from kmdist.errors import KmdistError, UsageError
from kmdist.store.claims.claims import Claim, differences, versions_asked
from kmdist.store.claims.durability import is_alive, machine
from kmdist.store.format.contents import COMPLETE, attributes_of
from kmdist.store.format.layout import dump_json
from kmdist.store.targets import STATE, FsspecTarget, Target, UrlPath

LEASE_S = 120.0
"""After so many seconds without a renewal another host may take over."""
RENEW_EVERY_S = 20.0
WITHDRAWALS = 5
"""Times that a claim is tried to be withdrawn, since it would stay in a run that is complete."""

CLAIMS = f"{STATE}/claims"
"""Folder of the claims, of which one is alive."""


class Lease:
    """A claim on a prefix, renewed by a thread of its own until it is released.

    Parameters
    ----------
    target : the prefix. name : of the claim's object; later ones sort after earlier ones.
    """

    def __init__(self, target: Target, name: str) -> None:
        self._target, self._name = target, name
        self._since_s = time.time()
        self._renewed = time.monotonic()
        self._lost = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="kmdist-lease", daemon=True)

    @classmethod
    def take(cls, target: Target, where: str) -> "Lease":
        """Claim a prefix.

        Parameters
        ----------
        where : the output, for messages.

        Raises
        ------
        KmdistError : another writer has it, or began at the same moment.
        """
        earlier = target.children(CLAIMS)
        number = 1 + max((_number(name) for name in earlier), default=0)
        lease = cls(target, f"{number:06}-{os.urandom(6).hex()}.json")
        lease._announce()
        try:
            for name in target.children(CLAIMS):
                if name == lease._name:
                    continue
                record = _read(target, name)
                if record is not None and name not in _given_up and _may_live(record):
                    raise KmdistError(_taken(where, record))
                target.delete(f"{CLAIMS}/{name}")
        except BaseException:
            lease.release()
            raise
        lease._thread.start()
        return lease

    def check(self) -> None:
        """Make sure that the claim is still this one's.

        Raises
        ------
        KmdistError : it is not, or could not be renewed for too long.
        """
        if not self._lost and time.monotonic() - self._renewed > LEASE_S / 2:
            self._renew()
        if self._lost:
            raise KmdistError(f"{self._lost}; what is finished is kept")

    def release(self) -> None:
        """Let others have the prefix; twice is fine."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        for attempt in range(WITHDRAWALS):
            try:
                self._target.delete(f"{CLAIMS}/{self._name}")
                return
            except KmdistError:
                time.sleep(0.1 * 2**attempt)
        _given_up.add(self._name)  # for others it lapses

    def _announce(self) -> None:
        record = {
            **machine(),
            "pid": os.getpid(),
            "processes": _pid_namespace(),
            "since_s": self._since_s,
            "renewed_s": time.time(),
        }
        self._target.put(f"{CLAIMS}/{self._name}", dump_json(record))
        self._renewed = time.monotonic()

    def _keep(self) -> None:
        while not self._lost and not self._ended.wait(RENEW_EVERY_S):
            self._renew()

    def _renew(self) -> None:
        """Put the claim's object again, unless it is gone or a later one is there."""
        try:
            names = self._target.children(CLAIMS)
            if self._name not in names or max(names) > self._name:
                self._lost = "another process has taken the output over"
                return
            self._announce()
        except KmdistError as error:
            if time.monotonic() - self._renewed > LEASE_S:
                self._lost = f"the claim on the output could not be renewed ({error})"


_given_up: set[str] = set()
"""Names of claims of this process that the store did not let it withdraw."""


def _number(name: str) -> int:
    digits = name.partition("-")[0]
    return int(digits) if digits.isdecimal() else 0


def _read(target: Target, name: str) -> dict[str, Any] | None:
    """A claim; None where it was withdrawn meanwhile, empty where it cannot be read."""
    data = target.get(f"{CLAIMS}/{name}")
    if data is None:
        return None
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _may_live(record: dict[str, Any]) -> bool:
    try:
        if time.time() - float(record["renewed_s"]) > LEASE_S:
            return False
        pid = int(record["pid"])
    except (KeyError, TypeError, ValueError):
        return False
    here = {**machine(), "processes": _pid_namespace()}
    if any(record.get(key) != here[key] for key in ("host", "boot", "processes")):
        return True
    return is_alive(pid)


def _taken(where: str, record: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(record.get("since_s") or 0)))
    ago_s = max(0.0, time.time() - float(record["renewed_s"]))
    return (
        f"{where} is being written by process {record.get('pid')} on {record.get('host')} since "
        f"{since} (last sign of life {ago_s:.0f} s ago). Wait for it, choose another output, or "
        f"end that process; the claim of one that has died on another host lapses after "
        f"{LEASE_S:.0f} s"
    )


def _pid_namespace() -> str:
    """Where process numbers mean the same: containers of one host may share its name."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


_REQUEST = f"{STATE}/request.json"
_EXCHANGING = f"{STATE}/exchanging"
_ROOT = "zarr.json"


@dataclass(kw_only=True)
class UrlClaim(Claim):
    """The right to write to a prefix.

    Attributes
    ----------
    place : where the run is written.
    final : where it belongs; the same object, unless it replaces another run.
    """

    place: FsspecTarget
    final: FsspecTarget
    lease: Lease

    def target(self) -> FsspecTarget:
        return self.place

    def tick(self) -> None:
        """Make sure that the claim has not lapsed.

        Raises
        ------
        KmdistError : another process has taken over.
        """
        self.lease.check()

    def prepare(self, *, walk: bool) -> None:
        """Refuse to put the root where another's has appeared since the run began.

        Nothing is ever half put.

        Raises
        ------
        KmdistError : there is one.
        """
        if self.place is self.final and self.place.exists(_ROOT):
            raise KmdistError(
                f"what stands at {self.place.url} has appeared since this run began, and is kept: "
                "choose another output"
            )

    def publish(self) -> None:
        if self.place is self.final:
            _clear_state(self.place)
        elif not exchange(self.place, self.final):
            raise _kept_beside(self.place, self.final)

    def discard(self) -> None:
        if self.place is self.final:
            _clear(self.place)
        else:
            _clear_staged(self.place)

    def release(self) -> None:
        self.lease.release()


def claim_url(url: str, request: Mapping[str, Any], *, resume: bool, overwrite: bool) -> UrlClaim:
    """Claim a prefix as `kmdist.store.claims.claims.claim_output` claims a folder.

    Raises
    ------
    UsageError : a run is there, or something else, or an interrupted run of another request.
    KmdistError : another process writes to it; the store refuses or is gone.
    """
    final, staged = FsspecTarget(url), FsspecTarget(staging_url(url))
    _refuse_others(final)
    lease = Lease.take(final, url)
    try:
        claim = _claim(final, staged, lease, request, resume=resume, overwrite=overwrite)
    except BaseException:
        lease.release()
        raise
    if claim.complete:
        lease.release()
    return claim


def staging_url(url: str) -> str:
    """Where a run is written that replaces another."""
    base, _, name = url.rstrip("/").rpartition("/")
    return f"{base}/.{name}.partial"


def _claim(
    final: FsspecTarget,
    staged: FsspecTarget,
    lease: Lease,
    request: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> UrlClaim:
    output: Any = UrlPath(final.url)
    made = partial(UrlClaim, output, None, final=final, lease=lease)
    asked = {**request, "versions": versions_asked()}
    if _record(staged).get("state") == COMPLETE:
        _ = exchange(staged, final)  # which a kill has interrupted
    there = _record(final)
    complete = there.get("state") == COMPLETE
    for place in (staged,) if complete else (staged, final):
        saved = place.get(_REQUEST)
        if saved is None:
            continue
        changes = differences(json.loads(saved), asked)
        if resume and not changes:
            if overwrite and place is staged:
                asked["replaces"] = _identity(final)
                place.put(_REQUEST, dump_json(asked))
            return made(resumed=True, place=place)
        if not overwrite:
            why = f" of another request ({'; '.join(changes)})" if resume else ""
            raise UsageError(
                f"an interrupted run{why} is kept in {place.url}. Continue it with --resume, or "
                "discard it with --overwrite"
            )
    same = not differences({**there, "versions": {}}, {**request, "versions": {}})
    if complete and resume and same:
        _clear_state(final)
        _clear_staged(staged)
        return made(complete=True, place=final)
    if complete and not overwrite:
        raise UsageError(f"output {final.url} exists. Choose another, or replace it: --overwrite")
    place = staged if complete else final
    _clear_staged(staged)
    if not complete:
        _clear(final)
    place.put(_REQUEST, dump_json({**asked, "replaces": _identity(final)}))
    return made(place=place)


def exchange(staged: FsspecTarget, final: FsspecTarget) -> bool:
    """Put a complete run in the place of the one it replaces; may be repeated after a kill.

    Returns
    -------
    bool : False where something else stands there meanwhile: nothing is changed then.

    Raises
    ------
    KmdistError : the store refuses or is gone; the new run is kept, and the next attempt goes on.
    """
    replaces = json.loads(staged.get(_REQUEST) or b"{}").get("replaces")
    free = not final.exists(_ROOT) and (staged.exists(_EXCHANGING) or _is_empty(final))
    if not free and _identity(final) not in (replaces, _identity(staged)):
        return False
    new = [key for key in staged.keys("") if not _is_state(key)]
    staged.put(_EXCHANGING, b"")
    final.delete(_ROOT)
    wanted = set(new)
    final.delete_keys([k for k in final.keys("") if k not in wanted and not k.startswith(CLAIMS)])
    final.copy_from(staged, [key for key in new if key != _ROOT])
    final.copy_from(staged, [_ROOT])
    _clear_staged(staged)
    return True


def _is_empty(place: FsspecTarget) -> bool:
    return all(key.startswith(CLAIMS) for key in place.keys(""))


def _identity(place: FsspecTarget) -> str | None:
    """Digest of the root of a run, which no other run has; None where there is none."""
    root = place.get(_ROOT)
    return None if attributes_of(root) is None else hashlib.sha256(root or b"").hexdigest()


def _kept_beside(staged: FsspecTarget, final: FsspecTarget) -> KmdistError:
    return KmdistError(
        f"what stands at {final.url} has appeared since this run began, and is kept. The new run "
        f"is complete in {staged.url}: move the other away and use --resume, or, if it is a run, "
        "replace it with --resume --overwrite"
    )


def _refuse_others(final: FsspecTarget) -> None:
    """Refuse a prefix that holds something that is no run, whole or half."""
    if _record(final) or final.exists(_REQUEST):
        return
    staged = FsspecTarget(staging_url(final.url))
    if staged.exists(_REQUEST) or _record(staged):
        return
    if not _is_empty(final):
        raise UsageError(
            f"output {final.url} is not empty, and is no run of kmdist: choose another"
        )


def _clear(place: FsspecTarget) -> None:
    """Remove a run so that a kill leaves nothing that could be resumed as if it were whole.

    What is asked goes last: what lies there is known by it.
    """
    place.delete(_ROOT)
    keys = [key for key in place.keys("") if not key.startswith(CLAIMS)]
    place.delete_keys([key for key in keys if _is_state(key) and key != _REQUEST])
    place.delete_keys([key for key in keys if not _is_state(key)])
    place.delete(_REQUEST)


def _clear_staged(place: FsspecTarget) -> None:
    """Remove a run that was to replace another.

    Without its request it is not taken for an interrupted one; until its root has gone it is
    whole, and would be exchanged once more.
    """
    place.delete(_REQUEST)
    place.delete(_ROOT)
    place.delete_keys(list(place.keys("")))


def _clear_state(place: FsspecTarget) -> None:
    """Remove what only a resume needs, once the run is complete."""
    place.delete_keys([key for key in place.keys(STATE) if not key.startswith(CLAIMS)])


def _is_state(key: str) -> bool:
    return key.startswith(f"{STATE}/")


def _record(target: FsspecTarget) -> dict[str, Any]:
    return attributes_of(target.get(_ROOT)) or {}
