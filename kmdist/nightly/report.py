"""What is known, without changing it: how things stand, and where a file's labels are."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kmdist.errors import UsageError
from kmdist.nightly.ledger import LEDGER, QUARANTINED, Ledger
from kmdist.nightly.outcome import read_nights


def open_ledger(results: Path) -> Any:
    """The ledger of a results folder, which must be there.

    Raises
    ------
    UsageError : there is none.
    """
    path = results / LEDGER
    if not path.is_file():
        raise UsageError(f"{path}: does not exist: no night has run with these results yet")
    return Ledger.open(path)


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

    Returns
    -------
    dict : ``state``, ``run`` (path), ``image`` (name there), ``model``, ``error``, ``gone``.

    Raises
    ------
    UsageError : the ledger does not know the file.
    """
    key = os.fsencode(os.path.abspath(os.path.expanduser(path)))
    with open_ledger(results) as ledger:
        rows = ledger.files("path = ?", key) or ledger.files("name = ?", os.fsencode(path))
    if not rows:
        raise UsageError(f"{os.fspath(path)!r} is not in the ledger of {results}")
    row = next(iter(rows.values()))
    return {
        "path": os.fsdecode(row.path),
        "state": row.state,
        "run": str(results / "runs" / f"{row.run}.zarr") if row.run else None,
        "image": row.label_name,
        "model": row.model,
        "error": row.error,
        "gone": bool(row.gone),
    }
