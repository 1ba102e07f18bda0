"""The right to write to a prefix of an object store: announced, renewed, and lost when it lapses.

An object store has no lock that dies with its holder, and not every one can put an object only
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

import json
import os
import threading
import time
from typing import Any

from kmdist.errors import KmdistError
from kmdist.store.claims.durability import machine
from kmdist.store.format.layout import dump_json
from kmdist.store.targets import STATE, Target

LEASE_S = 120.0
"""After so many seconds without a renewal another host may take over."""
RENEW_EVERY_S = 20.0

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
        try:
            self._target.delete(f"{CLAIMS}/{self._name}")
        except KmdistError:
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
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
