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

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.engine.fits import Clusters, cluster_order
from kmdist.errors import KmdistError
from kmdist.filters.statistics import FeatureSums
from kmdist.job.block_pass import GIVEN_UP, BlockPass, Stage
from kmdist.job.label_maps import label_items
from kmdist.job.shared_fit import FitResult, SharedFit
from kmdist.job.work import Work
from kmdist.recipes.texture.blocks import (
    COUNTED,
    RESPONSES,
    Measuring,
    Summed,
    TextureWork,
    Tiles,
    features_stage,
    textons_stage,
)
from kmdist.recipes.texture.labels import label_textures, map_textons
from kmdist.recipes.texture.measuring import mean_colors, rows_in
from kmdist.recipes.texture.model import (
    SPACE,
    TEXTON_ROWS,
    Textons,
    TextureModel,
    fit_textons,
)
from kmdist.recipes.texture.wanted import TextureWanted


@dataclass
class TextureGroup(SharedFit):
    """Images that share textures; features are kept on the workers where there is room.

    Parameters
    ----------
    plan_anew : the blocks without images that killed their workers, as if these had never been
        there: which rows are sampled, and how sums are rounded, depends on all images.
    """

    wanted: TextureWanted
    plan_anew: Callable[[Container[str]], Sequence[Work]] | None = None

    def run(self) -> dict[int, dict[str, Any]]:
        """Measure, fit, label and write; without label maps: label only to count, and for the
        colours."""
        texture = self.wanted.texture
        textons = self._textons() if texture.has_textons else None
        if textons is not None:
            map_textons(self.job, self.usable(), textons, texture, self.name)
        kept: dict[int, Any] = {}
        stage = features_stage(texture, keep=self.keep)
        sums, summed = self._sum(stage, self.wanted.fraction, textons, kept)
        if not len(summed.sample):
            raise KmdistError(
                f"a share of {self.wanted.sample} of {sums.n:,} positions leaves none to "
                "fit: use a larger --sample"
            )
        marked, projection = frozenset(summed.marked), texture.project(sums)
        rows = summed.sample.in_order()
        del summed  # the sample is not to be held twice while it is fitted
        rows = texture.projected(rows, projection)
        with self.job.timed("fit"):
            found = self.wanted.fit_all(rows, threads=self.threads, on_state=self.job.say_state)
        del rows
        models = [
            TextureModel(texture, textons, projection, clusters.centroids)
            for clusters, _ in found.values()
        ]
        items = label_items(self.work, self.job.rejected, kept)
        labelled = label_textures(
            self.job,
            items,
            models,
            self.kept_labels([len(model.centroids) for model in models]),
            Tiles.of(self.work),
            group=self.name,
            kept=kept,
            counted=COUNTED,
        )
        if self.wanted.keep_responses:
            self._write_responses()
        fits, orders = {}, []
        for (k, (clusters, selection)), model, totals in zip(
            found.items(), models, labelled, strict=True
        ):
            fits[k], order = fit_of(model, clusters, totals, selection)
            orders.append(order)
        self.write_kept(fits, orders, items, marked)
        return {k: fit.record() for k, fit in fits.items()}

    def _tasks(self) -> tuple[list[TextureWork], int]:
        """Usable blocks with the numbers of their images' first rows, and rows of all images."""
        firsts: dict[str, int] = {}
        n_rows, tasks = 0, []
        for work in self.usable():
            for piece in work.pieces:
                if piece.source.name not in firsts:
                    firsts[piece.source.name] = n_rows
                    n_rows += rows_in(self.wanted.texture, piece)
            own = tuple(firsts[piece.source.name] for piece in work.pieces)
            tasks.append(TextureWork(work.index, work.pieces, own))
        return tasks, n_rows

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
            raise job.no_pixel("clustered")
        return summed.sums, summed

    def _write_responses(self) -> None:
        """Write the bank's responses: one more pass."""
        prefixes = [self.wanted.prefix(k) for k in self.wanted.ks]
        passing = BlockPass(self.job, RESPONSES, group=self.name, prefixes=["", *prefixes])
        passing.run(self.usable(), self.wanted.texture, self.job.writer)


def fit_of(
    model: TextureModel,
    clusters: Clusters,
    totals: tuple[np.ndarray, float],
    selection: Mapping[str, Any] | None,
) -> tuple[FitResult, np.ndarray]:
    """Clusters that were labelled, by the number of their pixels, as a run holds them.

    Parameters
    ----------
    totals : (k, 4) int64 red, green, blue and number of the pixels of each cluster; the inertia of
        all rows.
    selection : how k was chosen, or None.

    Returns
    -------
    fit : of the clusters in their new order.
    order : the old label of each.
    """
    sums, inertia = totals
    order = cluster_order(sums[:, 3], model.centroids)
    sums = sums[order]
    fit = FitResult(
        replace(model, centroids=model.centroids[order]).arrays(),
        mean_colors(sums),
        sums[:, 3],
        clusters.history,
        SPACE,
        inertia,
        clusters.n_iter,
        clusters.stop_reason,
        clusters.warning,
        selection,
        {"features": model.texture.record()},
    )
    return fit, order
