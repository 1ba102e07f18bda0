"""What a night did, and its JSON; how things stand, and where a file's labels are."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from kmdist.errors import KmdistError, UsageError, shown
from kmdist.nightly.ledger import LEDGER, QUARANTINED, FileRow, Ledger, require_no_runs
from kmdist.typed_data import converted

NIGHTS = "nights"
"""Folder of what nights did, in the results folder."""
FIGURES = ("new", "changed", "done", "waiting", "pending", "quarantined", "vanished")
"""Numbers of files that are told of a night, as `Night` has them."""
_STAMP = "%Y%m%dT%H%M%SZ"


class InputError(KmdistError):
    """None of a night's inputs can be looked into: exit code 3, as where some cannot."""

    exit_code = 3


def stamp_of(moment: datetime) -> str:
    """A time as nights and runs are named after it: UTC, seconds."""
    return moment.astimezone(UTC).strftime(_STAMP)


def run_path(results: Path, run: str) -> Path:
    """Where the run of a night lies, by its stamp."""
    return results / "runs" / f"{run}.zarr"


@dataclass
class Night:
    """What a night did; the JSON of `nights/STAMP.json`.

    Parameters
    ----------
    new, changed, vanished : files found so.
    done, quarantined : files labelled, and set aside, tonight.
    waiting : files that are too young or growing.
    pending : files left for the next night.
    stopped : the hour of ``until`` came before the end.
    model : version that labelled; fitted : whether it was fitted tonight.
    drift : inertia per pixel against the model's own; see `kmdist.nightly.models.drift_of`.
    runs : published tonight, an interrupted one of an earlier night among them.
    waits : why files wait, and until when; reasons : why files were set aside tonight; by path.
    ready_s : when the first waiting file can be labelled, seconds since 1970; None: none waits.
    errors : inputs that are not there, cannot be read, or are empty and were not, by name.
    """

    stamp: str
    new: int = 0
    changed: int = 0
    done: int = 0
    waiting: int = 0
    quarantined: int = 0
    vanished: int = 0
    pending: int = 0
    stopped: bool = False
    model: int | None = None
    fitted: bool = False
    drift: float | None = None
    runs: tuple[str, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    ready_s: float | None = None

    def set_aside(self, rows: Iterable[FileRow]) -> None:
        """Note files that were quarantined."""
        for row in rows:
            if row.state == QUARANTINED:
                self.quarantined += 1
                self.reasons[os.fsdecode(row.path)] = row.error or ""

    def write(self, results: Path, keep: int | None) -> None:
        """Write the JSON, and remove those of nights before the last `keep`.

        Raises
        ------
        KmdistError : it cannot be written.
        """
        folder = results / NIGHTS
        path = folder / f"{self.stamp}.json"
        half = path.with_suffix(".half")
        try:
            folder.mkdir(exist_ok=True)
            half.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
            os.replace(half, path)
            if keep is not None:
                for old in sorted(folder.glob("*.json"))[:-keep]:
                    old.unlink()
        except OSError as error:
            raise KmdistError(f"{path}: {error.strerror}; the night's work is recorded") from error


def read_nights(results: Path, last: int) -> list[Night]:
    """What the last nights did, in their order.

    Raises
    ------
    KmdistError : a file is damaged; names it.
    """
    nights = []
    for path in sorted((results / NIGHTS).glob("*.json"))[-last:]:
        try:
            nights.append(converted(msgspec.json.decode(path.read_bytes()), Night))
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            raise KmdistError(
                f"{path} is damaged: {error}. It is only told from what that night did, and can be "
                "removed"
            ) from error
    return nights


@contextmanager
def open_ledger(results: Path) -> Iterator[Ledger]:
    """The ledger of a results folder, which must be there, to be read.

    Raises
    ------
    UsageError : there is none, and there was none. KmdistError : it is lost or empty.
    """
    path = results / LEDGER
    if not path.is_file():
        require_no_runs(path)
        raise UsageError(f"{path}: does not exist: no night has run with these results yet")
    with Ledger.open(path, to_read=True) as ledger:
        ledger.require_known()
        yield ledger


def status(results: Path) -> dict[str, Any]:
    """How things stand.

    Returns
    -------
    dict : ``files`` by state, ``quarantined`` {path: reason}, ``started`` runs that go on in the
        next night, ``runs`` and ``models`` published, ``night``: the last one's JSON or None.
    """
    with open_ledger(results) as ledger:
        bad = ledger.files("state = ? AND NOT gone", QUARANTINED)
        nights = read_nights(results, 1)
        return {
            "files": ledger.counts(),
            "quarantined": {os.fsdecode(path): row.error for path, row in bad.items()},
            "started": [run["run"] for run in ledger.runs("started")],
            "runs": len(ledger.runs("published")),
            "models": sorted(ledger.models()),
            "night": asdict(nights[0]) if nights else None,
        }


def find(results: Path, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Which run holds a file's labels.

    Parameters
    ----------
    path : of the file; its name in runs, or the end of its path where one file has it.

    Returns
    -------
    dict : ``state``, ``run`` (path), ``image`` (name there), ``model``, ``error``, ``gone``.

    Raises
    ------
    UsageError : the ledger does not know the file, or several of the name.
    """
    key = os.fsencode(os.path.abspath(os.path.expanduser(path)))
    with open_ledger(results) as ledger:
        rows = ledger.files("path = ?", key) or ledger.files("name = ?", os.fsencode(path))
        if not rows:  # as of an image of a run: the end of one path
            ending = b"/" + os.fsencode(path)
            rows = ledger.files("substr(path, ?) = ?", -len(ending), ending)
    if not rows:
        raise UsageError(f"{os.fspath(path)!r} is not in the ledger of {results}")
    if len(rows) > 1:
        listed = ", ".join(shown(os.fsdecode(one)) for one in list(rows)[:3])
        raise UsageError(f"{os.fspath(path)!r} are {len(rows)} files: {listed}")
    row = next(iter(rows.values()))
    return {
        "path": os.fsdecode(row.path),
        "state": row.state,
        "run": str(run_path(results, row.run)) if row.run else None,
        "image": row.label_name,
        "model": row.model,
        "error": row.error,
        "gone": bool(row.gone),
    }
