"""One night: finish what was interrupted, look, fit a model if one is due, label, record.

Or, with ``--watch``, night after night in one process, each as there is something to do.

Safe against a kill at any moment, since every step is one of these: a transaction of the ledger,
or a run that is published by one rename and noted in the ledger before it begins. A run noted as
started and found published is recorded; found unfinished, it is resumed.
"""

import glob
import math
import os
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from inspect import unwrap
from typing import Any

from kmdist.errors import KmdistError, UsageError
from kmdist.images import Rejection
from kmdist.images.finding.files import glob_folder
from kmdist.images.finding.find import is_sample
from kmdist.job.job import Deadline, NoUsableImageError, OutOfTimeError
from kmdist.job.progress import Message, Watcher, watch_nothing
from kmdist.nightly.digests import Held
from kmdist.nightly.ledger import (
    DONE,
    LEDGER,
    PENDING,
    QUARANTINED,
    WAITING,
    FileRow,
    Ledger,
    hold_lock,
)
from kmdist.nightly.models import (
    current_model,
    fit_model,
    is_due,
    model_path,
    require_same_options,
    run_record,
)
from kmdist.nightly.outcome import InputError, Night, run_path, stamp_of
from kmdist.nightly.scan import compare, found_of, look, part_inputs
from kmdist.nightly.settings import Clock, Settings, system_clock
from kmdist.recipes.predict import predict
from kmdist.recipes.registry import recipe_named
from kmdist.store import open_run

IDLE_S = 3600.0
"""After which is looked again though nothing was told: network file systems tell nothing."""
STEP_S = 1.0
"""Between looks at the clock."""


def run_night(
    settings: Settings, *, clock: Clock = system_clock, watch: Watcher = watch_nothing
) -> Night:
    """Run one night.

    Parameters
    ----------
    clock : the time; injected where nights are simulated.

    Raises
    ------
    LockHeldError : another night is running.
    KmdistError : an input is not there, the disk is full, the cluster is gone …; the next night
        goes on.
    """
    with (
        hold_lock(settings.results),
        Ledger.open(settings.results / LEDGER) as ledger,
    ):
        ledger.require_known()
        return Worker(settings, ledger, clock, watch).run()


class Worker:
    """A night at work: `run` is the whole of it, `recover` and `label_with` its parts."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Clock, watch: Watcher) -> None:
        self.settings, self.ledger, self.clock = settings, ledger, clock
        self._watch = watch
        due = settings.deadline(clock())
        self._deadline = None if due is None else Deadline(due, clock)
        self.night = Night(stamp_of(clock()))

    def run(self) -> Night:
        try:
            self.recover()
            self._fitted()
            rows = self._look()
            if any(self._wanted(row) for row in rows.values()) or self.settings.relabel:
                self._label(rows)
        except OutOfTimeError as reason:
            self.night.stopped = True
            self._watch(Message(str(reason), warning=True))
        counts = self.ledger.counts()
        self.night.waiting = counts.get(WAITING, 0)
        self.night.pending = counts.get(PENDING, 0)
        self.night.write(self.settings.results, self.settings.keep_nights)
        if self.settings.inputs and set(self.settings.inputs) <= set(self.night.errors):
            told = "; ".join(f"input {text} {why}" for text, why in self.night.errors.items())
            raise InputError(f"{told}; nothing was changed")
        return self.night

    def _check_time(self) -> None:
        if self._deadline is not None:
            self._deadline.check()

    def recover(self) -> None:
        """Record runs that were published as a crash came, and go on with unfinished ones."""
        for started in self.ledger.runs("started"):
            run, number = started["run"], started["model"]
            rows = self.ledger.files("going = ?", run)
            self._check_time()
            if run_path(self.settings.results, run).is_dir():
                self._record(run, number, rows, ())
            elif not rows:
                self.ledger.drop_run(run)
            else:
                self._watch(Message(f"going on with the interrupted run {run}"))
                self._predict(run, number, rows)

    def _look(self) -> dict[bytes, FileRow]:
        """Scan, and bring the ledger up to date with what is there."""
        known = self.ledger.files()
        name_in_run = recipe_named(self.settings.recipe).name_in_run
        inputs = part_inputs(self.settings.inputs)
        seen, unusable = look(inputs.good, name_in_run, self.settings.choice)
        inputs.fail_hidden(seen, unusable, known)
        self.night.errors = inputs.failed
        for text, reason in inputs.failed.items():
            self._watch(Message(f"input {text} {reason}; its files keep their state", warning=True))
        now_s = self.clock().timestamp()
        findings = compare(seen, unusable, known, now_s, self.settings.grace_s, inputs)
        with self.ledger.transaction():
            self.ledger.put_files(findings.rows.values())
        self.night.new = len(findings.new)
        self.night.changed = len(findings.changed)
        self.night.vanished = len(findings.vanished)
        self.night.waits = {os.fsdecode(path): why for path, why in findings.waiting.items()}
        self.night.ready_s = None if math.isinf(findings.ready_s) else findings.ready_s
        self.night.set_aside(findings.rows[path] for path in unusable if path in findings.new)
        known.update(findings.rows)
        return known

    @staticmethod
    def _wanted(row: FileRow) -> bool:
        return row.state == PENDING and not row.gone

    def _label(self, rows: dict[bytes, FileRow]) -> None:
        number = self._model(rows)
        if number is None:
            return
        work = {path: row for path, row in rows.items() if self._wanted(row)}
        if self.settings.relabel:
            work.update(
                (path, row)
                for path, row in rows.items()
                if row.state == DONE and not row.gone and (row.model or 0) < number
            )
        if not work:
            return
        self.label_with(number, work)

    def label_with(self, number: int, work: Mapping[bytes, FileRow]) -> None:
        """Label files with a model, into a run of their own."""
        self._check_time()
        run = self._free_stamp()
        with self.ledger.transaction():
            self.ledger.start_run(run, number)
            self.ledger.put_files(replace(row, going=run) for row in work.values())
        self._predict(run, number, work)

    def _fitted(self) -> tuple[int | None, bool]:
        """The newest model, and whether a newer one is due; one that is to stay fits the options.

        Looked at before the images are, so that a spec is refused whether or not there are new.
        """
        number = current_model(self.settings, self.ledger, self.clock())
        due = is_due(self.settings, self.ledger, number, self.clock())
        if number is not None and not due:
            require_same_options(self.settings, number)
        return number, due

    def _model(self, rows: dict[bytes, FileRow]) -> int | None:
        """The model to label with, fitted first where one is due; None where none can be had."""
        number, due = self._fitted()
        if not due:
            return number
        fresh = (number or 0) + 1
        while True:
            try:
                fitted = fit_model(
                    self.settings,
                    self.ledger,
                    rows,
                    fresh,
                    watch=self._watch,
                    deadline=self._deadline,
                )
                if fitted is None:
                    return number
                break
            except NoUsableImageError as error:
                # Without the bad ones there may be others, that the sample had no room for.
                if not self._set_aside(rows, error.rejections):
                    return number
        self.ledger.add_model(fresh, self.clock().timestamp())
        self.night.fitted = True
        return fresh

    def _set_aside(self, rows: dict[bytes, FileRow], rejections: tuple[Rejection, ...]) -> int:
        """Quarantine the images of a sample of which none could be used."""
        sample = {name: path for path, name in self.ledger.sample()}
        reasons = {r.image: f"{r.code}: {r.reason}" for r in rejections}
        changed = []
        for name, path in sample.items():
            error = reasons.get(name, "transparent: every pixel is transparent")
            row = rows.get(path)
            if row is not None and row.state == PENDING:
                rows[path] = quarantined(row, error)
                changed.append(rows[path])
        with self.ledger.transaction():
            self.ledger.put_files(changed)
        self.ledger.set_sample(())
        self.night.set_aside(changed)
        return len(changed)

    def _predict(self, run: str, number: int, rows: Mapping[bytes, FileRow]) -> None:
        """Label, publish, record. What cannot be used at all is recorded without a run."""
        try:
            unwrap(predict)(  # which takes options in one
                model_path(self.settings.results, number),
                found_of(rows.values()),
                run_path(self.settings.results, run),
                options=self.settings.labelling_options,
                watch=self._watch,
                command=self.settings.command,
                deadline=self._deadline,
            )
        except NoUsableImageError as error:
            rejected = {r.image: r for r in error.rejections}
            for row in rows.values():
                reason = "every pixel is transparent"
                rejected.setdefault(row.name, Rejection(row.name, "transparent", reason))
            self._record(None, number, rows, tuple(rejected.values()))
            with self.ledger.transaction():
                self.ledger.drop_run(run)
            return
        self._record(run, number, rows, ())

    def _record(
        self,
        run: str | None,
        number: int,
        rows: Mapping[bytes, FileRow],
        rejections: tuple[Rejection, ...],
    ) -> None:
        """Bring the ledger up to date with a published run, in one transaction."""
        reasons = {r.image: (r.code, r.reason) for r in rejections}
        digests: dict[str, str] = {}
        result: dict[str, Any] = {}
        if run is not None:
            opened = open_run(run_path(self.settings.results, run))
            rejected = opened.attributes.get("rejected") or []
            reasons.update((r["image"], (r["code"], r["reason"])) for r in rejected)
            names, held = [row.name for row in rows.values()], Held(opened)
            found = {name: held.digest(name) for name in names if name not in reasons}
            digests = {name: digest for name, digest in found.items() if digest is not None}
            result = run_record(self.settings.results, number, opened)
        after = [settled(row, run, number, reasons, digests.keys()) for row in rows.values()]
        with self.ledger.transaction():
            self.ledger.put_files(after)
            if run is not None:
                self.ledger.finish_run(run, result, digests)
        done = sum(row.state == DONE for row in after)
        self.night.done += done
        self.night.set_aside(after)
        self.night.model = number
        if run is not None:
            self.night.drift = result["drift"]
            self.night.runs = (*self.night.runs, run)

    def _free_stamp(self) -> str:
        """The time, or the next second that no run has taken."""
        results, moment = self.settings.results, self.clock()
        taken = {run["run"] for run in self.ledger.runs("published")}
        while (stamp := stamp_of(moment)) in taken or run_path(results, stamp).exists():
            moment += timedelta(seconds=1)
        return stamp


def quarantined(row: FileRow, error: str) -> FileRow:
    """A file that is set aside, until its contents change."""
    return replace(row, state=QUARANTINED, error=error, hash=row.next_hash, going=None)


def settled(
    row: FileRow,
    run: str | None,
    number: int,
    reasons: Mapping[str, tuple[str, str]],
    labelled: Container[str],
) -> FileRow:
    """A file's row after a run.

    Parameters
    ----------
    run : that was published; None: nothing in it could be used.
    number : of the model.
    reasons : code and reason of each image that was rejected, by name.
    labelled : names of images whose labels the run holds.
    """
    if row.name in labelled:
        return replace(
            row,
            state=DONE,
            error=None,
            hash=row.next_hash,
            run=run,
            label_name=row.name,
            model=number,
            going=None,
        )
    code, reason = reasons.get(row.name, ("missing", "not in the run"))
    if code in ("changed", "missing"):  # the next night sees what has become of it
        return replace(row, going=None, state=PENDING)
    return quarantined(row, f"{code}: {reason}")


def watch_nights(
    settings: Settings,
    *,
    clock: Clock = system_clock,
    watch: Watcher = watch_nothing,
    on_night: Callable[[Night], None] = lambda night: None,
    stop: threading.Event | None = None,
) -> None:
    """Run a night now, and whenever files that came or changed have been left alone long enough.

    What ends a night and may pass, such as a full disk, an input that is not mounted or another
    night at work, is told to `watch`, and tried again.

    Parameters
    ----------
    on_night : called with each night that did something.
    stop : ends it when set; besides, the hour of ``until`` and interruption do.

    Raises
    ------
    UsageError : the package watchfiles is not installed, or the settings fit no night.
    """
    due_s: float | None = clock().timestamp()
    told = _changes(settings, clock, lambda: due_s, stop)
    while True:
        now_s = clock().timestamp()
        if due_s is not None and now_s >= due_s:
            due_s = None
            try:
                night = run_night(settings, clock=clock, watch=watch)
            except UsageError:
                raise
            except KmdistError as error:
                watch(Message(str(error), warning=True))
            else:
                due_s = night.ready_s
                if night.new or night.changed or night.done or night.vanished or night.errors:
                    on_night(night)
                if night.stopped:
                    return
        changed = next(told, None)
        if changed is None:
            return
        if due_s is None:
            due_s = clock().timestamp() + (settings.grace_s if changed else 0.0)


def _changes(
    settings: Settings,
    clock: Clock,
    due: Callable[[], float | None],
    stop: threading.Event | None,
) -> Iterator[bool]:
    """Waits until something changes in the inputs (True), or until the time has come (False)."""
    try:
        import watchfiles
    except ImportError as error:
        raise UsageError(f"--watch: {error}; pip install 'kmdist[watch]'") from error
    folders = sorted({*map(_folder, settings.inputs)} - {""})
    if not folders:
        raise UsageError(f"--watch: {', '.join(settings.inputs)}: there is no folder to watch")
    results = os.path.abspath(settings.results)
    told = watchfiles.watch(
        *folders,
        watch_filter=lambda change, path: not f"{path}{os.sep}".startswith(results + os.sep),
        rust_timeout=int(1000 * STEP_S),
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=True,
    )

    def wait() -> Iterator[bool]:
        waited_s = 0.0
        for changes in told:
            due_s = due()
            waited_s += STEP_S
            if changes or (due_s is not None and clock().timestamp() >= due_s) or waited_s > IDLE_S:
                waited_s = 0.0
                yield bool(changes)

    return wait()


def _folder(text: str) -> str:
    """The folder to watch for an input; none for samples, and for what is not there."""
    path = os.path.abspath(os.path.expanduser(text))
    if is_sample(text):
        return ""
    if glob.has_magic(path) and not os.path.lexists(path):
        path = glob_folder(path)
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path
