"""Label new photographs with the texture clusters of an earlier run: one pass."""

from typing import Any

import numpy as np

from kmdist.engine.fits import Clusters
from kmdist.job.job import Job, NoUsableImageError
from kmdist.job.label_maps import Layer, label_items, marked_tiled, open_sink
from kmdist.job.photographs import Photographs
from kmdist.recipes.texture.labels import label_textures
from kmdist.recipes.texture.model import TextureModel
from kmdist.recipes.texture.texton_maps import map_textons
from kmdist.recipes.texture.tiles import Tiles
from kmdist.recipes.texture.wanted import Fitted, write_fit


def label_photographs(
    job: Job, workload: Photographs, model: TextureModel, palette: np.ndarray
) -> dict[str, Any]:
    """Label and write all images of a job.

    Parameters
    ----------
    palette : (k, 3) uint8 colours of the model's clusters.

    Returns
    -------
    dict : attributes of the run.
    """
    blocks = workload.blocks
    marked = marked_tiled(job, blocks)
    if model.textons is not None:
        work = [one for one in blocks if one.tile_of not in job.rejected]
        map_textons(job, work, model.textons, model.texture)
    items = label_items(blocks, job.rejected)
    sink = open_sink(job, items, [Layer("", len(palette), palette)], marked)
    ((sums, inertia),) = label_textures(job, items, [model], sink, Tiles.of(blocks))
    if not sums[:, 3].any():
        raise NoUsableImageError(
            "no pixel can be labelled: every image is transparent or unreadable",
            job.rejected.values(),
        )
    history = np.array([[inertia, 0.0, 0.0]])
    clusters = Clusters(model.centroids, sums[:, 3], inertia, history, 0, "predicted")
    fitted = Fitted(model, clusters, sums, inertia)
    write_fit(job.writer, "", fitted, palette)
    return {**fitted.attributes(), "features": model.texture.record()}
