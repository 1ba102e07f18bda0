"""Texture clusters shared by many images, or by the tiles of one: sums, fit, labels.

Passes over the pixels: features, labels; with textons one more before them, and another over
tiles of large images, which finds the textons of each, so that the passes after it need not
filter them. An image is decoded in each, filtered in each but the last where features are kept.
Tasks: one a block and pass (two where features are kept: measure, sum), ⌈n/8⌉ + ⌈n/64⌉ + … to
merge the sums, and for images larger than a block one a pyramid window.
Bytes that reach this process: the sample, at most 131,072 rows unless a share is given, and d²
sums; that leave it: projection and centroids, 4 d (m + 1) + 4 k m, once a worker.

Clusters are sorted by the number of fitted rows they hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.engine.state import State
from kmdist.errors import KmdistError
from kmdist.filters.statistics import Projection
from kmdist.job.endings import NoUsableImageError
from kmdist.job.job import Job
from kmdist.job.label_maps import lost_images
from kmdist.job.progress import Event, Message
from kmdist.job.work import Work
from kmdist.recipes.texture.blocks import (
    KeptFields,
    Pass,
    Saved,
    Summed,
    TextureWork,
    merge_summed,
    save_summed,
    sum_features,
    sum_moduli,
)
from kmdist.recipes.texture.field_labels import mean_colors
from kmdist.recipes.texture.kept_responses import write_block_responses
from kmdist.recipes.texture.labels import TextureLayer, label_textures
from kmdist.recipes.texture.learning import TEXTON_ROWS, fit_textons, project
from kmdist.recipes.texture.model import Textons, TextureModel
from kmdist.recipes.texture.sampling import Sample, rows_in
from kmdist.recipes.texture.texton_maps import map_textons
from kmdist.recipes.texture.tiles import Tiles
from kmdist.recipes.texture.wanted import Fitted, TextureWanted, write_fit


@dataclass
class TextureGroup:
    """Images that share clusters: the whole collection, or one image larger than a block.

    Parameters
    ----------
    work : the blocks of these images.
    keep : keep features on the workers between the passes.
    name : tells the manifests of several groups apart.
    """

    job: Job
    wanted: TextureWanted
    work: Sequence[Work]
    keep: bool = False
    name: str = ""

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
            map_textons(self.job, self.work, textons, self.wanted.texture, self.name)
            self.work = self._usable(set(self.job.rejected))
        summed, kept = self._features(textons)
        if summed.sums is None or not summed.sums.n:
            raise self._nothing_usable()
        if not len(summed.sample):
            raise KmdistError(
                f"a share of {self.wanted.sample} of {summed.sums.n:,} positions leaves none to "
                "fit: use a larger --sample"
            )
        marked, projection = frozenset(summed.marked), project(self.wanted.texture, summed.sums)
        rows = summed.sample.in_order()
        del summed  # the sample is not to be held twice while it is fitted
        rows = rows if self.wanted.texture.is_tutorial else projection.apply(rows)
        fits = self._fit(textons, projection, rows)
        del rows
        layers = [TextureLayer(k, self.wanted.prefix(k), one.model) for k, one in fits.items()]
        labelled = label_textures(self.job, self.work, kept, layers, marked, self.name, write=label)
        name = self.work[0].pieces[0].source.name
        if at_image and name in self.job.rejected:
            raise KmdistError(f"{name}: {self.job.rejected[name].reason}")
        if self.wanted.keep_responses:
            self._write_responses()
        results = {}
        for (k, fit), (sums, inertia) in zip(fits.items(), labelled, strict=True):
            fitted = replace(fit, sums=sums, inertia=inertia)
            results[k] = self._write(fitted, self.wanted.prefix(k), marked, at_image)
        return results

    def _tasks(self) -> tuple[list[TextureWork], int]:
        """The blocks with the numbers of their images' first rows, and the rows of all images."""
        firsts: dict[str, int] = {}
        n_rows = 0
        for work in self.work:
            for piece in work.pieces:
                if piece.source.name not in firsts:
                    firsts[piece.source.name] = n_rows
                    n_rows += rows_in(self.wanted.texture, piece)
        tasks = [TextureWork(w, tuple(firsts[p.source.name] for p in w.pieces)) for w in self.work]
        return tasks, n_rows

    def _textons(self) -> Textons:
        tasks, n_rows = self._tasks()
        fraction = min(1.0, TEXTON_ROWS / n_rows)
        shared = self._pass("textons", fraction)
        summed = self._sum(shared, sum_moduli, self._items(shared, tasks), tasks)
        if summed.sums is None or not len(summed.sample):
            raise self._nothing_usable()
        with self.job.timed("fit"):
            return fit_textons(
                self.wanted.texture, summed.sums, summed.sample.in_order(), self.wanted.fit.seed
            )

    def _features(self, textons: Textons | None) -> tuple[Summed, dict[int, Any]]:
        tasks, n_rows = self._tasks()
        shared = self._pass("features", self.wanted.fraction(n_rows))
        items: Sequence[Any] = self._items(shared, tasks)
        learnt = self.job.pool.broadcast(textons)
        kept = None
        if self.keep:
            kept = KeptFields(self.job.pool, items, learnt, self.job.pool.broadcast(shared))
        summed = self._sum(shared, sum_features, items if kept is None else kept, tasks, learnt)
        return summed, {} if kept is None else kept.futures

    def _nothing_usable(self) -> NoUsableImageError:
        return NoUsableImageError(
            "no pixel can be clustered: every image is transparent or unreadable",
            self.job.rejected.values(),
        )

    def _pass(self, stage: str, fraction: float) -> Pass:
        return Pass(
            f"{stage}{self.name}",
            self.wanted.texture,
            fraction,
            self.wanted.fit.seed,
            self.job.writer,
            Tiles.of(self.work),
        )

    def _items(self, shared: Pass, tasks: Sequence[TextureWork]) -> list[TextureWork | Saved]:
        done = self.job.writer.done(shared.name)
        return [Saved(task.index) if task.index in done else task for task in tasks]

    def _sum(
        self,
        shared: Pass,
        function: Any,
        items: Sequence[Any],
        tasks: Sequence[TextureWork],
        *arguments: Any,
    ) -> Summed:
        """One pass of sums; again without the images of which a tile could not be read."""
        job = self.job

        def finished(position: int, _: Any) -> None:
            job.writer.mark_done(shared.name, tasks[position].index)

        def set_aside(position: int, error: BaseException) -> Summed:
            rejected = lost_images(tasks[position].work, error)
            summed = Summed(None, self._no_rows(function), rejected=rejected)
            save_summed(tasks[position].index, summed, shared)  # a resume does not try it again
            return summed

        def over(chosen: Sequence[Any], pixels: Sequence[int]) -> Summed:
            merged = job.over_blocks(
                shared.name.partition("-")[0],
                function,
                chosen,
                *arguments,
                job.pool.broadcast(shared),
                pixels=pixels,
                merge=merge_summed,
                on_done=finished if chosen is items else None,
                on_failure=set_aside,
            )
            assert isinstance(merged, Summed)
            return merged

        summed = over(items, [task.work.pixels for task in tasks])
        job.reject(summed.rejected)
        left_out = {rejection.image for rejection in summed.rejected}
        tiled = {p.source.name for t in tasks for p in t.work.pieces if not p.whole}
        if left_out & tiled:
            usable = [t for t in tasks if t.work.pieces[0].source.name not in left_out & tiled]
            if not usable:
                return Summed(None, self._no_rows(function))
            summed = over([Saved(t.index) for t in usable], [t.work.pixels for t in usable])
        self.work = self._usable(left_out)
        return summed

    def _usable(self, left_out: set[str]) -> list[Work]:
        """The blocks without images that could not be used."""
        usable = []
        for work in self.work:
            pieces = tuple(p for p in work.pieces if p.source.name not in left_out)
            if pieces:
                usable.append(Work(work.index, pieces))
        return usable

    def _no_rows(self, function: Any) -> Sample:
        texture = self.wanted.texture
        depth = texture.features.bank.n_features if function is sum_moduli else texture.depth
        return Sample.joined([], depth, np.uint8 if texture.is_tutorial else np.float32)

    def _fit(
        self, textons: Textons | None, projection: Projection, rows: np.ndarray
    ) -> dict[int, Fitted]:
        """Every k that is wanted, fitted to projected rows, before anything is labelled."""
        from kmdist.engine.cores import usable_cores

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

    def _write(
        self, fitted: Fitted, prefix: str, marked: frozenset[str], at_image: bool
    ) -> dict[str, Any]:
        """The arrays of one k; returns what the run's record says of it."""
        writer = self.job.writer
        key, palette = prefix, mean_colors(fitted.sums)
        attributes = {**fitted.attributes(), "features": self.wanted.texture.record()}
        if at_image:
            source = self.work[0].pieces[0].source
            key = writer.image_group(source.name, prefix)
            writer.open_labels(
                source.name,
                (source.height, source.width),
                k=len(palette),
                marked=source.name in marked,
                palette=palette,
                source=source.path,
                attributes=attributes,
                prefix=prefix,
            )
        write_fit(writer, key, fitted, palette)
        return attributes

    def _write_responses(self) -> None:
        """Write the bank's responses: one more pass."""
        job, name = self.job, f"responses{self.name}"
        done = job.writer.done(name)
        left = [work for work in self.work if work.index not in done]
        job.over_blocks(
            "responses",
            write_block_responses,
            left,
            self.wanted.texture,
            job.writer,
            pixels=[work.pixels for work in left],
            done_before=len(self.work) - len(left),
            on_done=lambda position, _: job.writer.mark_done(name, left[position].index),
        )
