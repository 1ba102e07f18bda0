"""What a job says while it runs: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

import click

from kmdist.errors import on_command_line, shown_lines
from kmdist.job.progress import Event, Message

PLAIN_INTERVAL_S = 10.0


class Reporter:
    """Shows a recipe's events on standard error.

    Parameters
    ----------
    quiet : show nothing but warnings.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet
        self._stage = ""
        self._started_s = self._shown_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_line()

    def __call__(self, event: Event | Message) -> None:
        if isinstance(event, Message):
            if not self._quiet or event.warning:
                self._end_line()
                click.echo(shown_lines(on_command_line(event.text)), err=True)
            return
        if self._quiet:
            return
        now = time.monotonic()
        if event.stage != self._stage:
            self._end_line()
            self._stage, self._started_s, self._shown_s = event.stage, now, 0.0
        finished = event.done >= event.total > 0
        if now - self._shown_s < (0.1 if self._live else PLAIN_INTERVAL_S) and not finished:
            return
        self._shown_s = now
        line = self._line(event, now - self._started_s)
        if self._live:
            click.echo(f"\r\x1b[2K{line}", err=True, nl=False)
        else:
            click.echo(line, err=True)

    @staticmethod
    def _line(event: Event, elapsed_s: float) -> str:
        parts = [f"{event.stage:<9}"]
        if event.total:
            parts.append(f"{100 * event.done // event.total:3d} %")
            parts.append(f"{event.done:,}/{event.total:,} {event.unit}")
        else:
            parts.append(f"{event.unit} {event.done:,}")
        if event.mpx and elapsed_s > 0.05:
            parts.append(f"{event.mpx / elapsed_s:,.0f} Mpx/s")
            if event.total > event.done:
                left_s = elapsed_s / max(event.done, 1) * (event.total - event.done)
                parts.append(f"{left_s:.0f} s left")
        if event.note:
            parts.append(event.note)
        return "  ".join(parts)

    def _end_line(self) -> None:
        if self._live and self._stage and self._shown_s:
            click.echo("", err=True)
        self._stage = ""
