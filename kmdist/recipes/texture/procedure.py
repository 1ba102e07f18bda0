"""What a texture job does: each image segmented on its own, or all with one set of clusters.

Each image on its own: one pass, one task a block. Shared, and images larger than a block: two
passes over the pixels, three with textons (`kmdist.recipes.texture.shared`).

An image on its own is decoded once and filtered once (with textons: its moduli are kept). Tasks:
one a block. An image larger than a block goes through the passes of
`kmdist.recipes.texture.shared`.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.engine.fits import FitOptions
from kmdist.engine.passes import Pool, run_pass
from kmdist.errors import ImageError
from kmdist.images import ImageSource, Piece, Window, decode, to_rgb8
from kmdist.job.each_image import EachImage, Fits, record_of_images, write_image
from kmdist.job.job import Job
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photographs import PhotographProcedure, Photographs, open_photographs
from kmdist.job.progress import Message, Watcher, compile_kernels
from kmdist.job.recipe import Results
from kmdist.job.shared_fit import FitResult
from kmdist.job.work import Work
from kmdist.recipes.texture.blocks import write_responses
from kmdist.recipes.texture.measuring import (
    Field,
    Masked,
    Sampling,
    color_sums,
    field_rows,
    label_field,
    measure,
    measure_textons,
    read_moduli,
    row_inertia,
    rows_in,
    sampled_moduli,
)
from kmdist.recipes.texture.model import (
    DEFAULT_PRESET,
    TEXTON_ROWS,
    Textons,
    Texture,
    TextureModel,
    fit_textons,
)
from kmdist.recipes.texture.options import TextureOptions
from kmdist.recipes.texture.shared import TextureGroup, fit_of
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
            each = EachImage("texture", texture_image, TextureGroup, wanted)
            fits, features = each.run(job, blocks).values(), wanted.texture.record()
            by_k = {
                k: record_of_images([one[k] for one in fits], features=features) for k in wanted.ks
            }
            return Results(by_k)
        label = not self.options.fit_only
        group = TextureGroup(job, wanted, blocks, job.keep, label, plan_anew=plan_anew)
        return Results(group.run())


def texture_image(piece: Piece, wanted: TextureWanted, writer: RunWriter) -> Fits:
    """Fit the wanted clusters to one image, label and write it.

    Raises
    ------
    ImageError : it cannot be read, or has no position to fit.
    """
    results = {}
    for k, fit, labels, unclustered in segmented(piece, wanted):
        write_image(writer, piece, wanted.prefix(k), fit, labels, unclustered)
        results[k] = fit.record()
    if wanted.keep_responses:
        write_responses(writer, piece, wanted.texture)
    return results


def segmented(
    piece: Piece, wanted: TextureWanted, pixels: Masked | None = None
) -> Iterator[tuple[int, FitResult, np.ndarray, np.ndarray | None]]:
    """One image with clusters of its own.

    Parameters
    ----------
    pixels : of the image, where they are known.

    Yields
    ------
    k : as it was asked for. fit : of so many clusters.
    labels : (y, x). unclustered : where they do not count, or None.
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
