"""Mend what `verify` finds: labels are made anew, a ledger is rebuilt from the runs.

Nothing is deleted: a damaged ledger and damaged runs are moved aside, into ``damaged/`` of the
results. What a night would do, a repair leaves to it, such as labelling what is new.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kmdist.errors import KmdistError, UsageError
from kmdist.job.progress import Message, Watcher, watch_nothing
from kmdist.nightly.checking import Finding, findings
from kmdist.nightly.digests import Held
from kmdist.nightly.ledger import (
    DONE,
    LEDGER,
    PENDING,
    WAITING,
    FileRow,
    Ledger,
    LedgerDamagedError,
)
from kmdist.nightly.lock import hold_lock
from kmdist.nightly.models import model_numbers, model_path, run_record
from kmdist.nightly.night import Worker
from kmdist.nightly.outcome import stamp_of
from kmdist.nightly.scan import read_contents
from kmdist.nightly.settings import Clock, Settings, system_clock
from kmdist.store import Run, open_run


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
    left : findings of `kmdist.nightly.verify` that remain.
    """

    aside: list[Path] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    remade: int = 0
    runs: tuple[str, ...] = ()
    changed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
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
            ledger.files(), ledger.runs("published"), ledger.runs("started"), ledger.models()
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
        for finding in list(self._findings()):
            if finding.unknown:
                self._adopt(finding.unknown)
        found = list(self._findings())
        damaged = {row.path: row for finding in found for row in finding.rows}
        self._remake(damaged)
        self._leave({finding.run for finding in found if finding.run})
        night = self.worker.night
        self.done.remade, self.done.runs = night.done, night.runs
        self.done.left = [finding.text for finding in self._findings()]

    def _findings(self) -> Iterator[Finding]:
        return findings(self.results, self.ledger)

    def _adopt(self, stamp: str) -> None:
        """Enter a run into the ledger, with all files of which it holds the latest labels."""
        path = self.results / "runs" / f"{stamp}.zarr"
        try:
            run = open_run(path)
            number = _model_number(run)
            if number is None:
                return  # nobody's night has made it
            record = run_record(self.results, number, run)
            rows = [self._row(run, number, *image) for image in _images(run)]
        except (KmdistError, OSError) as error:
            self.watch(Message(f"{path}: {error}; it is moved aside", warning=True))
            self.done.aside += _set_aside([path], self.results, stamp)
            return
        known = self.ledger.files()
        latest = [row for row in rows if (getattr(known.get(row.path), "run", "") or "") < stamp]
        with self.ledger.transaction():
            self.ledger.start_run(stamp, number)
            self.ledger.put_files(latest)
            self.ledger.finish_run(stamp, record)
        self.done.known.append(stamp)

    @staticmethod
    def _row(run: Run, number: int, name: str, source: str, digest: str) -> FileRow:
        """A file as a run that has labelled it says, and its contents if they are still those."""
        path = os.fsencode(os.path.abspath(source))
        row = FileRow(
            path,
            name,
            state=DONE,
            run=run.path.stem,
            label_name=name,
            model=number,
            digest=digest,
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
            path = self.results / "runs" / f"{run}.zarr"
            if path.exists():
                self.done.aside += _set_aside([path], self.results, run)
            with self.ledger.transaction():
                self.ledger.drop_run(run)


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
