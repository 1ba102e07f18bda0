"""What must survive a power cut, and what of an interrupted run may be trusted after one.

A kill loses nothing that was written: it is in the page cache. A power cut does: files written
in the last minute may be empty while the manifest says that their blocks are done. So the
driver has the file system synced now and then, and records how long the manifests were before;
after a reboot only that much of them counts.
"""

import ctypes
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from kmdist.store.format.layout import dump_json
from kmdist.store.targets import STATE

SYNC_EVERY_S = 60.0
"""Work that a power cut may cost. A sync writes out what the kernel would have written anyway."""

_LOGS = "*.done.jsonl"


class SyncClock:
    """Sync the folder of a run when enough time has passed since the last time."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def tick(self, folder: Path) -> None:
        """Sync if it is time, and record up to where the manifests are safe."""
        if time.monotonic() - self._last < SYNC_EVERY_S:
            return
        sizes = {log.name: log.stat().st_size for log in (folder / STATE).glob(_LOGS)}
        sync(folder)
        write_durably(folder / STATE / "synced.json", dump_json(sizes))
        self._last = time.monotonic()


def forget_unsynced(folder: Path, owner: dict[str, Any]) -> None:
    """Cut the manifests of an interrupted run to what is safe, if the machine has rebooted.

    Parameters
    ----------
    owner : record of the process that was interrupted. Another machine's reboot cannot be seen;
        there a shared file system has taken the data in.
    """
    now = machine()
    if owner.get("host") != now["host"] or owner.get("boot") == now["boot"]:
        return
    try:
        sizes = json.loads((folder / STATE / "synced.json").read_bytes())
    except (OSError, ValueError):
        sizes = {}
    for log in (folder / STATE).glob(_LOGS):
        os.truncate(log, min(int(sizes.get(log.name, 0)), log.stat().st_size))


def machine() -> dict[str, str]:
    """Name of this machine, and of its present boot (empty where the system names none)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return {"host": socket.gethostname(), "boot": boot}


def is_alive(pid: Any) -> bool:
    """Whether a process of this machine has this number, as its record says."""
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError, ValueError, TypeError):
        return False
    return True


def sync(folder: Path) -> None:
    """Wait until all written to the folder's file system is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None or syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in one folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems refuse to sync a folder; their renames are durable anyway.
        return
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a small file at once, on the disk before its name is."""
    half = path.with_name(f"{path.name}.half")
    with open(half, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(half, path)
