"""Read all results again, and hold them against the ledger."""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kmdist.errors import KmdistError
from kmdist.job.photographs import model_record
from kmdist.nightly.digests import Held, root_digest
from kmdist.nightly.ledger import DONE, QUARANTINED, FileRow, Ledger
from kmdist.nightly.models import model_path
from kmdist.nightly.report import open_ledger
from kmdist.store import Run, open_run
from kmdist.store.format.layout import group_metadata


@dataclass(frozen=True)
class Finding:
    """What is missing, damaged, or not as the ledger says.

    Parameters
    ----------
    text : the finding in a line.
    rows : files whose labels are concerned.
    run : that cannot be used as a whole; unknown : that the ledger does not know.
    """

    text: str
    rows: tuple[FileRow, ...] = ()
    run: str | None = None
    unknown: str | None = None


def verify(results: Path) -> list[str]:
    """Find what is missing, damaged, or not as the ledger says.

    Every object of every run is read and its digest compared.

    Returns
    -------
    list of str : findings, one a line; empty if all is well.
    """
    with open_ledger(results) as ledger:
        return [*ledger.damage(), *(finding.text for finding in findings(results, ledger))]


def findings(results: Path, ledger: Ledger) -> Iterator[Finding]:
    """What is wrong with models, runs and the labels of each file."""
    models: dict[int, Run] = {}
    for number in sorted(ledger.model_numbers()):
        try:
            model = open_run(model_path(results, number))
            if model.centroids is None:
                yield Finding(f"model {number}: has no centroids")
            else:
                models[number] = model
        except KmdistError as error:
            yield Finding(f"model {number}: {error}")
    by_run: dict[str, list[FileRow]] = defaultdict(list)
    for row in ledger.files().values():
        name = os.fsdecode(row.path)
        if row.run is not None:
            by_run[row.run].append(row)
        if row.state == DONE and (row.run is None or row.model is None):
            yield Finding(f"{name}: done, but no run holds its labels", (row,))
        if row.state == QUARANTINED and not row.error:
            yield Finding(f"{name}: quarantined without a reason", (row,))
    published = {run["run"]: run for run in ledger.runs("published")}
    started = {run["run"] for run in ledger.runs("started")}
    for path in sorted((results / "runs").glob("*.zarr")):
        if path.stem not in published and path.stem not in started:
            text = f"{path}: a run that the ledger does not know"
            yield Finding(text, unknown=path.stem)
    for run, rows in by_run.items():
        if run not in published:
            text = f"run {run}: holds labels of {len(rows)} files, but is not published"
            yield Finding(text, tuple(rows))
    for run, record in published.items():
        path = results / "runs" / f"{run}.zarr"
        yield from _run(path, record["digest"], by_run[run], models.get(record["model"]))


def _run(
    path: Path, digest: str | None, rows: list[FileRow], model: Run | None
) -> Iterator[Finding]:
    try:
        run = open_run(path)
        held = Held(run)
        if root_digest(path) != digest:
            text = f"{path}: its attributes or arrays are not what was written"
            yield Finding(text, tuple(rows), path.stem)
        elif (path / "images").is_dir() and not _is_group(path / "images" / "zarr.json"):
            yield Finding(f"{path}: its group of images is damaged", tuple(rows), path.stem)
        if model is not None and not is_made_with(run, model):
            yield Finding(f"{path}: was labelled with another model than {model.path}")
    except (KmdistError, OSError) as error:
        yield Finding(f"{path}: {error}", tuple(rows), path.stem)
        return
    for row in rows:
        name = row.label_name or row.name
        try:
            found = held.digest(name)
            if found is None:
                yield Finding(f"{path}: the labels of {name} are missing", (row,))
            elif found != row.digest:
                text = f"{path}: the labels of {name} are damaged or incomplete"
                yield Finding(text, (row,))
        except (KmdistError, OSError) as error:
            yield Finding(f"{path}: the labels of {name} cannot be read: {error}", (row,))


def _is_group(path: Path) -> bool:
    """Whether it is what all groups of images have; digests are of what differs."""
    return path.is_file() and path.read_bytes() == group_metadata()


def is_made_with(run: Run, model: Run) -> bool:
    """Whether a run was labelled with these clusters, as far as it says."""
    made_with, key = run.parameters.get("model"), "centroids_sha256"
    return not isinstance(made_with, dict) or made_with.get(key) == model_record(model)[key]
