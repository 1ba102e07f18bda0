"""The reader of napari (its manifest: ``kmdist/napari.yaml``): images with their label maps."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from kmdist.errors import KmdistError
from kmdist.images import Window
from kmdist.pictures.run_pictures import MAX_ORIGINAL_PIXELS, RunPicture, try_original
from kmdist.store import Run, open_run

SHOWN_IMAGES = 20
"""Of a run, as layers; more would make a list that nobody scrolls through."""

Layer = tuple[Any, dict[str, Any], str]


def get_reader(path: Any) -> Callable[[Any], list[Layer]] | None:
    """What opens a path; None where it is no run of kmdist."""
    if not isinstance(path, str | os.PathLike):
        return None
    try:
        run = open_run(path)
    except KmdistError:
        return None
    fits = run.fits
    return (lambda _: layers(fits)) if len(fits[0].images) else None


def layers(fits: list[Run]) -> list[Layer]:
    """Originals, and the label maps of each fit over them in the colours of their palettes."""
    found: list[Layer] = []
    for name in list(fits[0].images)[:SHOWN_IMAGES]:
        picture = RunPicture(fits[0], fits[0].images[name])
        image = picture.image
        original, _ = try_original(picture)
        if original is not None and image.width * image.height <= MAX_ORIGINAL_PIXELS:
            pixels = original.rgb(Window(0, 0, image.height, image.width))
            found.append((pixels, {"name": name, "rgb": True}, "image"))
        found += [_labels(RunPicture(fit, fit.images[name])) for fit in fits]
    return found


def _labels(picture: RunPicture) -> Layer:
    """A label map with its pyramid; napari keeps 0 for nothing, so that clusters begin at 1."""
    import dask.array as da

    image, k = picture.image, picture.k
    levels = []
    for level in range(image.levels):
        stored = image.labels(level)
        labels = da.from_array(stored, chunks=stored.shards or stored.chunks).astype(np.uint32)
        levels.append(da.where(labels < k, labels + 1, 0))
    palette = picture.palette / 255
    colors = np.hstack([palette[:, :3], np.ones((k, 1))])
    colormap: dict[int | None, np.ndarray] = {0: np.zeros(4), None: np.zeros(4)}
    colormap.update((label + 1, color) for label, color in enumerate(colors))
    name = f"{image.name}, k = {k}"
    return levels, {"name": name, "colormap": colormap, "opacity": 0.7}, "labels"
