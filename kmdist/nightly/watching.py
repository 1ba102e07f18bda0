"""Label what comes as it comes: nights that begin when there is something to do, in one process."""

import glob
import os
import threading
from collections.abc import Callable, Iterator

from kmdist.errors import KmdistError, UsageError
from kmdist.images.finding.find import is_sample
from kmdist.job.progress import Message, Watcher, watch_nothing
from kmdist.nightly.night import run_night
from kmdist.nightly.outcome import Night
from kmdist.nightly.settings import Clock, Settings, system_clock

IDLE_S = 3600.0
"""After which is looked again though nothing was told: network file systems tell nothing."""
STEP_S = 1.0
"""Between looks at the clock."""


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
        path = path[: min(path.find(sign) % (len(path) + 1) for sign in "*?[")]
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path
