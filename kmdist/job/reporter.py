"""What a job says while it runs: a live line on a terminal or in a notebook, else plain lines."""

import json
import sys
import time
from dataclasses import asdict
from typing import Any, Self

import click

from kmdist.errors import on_command_line, shown_lines
from kmdist.job.progress import Event, Message, Watcher, watch_nothing

PLAIN_INTERVAL_S = 10.0


class Reporter:
    """Shows a recipe's events on standard error.

    Parameters
    ----------
    quiet : show nothing.
    verbose : show details too.
    as_json : a JSON object a line, for programs.
    on_command_line : name options as the command line does alone.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        as_json: bool = False,
        on_command_line: bool = True,
    ) -> None:
        self._quiet, self._verbose, self._as_json = quiet, verbose, as_json
        self._worded = on_command_line
        self._live = (sys.stderr.isatty() or in_notebook()) and not as_json
        self._stage, self._finished = "", False
        self._started_s = self._shown_s = 0.0
        self._width = 0  # of a line that is not ended
        self._displayed: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_line()

    def __call__(self, event: Event | Message) -> None:
        if self._quiet:
            return
        if isinstance(event, Message):
            if self._verbose or not event.detail:
                self._end_line()
                self._say(event)
            return
        now = time.monotonic()
        if event.stage != self._stage:
            self._end_line()
            self._shown_s = 0.0
        if event.stage != self._stage or self._finished:  # passes of one stage follow each other
            self._started_s = now
        self._stage, self._finished = event.stage, event.done >= event.total > 0
        interval_s = 0.1 if self._live else PLAIN_INTERVAL_S
        if now - self._shown_s < interval_s and not self._finished:
            return
        self._shown_s = now
        if self._as_json:
            self._say(event)
            return
        line = self._line(event, now - self._started_s)
        if not self._live:
            click.echo(line, err=True)
        elif in_notebook():
            self._display(line)
        else:
            click.echo(f"\r{line:<{self._width}}", err=True, nl=False)  # blanks over what was there
            self._width = len(line)
        if self._finished:
            self._end_line()

    def _display(self, line: str) -> None:
        """Show a line in the place of the one before, so that a notebook keeps the last alone."""
        from IPython.display import display

        shown = {"text/plain": line}
        if self._displayed is None:
            self._displayed = display(shown, raw=True, display_id=True)
        else:
            self._displayed.update(shown, raw=True)

    def _say(self, event: Event | Message) -> None:
        if self._as_json:
            kind = "message" if isinstance(event, Message) else "progress"
            click.echo(json.dumps({"event": kind, **asdict(event)}), err=True)
        elif isinstance(event, Message):
            text = on_command_line(event.text) if self._worded else event.text
            click.echo(shown_lines(text), err=True)

    @staticmethod
    def _line(event: Event, elapsed_s: float) -> str:
        parts = [f"{event.stage:<9}"]
        share = event.mpx / event.total_mpx if event.total_mpx else event.done / (event.total or 1)
        if event.total:
            parts += [f"{int(100 * share):3d} %", f"{event.done:,}/{event.total:,} {event.unit}"]
        else:
            parts.append(f"{event.unit} {event.done:,}")
        if event.total_mpx:
            parts.append(f"{event.mpx:,.1f}/{event.total_mpx:,.1f} Mpx")
        if event.mpx and elapsed_s > 0.05:
            parts.append(f"{event.mpx / elapsed_s:,.1f} Mpx/s")
        if 0 < share < 1 and event.total and elapsed_s > 1:
            parts.append(f"{elapsed_s / share * (1 - share):.0f} s left")
        if event.note:
            parts.append(event.note)
        return "  ".join(parts)

    def _end_line(self) -> None:
        if self._width:
            click.echo("", err=True)
        self._width, self._displayed = 0, None


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, with more than ipykernel imported."""
    if sys.modules.get("IPython") is None:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None  # that of a terminal has none


def watcher(watch: Watcher | None, progress: bool | None) -> Watcher:
    """Who watches a job that is called from Python.

    Parameters
    ----------
    watch : asked for; it goes before `progress`.
    progress : show it on standard error; None: on a terminal and in a notebook.
    """
    if watch is not None:
        return watch
    if progress or (progress is None and (sys.stderr.isatty() or in_notebook())):
        return Reporter(on_command_line=False)
    return watch_nothing
