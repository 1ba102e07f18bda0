"""What recipes tell those who watch: one callback serves every front end. Compiling is told too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


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


@contextmanager
def said_once(watch: Watcher) -> Iterator[None]:
    """Tell `watch` when numba begins to compile; loading from its cache is not told."""
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]
        said = False

        def on_start(self, _: Any) -> None:
            if not self.said:
                self.said = True
                watch(Message("compiling kernels, once per installation: a few seconds"))

        def on_end(self, _: Any) -> None:
            """Nothing to say."""

    with event.install_listener("numba:compile", Listener()):
        yield


def compile_kernels(exercise: Callable[[], object], watch: Watcher) -> None:
    """Run `exercise` on next to nothing, so that its kernels are compiled and cached.

    Local workers then load them from the cache instead of compiling them all at once.
    """
    with said_once(watch):
        exercise()
