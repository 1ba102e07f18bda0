"""What a texture job does: each image segmented on its own, or all with one set of clusters.

Each image on its own is decoded and filtered once (with textons: its moduli are kept); one task a
block. Images that share clusters, and the tiles of an image larger than a block:

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

from kmdist.engine.fits import Clusters, FitOptions, cluster_order
from kmdist.engine.passes import Pool, run_pass
from kmdist.errors import ImageError, KmdistError
from kmdist.filters.statistics import FeatureSums
from kmdist.images import ImageSource, Piece, Window, decode, to_rgb8
from kmdist.job.block_pass import GIVEN_UP, BlockPass, Stage
from kmdist.job.image_fits import FitResult, FittedImage, SharedFit, fit_each, record_of_images
from kmdist.job.job import Job
from kmdist.job.label_maps import label_items
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photographs import PhotographProcedure, Photographs, open_photographs
from kmdist.job.progress import Message, Watcher, compile_kernels
from kmdist.job.recipe import Results
from kmdist.job.work import Work
from kmdist.recipes.texture.blocks import (
    RESPONSES,
    Measuring,
    Summed,
    TextureWork,
    Tiles,
    features_stage,
    textons_stage,
    write_responses,
)
from kmdist.recipes.texture.labels import label_textures, map_textons
from kmdist.recipes.texture.measuring import (
    Field,
    Masked,
    Sampling,
    color_sums,
    field_rows,
    label_field,
    mean_colors,
    measure,
    measure_textons,
    read_moduli,
    row_inertia,
    rows_in,
    sampled_moduli,
)
from kmdist.recipes.texture.model import (
    DEFAULT_PRESET,
    SPACE,
    TEXTON_ROWS,
    Textons,
    Texture,
    TextureModel,
    fit_textons,
)
from kmdist.recipes.texture.options import TextureOptions
from kmdist.recipes.texture.steps import outline
from kmdist.recipes.texture.wanted import TextureWanted, preset_of, wanted_textures
from kmdist.store import RunWriter


@dataclass(frozen=True, kw_only=True)
class TexturePhotographs(Photographs):
    """Photographs, and what is measured on them.

    Parameters
    ----------
    wanted : what the options ask for. colorful : whether colour decided that; None: it did not.
    """

    wanted: TextureWanted
    colorful: bool | None = None

    @property
    def notes(self) -> list[Message]:
        """What is said of photographs, and which preset was chosen."""
        if self.colorful is None:
            return super().notes
        what = "in colour" if self.colorful else "grey"
        chosen = f"the photographs are {what}: --preset {self.wanted.texture.preset}"
        return [*super().notes, Message(chosen)]


@dataclass(frozen=True)
class TextureFit(PhotographProcedure):
    """Fit textures to photographs and label them: a `kmdist.job.recipe.Procedure`.

    Raises
    ------
    UsageError : options do not go together.
    """

    options: TextureOptions
    recipe: str = "texture"

    def __post_init__(self) -> None:
        _ = wanted_textures(self.options, preset_of(self.options) or DEFAULT_PRESET)

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> TexturePhotographs:
        """Find and probe the image files, and choose what is measured on them."""
        found = open_photographs(self.inputs, options, pool, watch)
        preset, colorful = preset_of(self.options), None
        if preset is None:
            colorful = in_color(found.sources, pool)
            preset = "color+texture" if colorful else DEFAULT_PRESET
        return TexturePhotographs(
            found.sources,
            found.blocks,
            found.rejected,
            wanted=wanted_textures(self.options, preset),
            colorful=colorful,
        )

    def parameters(self, workload: TexturePhotographs, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        return workload.wanted.parameters(self.options)

    def outline(self, workload: TexturePhotographs, options: JobOptions, *, keep: bool) -> Outline:
        """Passes, what is kept, checkpoints and results."""
        o = self.options
        label = not o.fit_only
        return outline(workload.wanted, workload, shared=o.shared, label=label, keep=keep)

    def run(self, job: Job, workload: TexturePhotographs) -> Results:
        """Measure, fit, label."""
        wanted, blocks = workload.wanted, workload.blocks
        compile_kernels(lambda: exercise_texture_kernels(wanted.texture), job.watch)

        def plan_anew(lost: Container[str]) -> Sequence[Work]:
            return workload.without(lost, job.options).blocks

        if not self.options.shared:
            fits = fit_each(job, "texture", texture_image, TextureGroup, wanted, blocks)
            features = wanted.texture.record()
            return Results({k: record_of_images(of, features=features) for k, of in fits.items()})
        label = not self.options.fit_only
        group = TextureGroup(job, wanted, blocks, job.keep, label, plan_anew=plan_anew)
        return Results(group.run())


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
            group=self.name,
            kept=kept,
        )
        if self.wanted.keep_responses:
            self._write_responses()
        fits, orders = {}, []
        for (k, (clusters, selection)), model, totals in zip(
            found.items(), models, labelled, strict=True
        ):
            fits[k], order = fit_of(model, clusters, totals, selection)
            orders.append(order)
        return self.write_kept(fits, orders, items, marked)

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


def texture_image(piece: Piece, wanted: TextureWanted, writer: RunWriter) -> FittedImage:
    """Fit the wanted clusters to one image and label it; its responses are written.

    Raises
    ------
    ImageError : it cannot be read, or has no position to fit.
    """
    yield from segmented(piece, wanted)
    if wanted.keep_responses:
        write_responses(writer, piece, wanted.texture)


def segmented(piece: Piece, wanted: TextureWanted, pixels: Masked | None = None) -> FittedImage:
    """One image with clusters of its own.

    Parameters
    ----------
    pixels : of the image, where they are known.
    """
    texture = wanted.texture
    field, textons = _measured(piece, wanted, pixels)
    sampling = Sampling(wanted.fraction(rows_in(texture, piece)), wanted.fit.seed)
    sums, sample = field_rows(texture, field, sampling)
    if not len(sample):
        raise _nothing_to_fit(sums.n, sampling)
    projection = texture.project(sums)
    for k, (clusters, selection) in wanted.fit_all(
        texture.projected(sample.rows, projection)
    ).items():
        model = TextureModel(texture, textons, projection, clusters.centroids)
        labels, row_labels = label_field(texture, field, model.scorer)
        colors = color_sums(field, labels, clusters.k)
        inertia = row_inertia(texture, field, row_labels, projection, clusters.centroids)
        fit, order = fit_of(model, clusters, (colors, inertia), selection)
        yield k, fit, np.argsort(order).astype(labels.dtype)[labels], field.unclustered


def _nothing_to_fit(n_rows: int, sampling: Sampling) -> ImageError:
    if not n_rows:
        return ImageError("transparent", "every pixel is transparent; none can be clustered")
    return ImageError(
        "sample",
        f"a share of {sampling.fraction:g} of its {n_rows:,} positions leaves none to fit: use a "
        "larger --sample",
    )


def _measured(
    piece: Piece, wanted: TextureWanted, pixels: Masked | None
) -> tuple[Field, Textons | None]:
    """The field of an image, and the textons fitted to it where there are any."""
    texture = wanted.texture
    if not texture.has_textons:
        return measure(texture, piece, None, pixels), None
    moduli = read_moduli(texture, piece, pixels)
    sampling = Sampling(min(1.0, TEXTON_ROWS / rows_in(texture, piece)), wanted.fit.seed)
    sums, sample = sampled_moduli(texture, moduli, sampling)
    if not len(sample):
        raise _nothing_to_fit(sums.n, sampling)
    textons = fit_textons(texture, sums, sample.rows, wanted.fit.seed)
    return measure_textons(texture, moduli, textons), textons


SIDE_PX = 40


def exercise_texture_kernels(texture: Texture) -> None:
    """Use every kernel of a texture job, on 40 × 40 px with and without transparent ones."""
    source = ImageSource("", "", SIDE_PX, SIDE_PX, channels=3, dtype="uint8", format="")
    piece = Piece(source, Window(0, 0, SIDE_PX, SIDE_PX))
    rgb = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    transparent = np.zeros(rgb.shape[:2], bool)
    transparent[0] = True
    wanted = TextureWanted((2,), (), texture, fit=FitOptions(max_iter=2))
    for mask in (transparent, None):
        list(segmented(piece, wanted, (rgb, mask)))


COLORFUL = 8.0
"""Mean of max − min of the channels, 0 … 255. Of 20 photographs of the Berkeley set the greyest has
22, of 24 of Kodak's 18; grey pictures stored as colour have 0, with JPEG's rounding up to 2."""
LOOKED_AT = 8
"""Images, spread evenly over the collection: they are decoded once more than the others."""
_SIDE_PX = 1024


def in_color(sources: Sequence[ImageSource], pool: Pool) -> bool:
    """Whether at least half of the images are in colour, of at most `LOOKED_AT` that are read.

    Of images that can be read by window the middle is taken. One that cannot be read does not
    count, and one whose header says that it is grey is not read.
    """
    n = len(sources)
    places = dict.fromkeys(
        i * (n - 1) // max(min(n, LOOKED_AT) - 1, 1) for i in range(min(n, LOOKED_AT))
    )
    chosen = [sources[place] for place in places]
    found: list[bool | None] = [None] * len(chosen)

    def collect(index: int, colorful: bool | None) -> None:
        found[index] = colorful

    run_pass(pool, is_colorful, chosen, on_done=collect)
    known = [one for one in found if one is not None]
    return bool(known) and 2 * sum(known) >= len(known)


def is_colorful(source: ImageSource) -> bool | None:
    """Whether one image is in colour; None where it cannot be read. A task."""
    if source.channels == 1:
        return False
    window = None
    if source.windowed:
        y, x = max(source.height - _SIDE_PX, 0) // 2, max(source.width - _SIDE_PX, 0) // 2
        window = Window(y, x, min(y + _SIDE_PX, source.height), min(x + _SIDE_PX, source.width))
    try:
        rgb, transparent = to_rgb8(decode(source, window))
    except ImageError:
        return None
    chroma = rgb.max(axis=2) - rgb.min(axis=2)
    seen = chroma if transparent is None else chroma[~transparent]
    return bool(seen.size) and float(np.mean(seen)) >= COLORFUL
