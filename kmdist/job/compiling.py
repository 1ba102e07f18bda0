"""Compile kernels before the work begins, once per installation, and say so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kmdist.job.progress import Message, Watcher


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
