"""What recipes tell those who watch: one callback serves every front end. Compiling is told too."""

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
    mpx, total_mpx : megapixels that are done, and of all; 0 where they are not what takes time.
    note : what else matters now, such as the inertia.
    """

    stage: str
    done: int
    total: int
    unit: str = "images"
    mpx: float = 0.0
    total_mpx: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Message:
    """A line to say once: warnings even where little is said, details where much is."""

    text: str
    warning: bool = False
    detail: bool = False


Watcher = Callable[[Event | Message], None]


def watch_nothing(_: Event | Message) -> None:
    """A watcher for callers who want silence."""


def compile_kernels(exercise: Callable[[], object], watch: Watcher) -> None:
    """Run `exercise` on next to nothing, so that its kernels are compiled and cached.

    Local workers then load them from the cache instead of compiling them all at once.
    """
    from kmdist.kernel_cache import told_of_compiling

    with told_of_compiling(lambda text: watch(Message(text))):
        exercise()
