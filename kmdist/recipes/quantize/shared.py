"""One palette for many images: count colours block by block, fit once, label block by block.

Passes over the files: two, or one where decoded pixels are kept. Tasks: per block one to count
(two where pixels are kept: decode, count) and one to label; ⌈n/4⌉ + ⌈n/16⌉ + … to merge; for
images larger than a block, one a pyramid window of at most 8,192². Bytes that reach this process:
the merged histogram, 12 a distinct colour, at most 201 MB; that leave it: 16.8 MB of label table
per k, once a worker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kmdist.errors import ImageError, UsageError
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass
from kmdist.job.label_maps import Layer, label_blocks, label_items, open_sink
from kmdist.job.progress import Message
from kmdist.job.shared_fit import FitResult, SharedFit
from kmdist.recipes.quantize.blocks import COUNT, LABEL, Counted, decode_block
from kmdist.recipes.quantize.fidelity import Fidelity, write_fidelity
from kmdist.recipes.quantize.kernels.label_table import ColorLabels
from kmdist.recipes.quantize.palette import Palette
from kmdist.recipes.quantize.wanted import Wanted
from kmdist.store import unclustered_value


class PaletteGroup(SharedFit):
    """Images that share palettes."""

    wanted: Wanted

    def run(self) -> dict[int, dict[str, Any]]:
        """Count, fit, label and write."""
        job, wanted = self.job, self.wanted
        kept: dict[int, Any] = {}
        count = replace(COUNT, prepare=decode_block) if self.keep else COUNT
        counting = BlockPass(job, count, group=self.name, kept=kept)
        counted: Counted = counting.run(self.work, wanted.transparency)
        if not len(counted.colors):
            raise job.no_pixel("clustered")
        palettes = self._fit(counted)
        by_layer: Sequence[Mapping[str, Fidelity]] = [{} for _ in palettes]
        if self.label:
            by_layer = self._label(counted, kept, palettes)
        fits = {}
        for (k, palette), fidelity in zip(palettes.items(), by_layer, strict=True):
            figures: dict[str, Any] = (
                {"fidelity": fidelity.get(self.image)}
                if self.at_image
                else write_fidelity(job.writer, wanted.prefix(k), fidelity)
            )
            marker = unclustered_value(palette.k, bool(counted.marked))
            shown = wanted.transparency.record()
            fits[k] = fit_of(palette, **shown, **figures, unclustered=marker)
        self.write(fits)
        return {k: fit.record() for k, fit in fits.items()}

    def _fit(self, counted: Counted) -> dict[int, Palette]:
        job, choices = self.job, self.wanted.choices
        if choices:
            job.watch(Message(f"trying k = {choices[0]} … {choices[-1]}"))
        try:
            with job.timed("fit"):
                return self.wanted.fit_all(
                    counted.colors, counted.weighted, self.threads, self.say_state
                )
        except ImageError as error:  # not as good as is asked for, with --strict
            if not self.at_image:
                raise UsageError(error.reason) from error
            job.reject([Rejection(self.image, error.code, error.reason)])
            raise

    def _label(
        self, counted: Counted, kept: dict[int, Any], palettes: Mapping[int, Palette]
    ) -> list[Mapping[str, Fidelity]]:
        """Label and write; fidelity by name, one a palette."""
        job = self.job
        items = label_items(self.work, job.rejected, kept)
        layers = [Layer(self.wanted.prefix(k), p.k, p.palette) for k, p in palettes.items()]
        sink = open_sink(job, items, layers, frozenset(counted.marked))
        tables = [ColorLabels.of(counted.colors, one.labels) for one in palettes.values()]
        shared = job.pool.broadcast(tables), self.wanted.transparency
        found = label_blocks(job, LABEL, items, sink, *shared, group=self.name, kept=kept)
        return [
            {name: one for name, one in layer.items() if name not in job.rejected}
            for layer in found.fidelity or [{} for _ in palettes]
        ]


def fit_of(palette: Palette, **further: Any) -> FitResult:
    """A palette as a run holds it.

    Parameters
    ----------
    further : what the run's record says besides.
    """
    state = palette.state
    locked = {"locked": list(palette.locked)} if palette.locked else {}
    return FitResult(
        {"centroids": (state.centroids.astype(np.float32), ("cluster", "channel"))},
        palette.palette,
        state.counts.astype(np.int64),
        palette.history,
        palette.space,
        state.inertia,
        state.iteration,
        state.stop_reason,
        palette.warning,
        palette.selection,
        {**locked, **further},
    )
