"""Read all results again, and hold them against the ledger."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from kmdist.errors import KmdistError
from kmdist.nightly.digests import Held, root_digest
from kmdist.nightly.ledger import DONE, QUARANTINED, FileRow, Ledger
from kmdist.nightly.models import model_path
from kmdist.nightly.report import open_ledger
from kmdist.store import open_run


def verify(results: Path) -> list[str]:
    """Find what is missing, damaged, or not as the ledger says.

    Every object of every run is read and its digest compared.

    Returns
    -------
    list of str : findings, one a line; empty if all is well.
    """
    with open_ledger(results) as ledger:
        return [*ledger.damage(), *_models(results, ledger), *_runs(results, ledger)]


def _models(results: Path, ledger: Ledger) -> Iterator[str]:
    for number in ledger.models():
        try:
            if open_run(model_path(results, number)).centroids is None:
                yield f"model {number}: has no centroids"
        except KmdistError as error:
            yield f"model {number}: {error}"


def _runs(results: Path, ledger: Ledger) -> Iterator[str]:
    by_run: dict[str, list[FileRow]] = defaultdict(list)
    for row in ledger.files().values():
        name = os.fsdecode(row.path)
        if row.run is not None:
            by_run[row.run].append(row)
        if row.state == DONE and (row.run is None or row.model is None):
            yield f"{name}: done, but no run holds its labels"
        if row.state == QUARANTINED and not row.error:
            yield f"{name}: quarantined without a reason"
    published = {str(run["run"]): run for run in ledger.runs("published")}
    started = {str(run["run"]) for run in ledger.runs("started")}
    for path in sorted((results / "runs").glob("*.zarr")):
        if path.stem not in published and path.stem not in started:
            yield f"{path}: a run that the ledger does not know"
    for run, rows in by_run.items():
        if run not in published:
            yield f"run {run}: holds labels of {len(rows)} files, but is not published"
    for run, record in published.items():
        yield from _run(results / "runs" / f"{run}.zarr", str(record["digest"]), by_run[run])


def _run(path: Path, digest: str, rows: list[FileRow]) -> Iterator[str]:
    try:
        held = Held(open_run(path))
        if root_digest(path) != digest:
            yield f"{path}: its attributes or arrays are not what was written"
    except (KmdistError, OSError) as error:
        yield f"{path}: {error}"
        return
    for row in rows:
        name = row.label_name or row.name
        try:
            found = held.digest(name)
            if found is None:
                yield f"{path}: the labels of {name} are missing"
            elif found != row.digest:
                yield f"{path}: the labels of {name} are damaged or incomplete"
        except (KmdistError, OSError) as error:
            yield f"{path}: the labels of {name} cannot be read: {error}"
