"""Label new photographs with the texture clusters of an earlier run: one pass."""

from typing import Any

import numpy as np

from kmdist.engine.fits import Clusters
from kmdist.job.endings import NoUsableImageError
from kmdist.job.job import Job
from kmdist.job.label_maps import label_items, marked_tiled
from kmdist.job.progress import Message
from kmdist.recipes.texture.labels import TextureLayer, label_textures
from kmdist.recipes.texture.memory import texture_projection
from kmdist.recipes.texture.model import TextureModel
from kmdist.recipes.texture.texton_maps import map_textons
from kmdist.recipes.texture.wanted import Fitted, TextureWanted, write_fit


def predict_textures(job: Job, model: TextureModel, palette: np.ndarray) -> dict[str, Any]:
    """Label and write all images of a job.

    Parameters
    ----------
    palette : (k, 3) uint8 colours of the model's clusters.

    Returns
    -------
    dict : attributes of the run.
    """
    wanted = TextureWanted(model.texture, (len(model.centroids),))
    plan = texture_projection(job, wanted, passes=1)
    job.watch(Message(str(plan)))
    plan.require()
    marked = marked_tiled(job, label_items(job.work, {}, job.rejected))
    if model.textons is not None:
        map_textons(job, job.work, model.textons, model.texture)
    layer = TextureLayer(len(palette), "", model, palette)
    ((sums, inertia),) = label_textures(job, job.work, {}, [layer], marked, read_before=False)
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
