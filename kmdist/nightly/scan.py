"""What is there tonight, compared with what is known: new, changed, waiting, vanished."""

import fnmatch
import glob
import hashlib
import math
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from kmdist.errors import UsageError
from kmdist.images import EVERYTHING, NOT_THEIR_OWN, Choice, Found, Rejection, find_images
from kmdist.images.finding.files import glob_folder
from kmdist.images.finding.find import is_sample, sample_files
from kmdist.job.block_pass import GIVEN_UP
from kmdist.nightly.digests import folder_digest
from kmdist.nightly.ledger import DONE, PENDING, QUARANTINED, WAITING, FileRow
from kmdist.store.zarr_trees import tree_status

HASHING_THREADS = 4

RETRIED = NOT_THEIR_OWN | {"unreadable", "missing"}
"""Faults that are not in the bytes of the file: equal contents are tried again all the same."""


@dataclass(frozen=True)
class Seen:
    """A file as it is tonight."""

    path: bytes
    name: str
    size: int
    mtime_ns: int
    ctime_ns: int
    bundled: bool = False
    """A sample: complete since it was installed, however lately that was."""

    @property
    def stat(self) -> tuple[int, int, int]:
        """What changes when the contents do; tools that keep the second cannot keep the third."""
        return self.size, self.mtime_ns, self.ctime_ns


@dataclass
class Findings:
    """What a scan found.

    Parameters
    ----------
    rows : rows of the ledger that changed, by path.
    new, changed, vanished : paths.
    waiting : why files wait, by path.
    ready_s : when the first of them will have been left alone for long enough, seconds since 1970.
    """

    rows: dict[bytes, FileRow] = field(default_factory=dict)
    new: set[bytes] = field(default_factory=set)
    changed: set[bytes] = field(default_factory=set)
    vanished: set[bytes] = field(default_factory=set)
    waiting: dict[bytes, str] = field(default_factory=dict)
    ready_s: float = math.inf


@dataclass
class Inputs:
    """The inputs of a night, each by itself: one that fails hides none of the others.

    Parameters
    ----------
    good : that can be looked into. failed : the others, and folders inside, and why.
    """

    good: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def keeps(self, path: bytes) -> bool:
        """Whether a file that is not there may be there all the same, in what has failed."""
        if not self.failed:
            return False
        covered = any(_is_under(path, text) for text in self.good)
        return not covered or any(_is_under(path, text) for text in self.failed)

    def fail_hidden(
        self,
        seen: Mapping[bytes, Seen],
        unusable: dict[bytes, Rejection],
        known: Mapping[bytes, FileRow],
    ) -> None:
        """Note inputs that are empty and were not, and folders inside that cannot be read.

        Such a folder is taken out of `unusable`: it is no file.
        """
        for path, rejection in list(unusable.items()):
            folder = os.fsdecode(path)
            if rejection.code == "unreadable" and (
                os.path.isdir(folder) or any(_is_under(other, folder) for other in known)
            ):
                self.failed[folder] = rejection.reason
                del unusable[path]
        there = (*seen, *unusable)
        for text in self.good:
            before = sum(not row.gone and _is_under(path, text) for path, row in known.items())
            failed = any(_is_under(os.fsencode(folder), text) for folder in self.failed)
            if before and not failed and not any(_is_under(path, text) for path in there):
                were = f"{before:,} {'file was' if before == 1 else 'files were'}"
                self.failed[text] = f"is empty, where {were} (unmounted?)"
        self.good = [text for text in self.good if text not in self.failed]


def part_inputs(inputs: Iterable[str]) -> Inputs:
    """Tell inputs that can be looked into from those that are not there, or cannot be read."""
    parted = Inputs()
    for text in inputs:
        path = os.path.expanduser(text)
        if is_sample(text) or os.path.isfile(path):
            parted.good.append(text)
        elif glob.has_magic(path) and not os.path.lexists(path):
            if os.path.isdir(glob_folder(path) or "."):
                parted.good.append(text)
            else:
                parted.failed[text] = "is not there (unmounted?)"
        else:
            try:
                with os.scandir(path):
                    parted.good.append(text)
            except OSError as error:
                missing = isinstance(error, FileNotFoundError)
                why = (
                    "is not there (unmounted?)" if missing else f"cannot be read: {error.strerror}"
                )
                parted.failed[text] = why
    return parted


def _is_under(path: bytes, text: str) -> bool:
    """Whether a path lies in a folder, or matches a glob."""
    whole = os.path.abspath(os.path.expanduser(text))
    name = os.fsdecode(path)
    if name == whole or name.startswith(whole + os.sep):
        return True
    return glob.has_magic(whole) and (
        fnmatch.fnmatchcase(name, whole) or fnmatch.fnmatchcase(name, f"{whole}/*")
    )


def look(
    inputs: Iterable[str],
    name_in_run: Callable[[str], str] = str,
    choice: Choice = EVERYTHING,
) -> tuple[dict[bytes, Seen], dict[bytes, Rejection]]:
    """Find every image file, without opening it.

    Parameters
    ----------
    name_in_run : from a file's name to that of its labels.
    choice : which of the files are wanted; what is no longer has vanished.

    Returns
    -------
    seen : by path.
    unusable : what must not be opened (FIFOs, link loops), and folders that cannot be read, by
        path.
    """
    inputs = [text for text in inputs if not _matches_nothing(text)]
    try:
        found, rejections = find_images(inputs, choice)
    except UsageError:
        return {}, {}  # there is nothing
    samples = {str(path) for text in inputs if is_sample(text) for path in sample_files(text)}
    seen = {}
    for one in found:
        path = os.path.abspath(one.path)
        try:
            status = os.stat(path)
        except OSError:
            continue  # gone since it was found
        key = os.fsencode(path)
        size, times = status.st_size, (status.st_mtime_ns, status.st_ctime_ns)
        if stat.S_ISDIR(status.st_mode):  # a Zarr image
            tree = tree_status(path)
            size, times = tree.size_bytes, (tree.mtime_ns, tree.ctime_ns)
        seen[key] = Seen(key, name_in_run(one.name), size, *times, one.path in samples)
    return seen, {os.fsencode(os.path.abspath(r.path)): r for r in rejections}


def _matches_nothing(text: str) -> bool:
    path = os.path.expanduser(text)
    is_glob = glob.has_magic(path) and not os.path.lexists(path)
    return is_glob and not glob.glob(path, recursive=True)


def compare(
    seen: Mapping[bytes, Seen],
    unusable: Mapping[bytes, Rejection],
    known: Mapping[bytes, FileRow],
    now_s: float,
    grace_s: float,
    inputs: Inputs | None = None,
) -> Findings:
    """Hold what is there against the ledger. Contents are read only where size or times differ.

    Parameters
    ----------
    inputs : of which some may have failed: their files keep their state.
    """
    findings = Findings()
    for path, rejection in unusable.items():
        if path not in known:
            findings.new.add(path)
            error = f"{rejection.code}: {rejection.reason}"
            findings.rows[path] = FileRow(path, rejection.image, state=QUARANTINED, error=error)
        elif known[path].gone:
            findings.rows[path] = replace(known[path], gone=0)
    candidates: list[Seen] = []
    for path, one in seen.items():
        row = known.get(path)
        if row is None:
            findings.new.add(path)
            findings.rows[path] = FileRow(path, one.name, state=WAITING)
        elif row.gone:
            findings.rows[path] = replace(row, gone=0)
        row = findings.rows.get(path, row)
        if row is not None and not _is_settled(row, one):
            candidates.append(one)
    for path, row in known.items():
        is_there = path in seen or path in unusable
        if not (is_there or row.gone or (inputs and inputs.keeps(path))):
            findings.vanished.add(path)
            findings.rows[path] = replace(row, gone=1)
    ready = [one for one in candidates if _note(findings, known, one, now_s, grace_s)]
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        for one, digest in zip(ready, pool.map(_hash, ready), strict=True):
            _decide(findings, known, one, digest)
    return findings


def _is_settled(row: FileRow, one: Seen) -> bool:
    """Whether nothing is to be done for a file."""
    # A new mode or owner, which the time of change tells, may have made a bad file readable.
    same = (row.size, row.mtime_ns, row.ctime_ns) == one.stat
    guilty = (row.error or "").partition(":")[0] not in GIVEN_UP
    return same and (row.state == DONE or (row.state == QUARANTINED and guilty))


def _note(
    findings: Findings, known: Mapping[bytes, FileRow], one: Seen, now_s: float, grace_s: float
) -> bool:
    """Record what is there of a file; whether it has been left alone for long enough.

    A file stays young while its size or times change between nights; a time in the future is no
    reason to wait for ever. One that was changed just now is young whatever its modification time:
    copies keep the time of what they copy.
    """
    row = findings.rows.get(one.path) or known[one.path]
    same = (row.size, row.mtime_ns, row.ctime_ns) == one.stat
    observed_s = row.observed_s if same and row.observed_s else now_s
    changed_s = now_s - one.ctime_ns / 1e9
    age_s = min(now_s - one.mtime_ns / 1e9, changed_s if changed_s > -grace_s else grace_s)
    ready = one.bundled or age_s >= grace_s or (same and now_s - observed_s >= grace_s)
    if not ready:
        since_s = max(one.mtime_ns / 1e9, one.ctime_ns / 1e9 if changed_s > -grace_s else 0.0)
        ready_s = min(since_s, observed_s) + grace_s
        until = datetime.fromtimestamp(ready_s).astimezone().isoformat(" ", "seconds")
        what = "changed" if one.path in known else "arrived"
        findings.waiting[one.path] = f"{what} or was written lately; waits until {until}"
        findings.ready_s = min(findings.ready_s, ready_s)
        # The old contents stay the ledger's until the new ones are known, but for the stat by
        # which the next night sees whether the file still grows.
        row = _looked_at(row, one, observed_s=observed_s)
        findings.rows[one.path] = replace(row, state=WAITING, name=one.name, going=None)
    return ready


def _decide(
    findings: Findings, known: Mapping[bytes, FileRow], one: Seen, digest: str | None
) -> None:
    row = findings.rows.get(one.path) or known[one.path]
    if digest is None:  # it changes, or is gone, as we look
        findings.waiting[one.path] = "changed while it was read"
        findings.rows[one.path] = replace(
            _looked_at(row, one), state=WAITING, name=one.name, going=None
        )
        return
    now = replace(_looked_at(row, one), name=one.name, next_hash=digest)
    if row.hash is not None and digest == row.hash:
        if row.error is None:
            findings.rows[one.path] = replace(now, state=DONE)
            return
        if row.error.partition(":")[0] not in RETRIED:
            findings.rows[one.path] = replace(now, state=QUARANTINED)
            return
    elif row.hash is not None and digest != row.next_hash:
        findings.changed.add(one.path)
    findings.rows[one.path] = replace(now, state=PENDING)


def _looked_at(row: FileRow, one: Seen, **changes: Any) -> FileRow:
    return replace(row, size=one.size, mtime_ns=one.mtime_ns, ctime_ns=one.ctime_ns, **changes)


def _hash(one: Seen) -> str | None:
    """SHA-256 of the contents; None where they change meanwhile; empty where unreadable."""
    try:
        digest, *now = read_contents(one.path)
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    return digest if tuple(now) == one.stat else None


def read_contents(path: bytes) -> tuple[str, int, int, int]:
    """SHA-256 of a file or Zarr tree as it is now, its size, times of modification and change.

    Raises
    ------
    OSError : it is not there or cannot be read.
    """
    if os.path.isdir(path):
        digest = folder_digest(Path(os.fsdecode(path)))
        tree = tree_status(os.fsdecode(path))
        return digest, tree.size_bytes, tree.mtime_ns, tree.ctime_ns
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        status = os.fstat(file.fileno())
    return digest, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def found_of(rows: Iterable[FileRow]) -> list[Found]:
    """Rows as recipes take them."""
    return [Found(row.name, os.fsdecode(row.path)) for row in rows]
