"""Texture, each image on its own: read, measure, fit, label and write in one task a block.

An image is decoded once and filtered once (with textons: its moduli are kept). Tasks: one a
block. An image larger than a block goes through the passes of `kmdist.recipes.texture_group`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.errors import ImageError, KmdistError
from kmdist.images import Rejection
from kmdist.passes import LostBlockError
from kmdist.recipes.clusters import cluster_order
from kmdist.recipes.job import Job, Piece, Work
from kmdist.recipes.texture_group import TextureGroup
from kmdist.recipes.texture_learning import TEXTON_ROWS, fit_textons, project
from kmdist.recipes.texture_pieces import (
    Field,
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
    texton_map_of,
)
from kmdist.recipes.texture_responses import write_responses
from kmdist.recipes.texture_wanted import Fitted, TextureWanted, write_fit
from kmdist.store import RunWriter
from kmdist.texture_model import Textons, TextureModel


@dataclass(frozen=True)
class Finished:
    """What a task says of its images.

    Parameters
    ----------
    fits : by image name, attributes by the number of clusters asked for.
    """

    fits: Mapping[str, Mapping[int, Mapping[str, Any]]]
    rejected: tuple[Rejection, ...]


def texture_each(job: Job, wanted: TextureWanted) -> dict[int, dict[str, Any]]:
    """Segment every image on its own.

    Returns
    -------
    dict : attributes of the run, by the number of clusters asked for.
    """
    whole = [work for work in job.work if work.pieces[0].whole]
    fits = _whole_images(job, wanted, whole)
    tiled: dict[str, list[Work]] = {}
    for work in job.work:
        if not work.pieces[0].whole:
            tiled.setdefault(work.pieces[0].source.name, []).append(work)
    for name, blocks in tiled.items():
        group = TextureGroup(job, wanted, blocks, name=f"-{blocks[0].index}")
        try:
            fits[name] = group.run(at_image=True)
        except KmdistError:
            if name not in job.rejected:
                raise
    if not fits:
        raise KmdistError("no pixel can be clustered: every image is transparent or unreadable")
    return {k: _summary(wanted, [fit[k] for fit in fits.values()]) for k in wanted.ks}


def _whole_images(job: Job, wanted: TextureWanted, todo: list[Work]) -> dict[str, Any]:
    fits: dict[str, Any] = {}
    done = job.writer.done("each")
    for _, saved in sorted(done.items()):
        fits.update({n: {int(k): v for k, v in by_k.items()} for n, by_k in saved["fits"]})
        job.reject([Rejection(*row) for row in saved["rejected"]])
    left = [work for work in todo if work.index not in done]

    def finished(position: int, result: Finished) -> None:
        fits.update(result.fits)
        job.reject(result.rejected)
        rejected = [[r.image, r.code, r.reason] for r in result.rejected]
        record = {"fits": list(result.fits.items()), "rejected": rejected}
        job.writer.mark_done("each", left[position].index, record)

    def lost(position: int, error: BaseException) -> Finished:
        if not isinstance(error, LostBlockError):
            raise error
        pieces = left[position].pieces
        return Finished({}, tuple(Rejection(p.source.name, "lost", str(error)) for p in pieces))

    job.over_blocks(
        "texture",
        texture_block,
        left,
        wanted,
        job.writer,
        pixels=[work.pixels for work in left],
        done_before=len(todo) - len(left),
        on_done=finished,
        on_failure=lost,
    )
    return {name: fits[name] for name in sorted(fits)}


def texture_block(work: Work, wanted: TextureWanted, writer: RunWriter) -> Finished:
    """Segment each image of a block on its own; a task."""
    fits, rejected = {}, []
    for piece in work.pieces:
        try:
            fits[piece.source.name] = _texture_image(piece, wanted, writer)
        except ImageError as error:
            rejected.append(Rejection(piece.source.name, error.code, error.reason))
    return Finished(fits, tuple(rejected))


def _texture_image(piece: Piece, wanted: TextureWanted, writer: RunWriter) -> dict[int, Any]:
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
    )
    write_fit(writer, writer.image_group(source.name, prefix), fitted, palette)
    return attributes


def _summary(wanted: TextureWanted, fits: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Attributes of the run from those of its images, in the order of their names."""
    reasons = {fit["stop_reason"] for fit in fits}
    return {
        "k": max(fit["k"] for fit in fits),
        "space": "texture",
        "features": wanted.texture.record(),
        "inertia": float(sum(fit["inertia"] for fit in fits)),
        "n_iter": max(fit["n_iter"] for fit in fits),
        "stop_reason": "max_iter" if "max_iter" in reasons else sorted(reasons)[0],
        "per_image": True,
    }
