"""What is there tonight, compared with what is known: new, changed, waiting, vanished."""

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from kmdist.errors import KmdistError, UsageError
from kmdist.images import EVERYTHING, Choice, Found, Rejection, find_images
from kmdist.images.finding.find import is_sample, sample_files
from kmdist.nightly.ledger import DONE, PENDING, QUARANTINED, WAITING, FileRow

HASHING_THREADS = 4

RETRIED = frozenset({"unreadable", "missing", "changed", "lost"})
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
    def stat(self) -> tuple[int, int]:
        """What changes when the contents do."""
        return self.size, self.mtime_ns


@dataclass
class Findings:
    """What a scan found.

    Parameters
    ----------
    rows : rows of the ledger that changed, by path.
    new, changed, vanished : paths.
    """

    rows: dict[bytes, FileRow] = field(default_factory=dict)
    new: set[bytes] = field(default_factory=set)
    changed: set[bytes] = field(default_factory=set)
    vanished: set[bytes] = field(default_factory=set)


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
    unusable : files that must not be opened (FIFOs, link loops), by name.

    Raises
    ------
    KmdistError : an input folder is not there: an unmounted disk must not look like files that
        have vanished.
    """
    inputs = list(inputs)
    for text in inputs:
        path = os.path.expanduser(text)
        if not os.path.exists(path) and not glob.has_magic(path) and not is_sample(path):
            raise KmdistError(f"input {text} is not there (unmounted?); nothing was changed")
    try:
        found, rejections = find_images(inputs, choice)
    except UsageError:
        return {}, {}  # all inputs are there, and empty
    samples = {str(path) for text in inputs if is_sample(text) for path in sample_files(text)}
    seen = {}
    for one in found:
        path = os.path.abspath(one.path)
        try:
            status = os.stat(path)
        except OSError:
            continue  # gone since it was found
        key = os.fsencode(path)
        times = status.st_mtime_ns, status.st_ctime_ns
        seen[key] = Seen(key, name_in_run(one.name), status.st_size, *times, one.path in samples)
    return seen, {os.fsencode(rejection.image): rejection for rejection in rejections}


def compare(
    seen: Mapping[bytes, Seen],
    unusable: Mapping[bytes, Rejection],
    known: Mapping[bytes, FileRow],
    now_s: float,
    grace_s: float,
) -> Findings:
    """Hold what is there against the ledger. Contents are read only where size or times differ."""
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
        if path not in seen and path not in unusable and not row.gone:
            findings.vanished.add(path)
            findings.rows[path] = replace(row, gone=1)
    ready = [one for one in candidates if _note(findings, known, one, now_s, grace_s)]
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        for one, digest in zip(ready, pool.map(_hash, ready), strict=True):
            _decide(findings, known, one, digest)
    return findings


def _is_settled(row: FileRow, one: Seen) -> bool:
    """Whether nothing is to be done for a file."""
    if row.state == DONE:
        return (row.size, row.mtime_ns) == one.stat
    # A new mode or owner may have made a bad file readable.
    return row.state == QUARANTINED and (row.size, row.mtime_ns, row.ctime_ns) == (
        *one.stat,
        one.ctime_ns,
    )


def _note(
    findings: Findings, known: Mapping[bytes, FileRow], one: Seen, now_s: float, grace_s: float
) -> bool:
    """Record what is there of a file; whether it has been left alone for long enough.

    A file stays young while its size or times change between nights; a modification time in the
    future is no reason to wait for ever.
    """
    row = findings.rows.get(one.path) or known[one.path]
    same = (row.size, row.mtime_ns) == one.stat
    observed_s = row.observed_s if same and row.observed_s else now_s
    age_s = now_s - one.mtime_ns / 1e9
    ready = one.bundled or age_s >= grace_s or (same and now_s - observed_s >= grace_s)
    if not ready:
        # The old contents stay the ledger's until the new ones are known, but for the stat by
        # which the next night sees whether the file still grows.
        row = replace(row, size=one.size, mtime_ns=one.mtime_ns, observed_s=observed_s)
        findings.rows[one.path] = replace(row, state=WAITING, name=one.name, going=None)
    return ready


def _decide(
    findings: Findings, known: Mapping[bytes, FileRow], one: Seen, digest: str | None
) -> None:
    row = findings.rows.get(one.path) or known[one.path]
    if digest is None:  # it changes, or is gone, as we look
        findings.rows[one.path] = replace(
            row, size=one.size, mtime_ns=one.mtime_ns, state=WAITING, name=one.name, going=None
        )
        return
    now = replace(
        row,
        name=one.name,
        size=one.size,
        mtime_ns=one.mtime_ns,
        ctime_ns=one.ctime_ns,
        next_hash=digest,
    )
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


def _hash(one: Seen) -> str | None:
    """SHA-256 of the contents; None where they change meanwhile; empty where unreadable."""
    if os.path.isdir(one.path):  # a Zarr image has no contents of its own
        return hashlib.sha256(repr(one.stat).encode()).hexdigest()
    try:
        with open(one.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            status = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    return digest if (status.st_size, status.st_mtime_ns) == one.stat else None


def found_of(rows: Iterable[FileRow]) -> list[Found]:
    """Rows as recipes take them."""
    return [Found(row.name, os.fsdecode(row.path)) for row in rows]
