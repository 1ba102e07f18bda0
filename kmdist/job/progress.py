"""What recipes tell those who watch: one callback serves every front end."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """How far a stage is.

    Parameters
    ----------
    stage : a word, such as ``histogram``, ``fit``, ``label``.
    done, total : in `unit`; total 0 where the end is not known.
    unit : what is counted.
    mpx : megapixels behind `done`, or 0.
    note : what else matters now, such as the inertia.
    """

    stage: str
    done: int
    total: int
    unit: str = "blocks"
    mpx: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Message:
    """A line to say once; warnings are said even where little is."""

    text: str
    warning: bool = False


Watcher = Callable[[Event | Message], None]


def watch_nothing(_: Event | Message) -> None:
    """A watcher for callers who want silence."""
