"""One palette for many images: count colours block by block, fit once, label block by block.

Passes over the files: two, or one where decoded pixels are kept. Tasks: per block one to count
(two where pixels are kept: decode, count) and one to label; ⌈n/4⌉ + ⌈n/16⌉ + … to merge; for
images larger than a block, one a pyramid window of at most 8,192². Bytes that reach this process:
the merged histogram, 12 a distinct colour, at most 201 MB; that leave it: 16.8 MB of label table
per k, once a worker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.engine.lloyd import State
from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass
from kmdist.job.job import Job, NoUsableImageError
from kmdist.job.label_maps import Layer, label_blocks, label_items, open_sink
from kmdist.job.photographs import Photographs
from kmdist.job.progress import Event, Message
from kmdist.job.work import Work
from kmdist.recipes.quantize.blocks import COUNT, LABEL, Counted, decode_block
from kmdist.recipes.quantize.fidelity import Fidelity, write_fidelity
from kmdist.recipes.quantize.kernels.label_table import ColorLabels
from kmdist.recipes.quantize.palette import Palette
from kmdist.recipes.quantize.wanted import Wanted
from kmdist.store import unclustered_value


def quantize_shared(
    job: Job, workload: Photographs, wanted: Wanted, *, label: bool = True
) -> dict[int, dict[str, Any]]:
    """Fit the wanted palettes to all images together and, unless told not to, label them.

    Returns
    -------
    dict : attributes of the run, by the number of colours asked for.
    """
    group = Group(job, workload.blocks, keep=job.keep)
    prefixes = {k: wanted.prefix(k) for k in wanted.ks}
    return group.quantize(wanted, prefixes, label=label)


@dataclass
class Group:
    """Images that share palettes: the whole collection, or one image larger than a block.

    Parameters
    ----------
    work : the blocks of these images.
    keep : keep decoded pixels on the workers between the passes.
    name : tells the manifests of several groups apart.
    """

    job: Job
    work: Sequence[Work]
    keep: bool = False
    name: str = ""

    def quantize(
        self,
        wanted: Wanted,
        prefix_of: Mapping[int, str],
        *,
        at_image: bool = False,
        label: bool = True,
    ) -> dict[int, dict[str, Any]]:
        """Count, fit, label and write; see `quantize_shared`.

        Parameters
        ----------
        prefix_of : group of each fit's label maps, by k.
        at_image : centroids, palette, counts and history lie in the image's group.
        label : write label maps besides.
        """
        job = self.job
        kept: dict[int, Any] = {}
        count = replace(COUNT, prepare=decode_block) if self.keep else COUNT
        counting = BlockPass(job, count, group=self.name, kept=kept)
        counted: Counted = counting.run(self.work, wanted.transparency)
        if not len(counted.colors):
            raise NoUsableImageError(
                "no pixel can be clustered: every image is transparent or unreadable",
                job.rejected.values(),
            )
        if wanted.choices:
            low, high = wanted.choices[0], wanted.choices[-1]
            job.watch(Message(f"trying k = {low} … {high}"))
        try:
            with job.timed("fit"):
                fits = wanted.fit_all(
                    counted.colors, counted.weighted, _local_threads(job), self._say_state
                )
        except ImageError as error:  # not as good as is asked for, with --strict
            if not at_image:
                raise UsageError(error.reason) from error
            job.reject([Rejection(self.work[0].pieces[0].source.name, error.code, error.reason)])
            raise
        by_layer: Sequence[Mapping[str, Fidelity]] = [{} for _ in fits]
        if label:
            by_layer = self._label(counted, kept, fits, wanted, prefix_of)
        name = self.work[0].pieces[0].source.name
        if at_image and name in job.rejected:
            raise KmdistError(f"{name}: {job.rejected[name].reason}")
        results = {}
        for (k, fit), fidelity in zip(fits.items(), by_layer, strict=True):
            key = prefix_of[k]
            figures: dict[str, Any] = (
                {"fidelity": fidelity[name]}
                if at_image
                else write_fidelity(job.writer, key, fidelity)
            )
            if at_image:
                key = job.writer.image_group(name, key)
            write_arrays(job.writer, key, fit)
            marker = unclustered_value(fit.k, bool(counted.marked))
            shown = wanted.transparency.record()
            results[k] = {**attributes_of(fit), **shown, **figures, "unclustered": marker}
            if fit.selection and not at_image:
                job.watch(Message(str(fit.selection["reason"])))
            if fit.warning and not at_image:
                job.watch(Message(fit.warning, warning=True))
        return results

    def _say_state(self, state: State) -> None:
        self.job.watch(
            Event(
                "fit",
                state.iteration,
                0,
                unit="iteration",
                note=f"k = {len(state.centroids)}  inertia {state.inertia:.6g}",
            )
        )

    def _label(
        self,
        counted: Counted,
        kept: dict[int, Any],
        fits: Mapping[int, Palette],
        wanted: Wanted,
        prefix_of: Mapping[int, str],
    ) -> list[Mapping[str, Fidelity]]:
        """Label and write; fidelity by name, one a fit."""
        job = self.job
        items = label_items(self.work, job.rejected, kept)
        layers = [Layer(prefix_of[k], fit.k, fit.palette) for k, fit in fits.items()]
        sink = open_sink(job, items, layers, frozenset(counted.marked))
        tables = [ColorLabels.of(counted.colors, fit.labels) for fit in fits.values()]
        shared = job.pool.broadcast(tables), wanted.transparency
        found = label_blocks(job, LABEL, items, sink, *shared, group=self.name, kept=kept)
        return [
            {name: one for name, one in layer.items() if name not in job.rejected}
            for layer in found.fidelity or [{} for _ in fits]
        ]


def write_arrays(writer: Any, key: str, fit: Palette) -> None:
    """The arrays of a palette, as the run format names them."""
    base = f"{key}/" if key else ""
    channels = ("cluster", "channel")
    writer.write_array(f"{base}centroids", fit.state.centroids.astype(np.float32), channels)
    writer.write_array(f"{base}palette", fit.palette, channels)
    writer.write_array(f"{base}counts", fit.state.counts.astype(np.int64), ("cluster",))
    writer.write_array(f"{base}history", fit.history, ("iteration", "quantity"))


def attributes_of(fit: Palette) -> dict[str, Any]:
    """What the run's record says of a palette."""
    return {
        "k": fit.k,
        "space": fit.space,
        "inertia": fit.state.inertia,
        "n_iter": fit.state.iteration,
        "stop_reason": fit.state.stop_reason,
        "warning": fit.warning,
        "selection": fit.selection,
        **({"locked": list(fit.locked)} if fit.locked else {}),
    }


def _local_threads(job: Job) -> int:
    """Threads for the fit in this process, while the workers wait."""
    from kmdist.engine.passes import usable_cores

    return job.options.workers or usable_cores()
