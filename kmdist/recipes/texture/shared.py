"""Texture clusters shared by many images, or by the tiles of one: sums, fit, labels.

Passes over the pixels: features, labels; with textons one more before them, and another over
tiles of large images, which finds the textons of each, so that the passes after it need not
filter them. An image is decoded in each, filtered in each but the last where features are kept.
Tasks: one a block and pass (two where features are kept: measure, sum), ⌈n/8⌉ + ⌈n/64⌉ + … to
merge the sums, and for images larger than a block one a pyramid window.
Bytes that reach this process: the sample, at most 131,072 rows unless a share is given, and d²
sums; that leave it: projection and centroids, 4 d (m + 1) + 4 k m, once a worker.

Clusters are sorted by the number of their pixels, which is known once all are labelled: labels are
saved until then, and a pass more, which reads no image, writes the label maps.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.engine.fits import cluster_order
from kmdist.engine.lloyd import State
from kmdist.errors import KmdistError
from kmdist.filters.statistics import FeatureSums, Projection
from kmdist.job.block_pass import GIVEN_UP, BlockPass, Stage
from kmdist.job.job import Job, NoUsableImageError
from kmdist.job.label_maps import KeptLabels, Layer, label_items, write_kept
from kmdist.job.progress import Event, Message
from kmdist.job.work import Work
from kmdist.recipes.texture.blocks import (
    Measuring,
    Summed,
    TextureWork,
    features_stage,
    textons_stage,
)
from kmdist.recipes.texture.field_labels import mean_colors
from kmdist.recipes.texture.kept_responses import RESPONSES
from kmdist.recipes.texture.labels import label_textures, map_textons
from kmdist.recipes.texture.model import TEXTON_ROWS, Textons, TextureModel, fit_textons, project
from kmdist.recipes.texture.sampling import rows_in
from kmdist.recipes.texture.tiles import Tiles
from kmdist.recipes.texture.wanted import Fitted, TextureWanted, write_fit

COUNTED = "its texture counts in the fit"


@dataclass
class TextureGroup:
    """Images that share clusters: the whole collection, or one image larger than a block.

    Parameters
    ----------
    work : the blocks of these images.
    keep : keep features on the workers between the passes.
    name : tells the manifests of several groups apart.
    plan_anew : the blocks without images that killed their workers, as if these had never been
        there: which rows are sampled, and how sums are rounded, depends on all images.
    """

    job: Job
    wanted: TextureWanted
    work: Sequence[Work]
    keep: bool = False
    name: str = ""
    plan_anew: Callable[[Container[str]], Sequence[Work]] | None = None

    def run(self, *, at_image: bool = False, label: bool = True) -> dict[int, dict[str, Any]]:
        """Fit, label and write.

        Parameters
        ----------
        at_image : centroids, palette, counts and history lie in the image's group.
        label : write label maps; False: label only to count, and for the colours.

        Returns
        -------
        dict : attributes of the run, by the number of clusters asked for.
        """
        textons = self._textons() if self.wanted.texture.has_textons else None
        if textons is not None:
            map_textons(self.job, self._usable(), textons, self.wanted.texture, self.name)
        kept: dict[int, Any] = {}
        stage = features_stage(self.wanted.texture, keep=self.keep)
        sums, summed = self._sum(stage, self.wanted.fraction, textons, kept)
        if not len(summed.sample):
            raise KmdistError(
                f"a share of {self.wanted.sample} of {sums.n:,} positions leaves none to "
                "fit: use a larger --sample"
            )
        marked, projection = frozenset(summed.marked), project(self.wanted.texture, sums)
        rows = summed.sample.in_order()
        del summed  # the sample is not to be held twice while it is fitted
        rows = rows if self.wanted.texture.is_tutorial else projection.apply(rows)
        fits = self._fit(textons, projection, rows)
        del rows
        items = label_items(self.work, self.job.rejected, kept)
        ks = tuple(fit.clusters.k for fit in fits.values())
        labelled = label_textures(
            self.job,
            items,
            [one.model for one in fits.values()],
            KeptLabels(ks, self.job.writer) if label else None,
            Tiles.of(self.work),
            group=self.name,
            kept=kept,
            counted=COUNTED,
        )
        name = self.work[0].pieces[0].source.name
        if at_image and name in self.job.rejected:
            raise KmdistError(f"{name}: {self.job.rejected[name].reason}")
        if self.wanted.keep_responses:
            self._write_responses()
        results, layers, orders = {}, [], []
        for (k, fit), (colors, inertia) in zip(fits.items(), labelled, strict=True):
            orders.append(cluster_order(colors[:, 3], fit.model.centroids))
            fitted = replace(fit, sums=colors, inertia=inertia).reordered(orders[-1])
            prefix, palette = self.wanted.prefix(k), mean_colors(fitted.sums)
            results[k] = {**fitted.attributes(), "features": self.wanted.texture.record()}
            layers.append(Layer(prefix, len(palette), palette, results[k] if at_image else {}))
            key = self.job.writer.image_group(name, prefix) if at_image else prefix
            write_fit(self.job.writer, key, fitted, palette)
        if label:
            write_kept(self.job, items, layers, marked, orders, self.name)
        return results

    def _tasks(self) -> tuple[list[TextureWork], int]:
        """Usable blocks with the numbers of their images' first rows, and rows of all images."""
        firsts: dict[str, int] = {}
        n_rows, tasks = 0, []
        for work in self._usable():
            for piece in work.pieces:
                if piece.source.name not in firsts:
                    firsts[piece.source.name] = n_rows
                    n_rows += rows_in(self.wanted.texture, piece)
            own = tuple(firsts[piece.source.name] for piece in work.pieces)
            tasks.append(TextureWork(work.index, work.pieces, own))
        return tasks, n_rows

    def _usable(self) -> list[Work]:
        """The blocks without images that are left out."""
        usable = (work.without(self.job.rejected) for work in self.work)
        return [work for work in usable if work.pieces]

    def _textons(self) -> Textons:
        stage = textons_stage(self.wanted.texture)
        sums, summed = self._sum(stage, lambda n_rows: TEXTON_ROWS / max(n_rows, 1))
        with self.job.timed("fit"):
            return fit_textons(
                self.wanted.texture, sums, summed.sample.in_order(), self.wanted.fit.seed
            )

    def _sum(
        self,
        stage: Stage,
        fraction: Callable[[int], float],
        textons: Textons | None = None,
        kept: dict[int, Any] | None = None,
    ) -> tuple[FeatureSums, Summed]:
        """One pass of sums: those over all rows, and what came with them.

        Parameters
        ----------
        fraction : share of so many rows that is sampled.

        Raises
        ------
        NoUsableImageError : there was no row.
        """
        job = self.job
        while True:
            tasks, n_rows = self._tasks()
            measuring = Measuring(
                self.wanted.texture,
                min(1.0, fraction(n_rows)),
                self.wanted.fit.seed,
                job.writer,
                Tiles.of(self.work),
                textons,
            )
            passing = BlockPass(job, stage, group=self.name, kept=kept)
            summed: Summed = passing.run(tasks, job.pool.broadcast(measuring))
            lost = any(one.code in GIVEN_UP for one in summed.rejected)
            if self.plan_anew is None or not lost:
                break
            self.work = self.plan_anew(job.rejected)
            self.name = f"-without-{len(job.rejected)}"
            if kept:
                kept.clear()
        if summed.sums is None or not summed.sums.n:
            raise NoUsableImageError(
                "no pixel can be clustered: every image is transparent or unreadable",
                job.rejected.values(),
            )
        return summed.sums, summed

    def _fit(
        self, textons: Textons | None, projection: Projection, rows: np.ndarray
    ) -> dict[int, Fitted]:
        """Every k that is wanted, fitted to projected rows, before anything is labelled."""
        from kmdist.engine.passes import usable_cores

        texture, job = self.wanted.texture, self.job
        threads = job.options.workers or usable_cores()
        with job.timed("fit"):
            fits = self.wanted.fit_all(rows, threads=threads, on_state=self._say_state)
        found = {}
        for k, (clusters, selection) in fits.items():
            model = TextureModel(texture, textons, projection, clusters.centroids)
            none = np.zeros((clusters.k, 4), np.int64)
            found[k] = Fitted(model, clusters, none, 0.0, selection)
            if selection:
                job.watch(Message(f"k = {clusters.k}: {selection['reason']}"))
            if clusters.warning:
                job.watch(Message(clusters.warning, warning=True))
        return found

    def _say_state(self, state: State) -> None:
        note = f"k = {len(state.centroids)}  inertia {state.inertia:.6g}"
        self.job.watch(Event("fit", state.iteration, 0, unit="iteration", note=note))

    def _write_responses(self) -> None:
        """Write the bank's responses: one more pass."""
        prefixes = [self.wanted.prefix(k) for k in self.wanted.ks]
        passing = BlockPass(self.job, RESPONSES, group=self.name, prefixes=["", *prefixes])
        passing.run(self._usable(), self.wanted.texture, self.job.writer)
