"""Label new photographs with the texture clusters of an earlier run: one pass."""

from typing import Any

import numpy as np

from kmdist.engine.fits import Clusters
from kmdist.job.endings import NoUsableImageError
from kmdist.job.job import Job
from kmdist.job.label_maps import label_items, marked_tiled
from kmdist.job.photographs import Photographs
from kmdist.recipes.texture.labels import TextureLayer, label_textures
from kmdist.recipes.texture.memory import texture_projection
from kmdist.recipes.texture.model import TextureModel
from kmdist.recipes.texture.texton_maps import map_textons
from kmdist.recipes.texture.wanted import Fitted, TextureWanted, write_fit


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
    wanted = TextureWanted(model.texture, (len(model.centroids),))
    job.require(texture_projection(workload, job.pool, wanted, passes=1))
    marked = marked_tiled(job, label_items(workload.blocks, {}, job.rejected))
    if model.textons is not None:
        map_textons(job, workload.blocks, model.textons, model.texture)
    layer = TextureLayer(len(palette), "", model, palette)
    ((sums, inertia),) = label_textures(
        job, workload.blocks, {}, [layer], marked, read_before=False
    )
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
