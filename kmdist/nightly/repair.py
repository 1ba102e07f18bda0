"""Read all results again (`verify`), mend what that finds, and take files out of quarantine.

Labels are made anew, a ledger is rebuilt from the runs. Nothing is deleted: a damaged ledger and
damaged runs are moved aside, into ``damaged/`` of the results. What a night would do, a repair
leaves to it, such as labelling what is new.
"""

import fnmatch
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kmdist.errors import KmdistError, UsageError, shown
from kmdist.job.photographs import model_record
from kmdist.job.progress import Message, Watcher, watch_nothing
from kmdist.nightly.digests import Held, root_digest
from kmdist.nightly.ledger import (
    DONE,
    LEDGER,
    PENDING,
    QUARANTINED,
    WAITING,
    FileRow,
    Ledger,
    LedgerDamagedError,
    hold_lock,
)
from kmdist.nightly.models import model_numbers, model_path, run_record
from kmdist.nightly.night import Worker
from kmdist.nightly.outcome import open_ledger, run_path, stamp_of
from kmdist.nightly.scan import read_contents
from kmdist.nightly.settings import Clock, Settings, system_clock
from kmdist.store import Run, open_run
from kmdist.store.format.layout import group_metadata
from kmdist.store.format.names import candidate_keys


@dataclass(frozen=True)
class Finding:
    """What is missing, damaged, or not as the ledger says.

    Parameters
    ----------
    text : the finding in a line.
    rows : files whose labels are concerned.
    run : that cannot be used as a whole; unknown : that the ledger does not know.
    labels : run and name of labels that are damaged, or missing.
    """

    text: str
    rows: tuple[FileRow, ...] = ()
    run: str | None = None
    unknown: str | None = None
    labels: tuple[str, str] | None = None


def verify(results: Path) -> list[str]:
    """Find what is missing, damaged, or not as the ledger says.

    All objects of every run are read and their digests compared; but not labels that a later run
    stood for when the ledger was one of version 1, which had no digests of these.

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
        path = run_path(results, run)
        try:
            opened = open_run(path)
            yield from _root(opened, record["digest"], by_run[run], models.get(record["model"]))
        except (KmdistError, OSError) as error:
            yield Finding(f"{path}: {error}", tuple(by_run[run]), run)
            continue
        yield from _labels(opened, ledger.labels(run), by_run[run])


def _root(
    run: Run, digest: str | None, rows: list[FileRow], model: Run | None
) -> Iterator[Finding]:
    path = run.path
    if root_digest(path) != digest:
        text = f"{path}: its attributes or arrays are not what was written"
        yield Finding(text, tuple(rows), path.stem)
    elif (path / "images").is_dir() and not _is_group(path / "images" / "zarr.json"):
        yield Finding(f"{path}: its group of images is damaged", tuple(rows), path.stem)
    if model is not None and not is_made_with(run, model):
        yield Finding(f"{path}: was labelled with another model than {model.path}")


def _labels(run: Run, digests: Mapping[str, str], rows: list[FileRow]) -> Iterator[Finding]:
    """What of a run's labels is not as written; with the file whose latest labels they are."""
    held, by_name = Held(run), {row.label_name or row.name: row for row in rows}
    for name in sorted({*digests, *by_name}):
        text = f"{run.path}: the labels of {name}"
        try:
            found = held.digest(name)
            if found == digests.get(name, ""):
                continue
            text += " are missing" if found is None else " are damaged or incomplete"
        except (KmdistError, OSError) as error:
            text += f" cannot be read: {error}"
        row = by_name.get(name)
        yield Finding(text, (row,) if row else (), labels=(run.path.stem, name))


def _is_group(path: Path) -> bool:
    """Whether it is what all groups of images have; digests are of what differs."""
    return path.is_file() and path.read_bytes() == group_metadata()


def is_made_with(run: Run, model: Run) -> bool:
    """Whether a run was labelled with these clusters, as far as it says."""
    made_with, key = run.parameters.get("model"), "centroids_sha256"
    return not isinstance(made_with, dict) or made_with.get(key) == model_record(model)[key]


@dataclass
class Repair:
    """What a repair did.

    Parameters
    ----------
    aside : what was damaged and was moved, where it lies now.
    known : runs that the ledger did not know, and does now.
    remade : files labelled anew, with the model they had; runs : the runs that hold these.
    changed : files whose labels were lost and that have changed since: the next night labels them.
    lost : files whose labels were lost and that are not there any more.
    superseded : findings of labels that a later run stands for: they are moved aside.
    left : findings of `kmdist.nightly.verify` that remain.
    """

    aside: list[Path] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    remade: int = 0
    runs: tuple[str, ...] = ()
    changed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def repair(
    settings: Settings, *, clock: Clock = system_clock, watch: Watcher = watch_nothing
) -> Repair:
    """Make damaged and lost results anew, with the model they had.

    Parameters
    ----------
    settings : of the nights; its inputs are not looked into.

    Raises
    ------
    UsageError : there are no results.
    LockHeldError : a night is running.
    """
    results = settings.results
    if not (results / "runs").is_dir() and not (results / LEDGER).is_file():
        raise UsageError(f"{results} holds no ledger and no runs: no night has run with it yet")
    with hold_lock(results):
        done = Repair()
        if not _is_sound(results / LEDGER):
            done.aside += _set_aside(_ledger_files(results), results, stamp_of(clock()))
        with Ledger.open(results / LEDGER) as ledger:
            _Repairer(results, ledger, Worker(settings, ledger, clock, watch), done, watch).run()
        return done


def _is_sound(path: Path) -> bool:
    """Whether all that a ledger holds can be read; True where there is none."""
    try:
        with Ledger.open(path) as ledger:
            if ledger.damage():
                return False
            ledger.files(), ledger.runs("started"), ledger.models()
            for run in ledger.runs("published"):
                ledger.labels(run["run"])
    except LedgerDamagedError:
        return False
    return True


def _ledger_files(results: Path) -> Iterator[Path]:
    """The ledger, and its log, which is of no other."""
    return (path for path in sorted(results.glob(f"{LEDGER}*")) if path.is_file())


def _set_aside(paths: Iterable[Path], results: Path, stamp: str) -> list[Path]:
    """Move what is damaged into ``damaged/STAMP/``, or the next free name."""
    folder, number = results / "damaged" / stamp, 1
    while folder.exists():
        number += 1
        folder = results / "damaged" / f"{stamp}-{number}"
    moved = [(path, folder / path.name) for path in paths]
    if moved:
        folder.mkdir(parents=True)
    for path, place in moved:
        os.rename(path, place)
    return [place for _, place in moved]


@dataclass
class _Repairer:
    results: Path
    ledger: Ledger
    worker: Worker
    done: Repair
    watch: Watcher

    def run(self) -> None:
        for number in model_numbers(self.results):
            if number not in self.ledger.models():
                made_s = model_path(self.results, number).stat().st_mtime
                self.ledger.add_model(number, made_s)
        self.worker.recover()
        found = list(self._findings())
        unknown = [finding.unknown for finding in found if finding.unknown]
        if unknown:
            for stamp in unknown:
                self._adopt(stamp)
            found = list(self._findings())
        damaged = {row.path: row for finding in found for row in finding.rows}
        self._remake(damaged)
        self._leave({finding.run for finding in found if finding.run})
        self.done.superseded = [one.text for one in found if one.labels and not one.rows]
        if any(one.labels for one in found):
            self._forget_superseded()
        night = self.worker.night
        self.done.remade, self.done.runs = night.done, night.runs
        self.done.left = [finding.text for finding in self._findings()]

    def _findings(self) -> Iterator[Finding]:
        return findings(self.results, self.ledger)

    def _adopt(self, stamp: str) -> None:
        """Enter a run into the ledger, with all files of which it holds the latest labels."""
        path = run_path(self.results, stamp)
        try:
            run = open_run(path)
            number = _model_number(run)
            if number is None:
                return  # nobody's night has made it
            record = run_record(self.results, number, run)
            images = list(_images(run))
            rows = [self._row(run, number, name, source) for name, source, _ in images]
        except (KmdistError, OSError) as error:
            self.watch(Message(f"{path}: {error}; it is moved aside", warning=True))
            self.done.aside += _set_aside([path], self.results, stamp)
            return
        known = self.ledger.files()
        latest = [row for row in rows if (getattr(known.get(row.path), "run", "") or "") < stamp]
        with self.ledger.transaction():
            self.ledger.start_run(stamp, number)
            self.ledger.put_files(latest)
            digests = {name: digest for name, _, digest in images}
            self.ledger.finish_run(stamp, record, digests)
        self.done.known.append(stamp)

    @staticmethod
    def _row(run: Run, number: int, name: str, source: str) -> FileRow:
        """A file as a run that has labelled it says, and its contents if they are still those."""
        path = os.fsencode(os.path.abspath(source))
        row = FileRow(
            path,
            name,
            state=DONE,
            run=run.path.stem,
            label_name=name,
            model=number,
        )
        made_ns = (run.path / "zarr.json").stat().st_mtime_ns
        try:
            contents, size, mtime_ns, ctime_ns = read_contents(path)
        except OSError:
            return replace(row, gone=1)
        if max(mtime_ns, ctime_ns) > made_ns:
            return replace(row, state=WAITING)  # whose contents were labelled is not known
        row = replace(row, size=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns)
        return replace(row, hash=contents, next_hash=contents)

    def _remake(self, damaged: dict[bytes, FileRow]) -> None:
        """Label files whose labels are damaged or lost, with the models they had."""
        by_model: dict[int, dict[bytes, FileRow]] = defaultdict(dict)
        anew = []
        for path, row in damaged.items():
            if row.state != DONE or row.run is None or row.model is None:
                state = row.state if row.state == WAITING else PENDING
                anew.append(replace(row, run=None, state=state, error=None, hash=None))
            elif not self._has_model(row.model):
                continue  # stays a finding: another model would give other labels
            elif self._is_there(row):
                by_model[row.model][path] = row
            else:
                anew.append(replace(row, run=None, state=PENDING, hash=None))
        with self.ledger.transaction():
            self.ledger.put_files(anew)
        for number, rows in sorted(by_model.items()):
            self.watch(Message(f"labelling {len(rows):,} files anew with model {number:04d}"))
            self.worker.label_with(number, rows)

    def _is_there(self, row: FileRow) -> bool:
        """Whether a file is as it was labelled; where not, this is noted."""
        name = os.fsdecode(row.path)
        try:
            if read_contents(row.path)[0] == row.hash:
                return True
            self.done.changed.append(name)
        except OSError:
            self.done.lost.append(name)
        return False

    def _has_model(self, number: int) -> bool:
        try:
            return open_run(model_path(self.results, number)).centroids is not None
        except KmdistError:
            return False

    def _leave(self, runs: set[str]) -> None:
        """Forget runs that are damaged as a whole, once none of their labels is needed."""
        for run in sorted(runs):
            if self.ledger.files("run = ?", run):
                continue
            path = run_path(self.results, run)
            if path.exists():
                self.done.aside += _set_aside([path], self.results, run)
            with self.ledger.transaction():
                self.ledger.drop_run(run)

    def _forget_superseded(self) -> None:
        """Take damaged labels that are no file's latest out of their runs, and forget them."""
        damaged = defaultdict(list)
        for finding in self._findings():
            if finding.labels and not finding.rows:
                run, name = finding.labels
                damaged[run].append(name)
        for run, names in damaged.items():
            path = run_path(self.results, run)
            places = [place for name in names if (place := _node(path, name)) is not None]
            self.done.aside += _set_aside(places, self.results, run)
            with self.ledger.transaction():
                for name in names:
                    self.ledger.drop_labels(run, name)


def _node(run: Path, name: str) -> Path | None:
    """Where a run holds an image, damaged or not; None where it holds none of the name."""
    try:
        if name not in open_run(run).images:
            return None
    except KmdistError:
        pass  # damaged: it is the first of the nodes that it can be
    places = (run / "images" / key for key in candidate_keys(name))
    return next((place for place in places if place.exists()), None)


def _model_number(run: Run) -> int | None:
    """Number of the model that labelled a run of a night; None of any other run."""
    made_with: Any = run.parameters.get("model")
    path = Path(str(made_with.get("path"))) if isinstance(made_with, dict) else Path()
    return int(path.stem) if path.parent.name == "models" and path.stem.isdecimal() else None


def _images(run: Run) -> Iterator[tuple[str, str, str]]:
    """Name, path and digest of what a run holds of each image that it did not reject.

    The digest is empty where the labels cannot be read: what they were is not known.
    """
    held = Held(run)
    rejected = {one["image"] for one in run.attributes.get("rejected") or ()}
    sources = {name: run.images[name].source for name in run.images}
    sources |= dict(zip(run.names, run.paths, strict=False))
    for name, source in sources.items():
        if name not in rejected:
            yield name, source, (held.digest(name) or "") if held.is_readable(name) else ""


def retry(results: Path, paths: Sequence[str | os.PathLike[str]] = ()) -> list[str]:
    """Take files out of quarantine.

    Parameters
    ----------
    paths : files, folders or globs, or the end of the path of one file; none: all that are
        quarantined.

    Returns
    -------
    list of str : paths of the files.

    Raises
    ------
    UsageError : there is no ledger, or a path is of no quarantined file, or ends several.
    LockHeldError : a night is running.
    """
    with open_ledger(results):  # which says what is missing
        pass
    with hold_lock(results), Ledger.open(results / LEDGER) as ledger:
        rows = {
            os.fsdecode(path): row for path, row in ledger.files("state = ?", QUARANTINED).items()
        }
        chosen = set() if paths else set(rows)
        for text in paths:
            whole = os.path.abspath(os.path.expanduser(text))
            found = {
                path
                for path in rows
                if path == whole
                or path.startswith(whole + os.sep)
                or fnmatch.fnmatchcase(path, whole)
            }
            if not found:  # as a file is found whose labels are looked for
                found = {path for path in rows if path.endswith(f"{os.sep}{os.fspath(text)}")}
                if len(found) > 1:
                    listed = ", ".join(map(shown, sorted(found)[:3]))
                    raise UsageError(f"{os.fspath(text)!r} are {len(found)} files: {listed}")
            if not found:
                raise UsageError(f"{os.fspath(text)}: no quarantined file is there or matches it")
            chosen |= found
        with ledger.transaction():
            ledger.put_files(
                # Without its hash it is no file that is known to be bad.
                replace(rows[path], state=PENDING, error=None, hash=None)
                for path in chosen
            )
    return sorted(chosen)
