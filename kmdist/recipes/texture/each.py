"""Texture, each image on its own: read, measure, fit, label and write in one task a block.

An image is decoded once and filtered once (with textons: its moduli are kept). Tasks: one a
block. An image larger than a block goes through the passes of `kmdist.recipes.texture.shared`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kmdist.engine.fits import cluster_order
from kmdist.errors import ImageError
from kmdist.job.each_image import EachImage, Fits, summary
from kmdist.job.job import Job
from kmdist.job.work import Piece, Work
from kmdist.recipes.texture.field_labels import color_sums, label_field, mean_colors, row_inertia
from kmdist.recipes.texture.kept_responses import write_responses
from kmdist.recipes.texture.learning import TEXTON_ROWS, fit_textons, project
from kmdist.recipes.texture.measuring import (
    Field,
    measure,
    measure_textons,
    read_moduli,
    texton_map_of,
)
from kmdist.recipes.texture.model import Textons, TextureModel
from kmdist.recipes.texture.sampling import Sampling, field_rows, rows_in, sampled_moduli
from kmdist.recipes.texture.shared import TextureGroup
from kmdist.recipes.texture.wanted import Fitted, TextureWanted, write_fit
from kmdist.store import RunWriter


def texture_each(
    job: Job, blocks: Sequence[Work], wanted: TextureWanted
) -> dict[int, dict[str, Any]]:
    """Segment every image on its own.

    Returns
    -------
    dict : attributes of the run, by the number of clusters asked for.
    """

    def tiled(tiles: list[Work], name: str) -> Fits:
        return TextureGroup(job, wanted, tiles, name=name).run(at_image=True)

    fits = EachImage("texture", texture_image, tiled, wanted).run(job, blocks)
    features = wanted.texture.record()
    return {
        k: {**summary([fit[k] for fit in fits.values()]), "features": features} for k in wanted.ks
    }


def texture_image(piece: Piece, wanted: TextureWanted, writer: RunWriter) -> Fits:
    """Fit the wanted clusters to one image, label and write it.

    Raises
    ------
    ImageError : it cannot be read, or has no position to fit.
    """
    texture = wanted.texture
    field, textons = _measured(piece, wanted)
    sampling = Sampling(wanted.fraction(rows_in(texture, piece)), wanted.fit.seed)
    sums, sample = field_rows(texture, field, sampling)
    rows = sample.rows
    if not len(rows):
        raise _nothing_to_fit(sums.n, sampling)
    projection = project(texture, sums)
    projected = rows if texture.is_tutorial else projection.apply(rows)
    results = {}
    for k, (clusters, selection) in wanted.fit_all(projected).items():
        model = TextureModel(texture, textons, projection, clusters.centroids)
        labels, row_labels = label_field(texture, field, model.scorer)
        colors = color_sums(field, labels, clusters.k)
        inertia = row_inertia(texture, field, row_labels, projection, clusters.centroids)
        fitted = Fitted(model, clusters, colors, inertia, selection)
        order = cluster_order(colors[:, 3], clusters.centroids)
        fitted = fitted.reordered(order)
        results[k] = _write(writer, wanted.prefix(k), field, _renamed(labels, order), fitted)
    if wanted.keep_responses:
        write_responses(writer, piece, texture)
    return results


def _nothing_to_fit(n_rows: int, sampling: Sampling) -> ImageError:
    if not n_rows:
        return ImageError("transparent", "every pixel is transparent; none can be clustered")
    return ImageError(
        "sample",
        f"a share of {sampling.fraction:g} of its {n_rows:,} positions leaves none to fit: use a "
        "larger --sample",
    )


def _measured(piece: Piece, wanted: TextureWanted) -> tuple[Field, Textons | None]:
    """The field of an image, and the textons fitted to it where there are any."""
    texture = wanted.texture
    if not texture.has_textons:
        return measure(texture, piece), None
    moduli = read_moduli(texture, piece)
    sampling = Sampling(min(1.0, TEXTON_ROWS / rows_in(texture, piece)), wanted.fit.seed)
    sums, sample = sampled_moduli(texture, moduli, sampling)
    if not len(sample):
        raise _nothing_to_fit(sums.n, sampling)
    textons = fit_textons(texture, sums, sample.rows, wanted.fit.seed)
    found = texton_map_of(moduli, textons)
    return measure_textons(texture, piece, found, moduli.rgb, moduli.unclustered), textons


def _renamed(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Labels after clusters were reordered; ``order[i]`` becomes i."""
    name_of = np.empty(len(order), labels.dtype)
    name_of[order] = np.arange(len(order), dtype=labels.dtype)
    return np.asarray(name_of[labels])


def _write(
    writer: RunWriter, prefix: str, field: Field, labels: np.ndarray, fitted: Fitted
) -> dict[str, Any]:
    source = field.piece.source
    palette = mean_colors(fitted.sums)
    attributes = fitted.attributes()
    writer.write_labels(
        source.name,
        labels,
        k=len(palette),
        unclustered=field.unclustered,
        palette=palette,
        source=source.path,
        prefix=prefix,
        attributes=attributes,
        grid=source.grid,
    )
    write_fit(writer, writer.image_group(source.name, prefix), fitted, palette)
    return attributes
