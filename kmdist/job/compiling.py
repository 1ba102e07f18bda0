"""Compile kernels before the work begins, once per installation, and say so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

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


def exercise_palette_kernels(space: str) -> None:
    """Use every kernel of a quantize job once."""
    from kmdist.recipes.quantize.kernels.histogram import ColorCounter, merge_colors
    from kmdist.recipes.quantize.kernels.label_table import apply_table, borrowed_table
    from kmdist.recipes.quantize.palette import ColorCloud, fit_palette

    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    unclustered = np.zeros((4, 5), bool)
    with ColorCounter() as counter:
        counter.add(pixels)
        counter.add(pixels, unclustered)
        colors = counter.colors()
    colors = merge_colors([colors, colors])
    fit = fit_palette(ColorCloud(colors, space), 3)
    with borrowed_table(colors.codes, fit.labels) as table:
        apply_table(pixels, table)
