"""Images of a run as a page holds them: as many pixels of each as the page has room for."""

import base64
import io
import math
import shlex
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kmdist.engine.passes import ThreadPool, run_pass
from kmdist.images import Window
from kmdist.images.color import hex_color
from kmdist.job.progress import Event, Watcher
from kmdist.pages.page import data_url
from kmdist.pages.tiles import colors_of, labels_of
from kmdist.pictures import drawing
from kmdist.pictures.export import Look, export_image, export_threads
from kmdist.pictures.run_pictures import MAX_ORIGINAL_PIXELS, RunPicture, evenly, try_original
from kmdist.recipes.registry import recipe_named
from kmdist.store import Run, RunImage

MOST_IMAGES = 1000
"""A page shows as many, spread evenly over the run, in pages of its own; `kmdist serve` all."""
PAGE_BYTES = 11 << 20
"""Of all images together, as text."""
PHOTOGRAPH_BYTES = 0.25
"""A pixel of a photograph as WebP of `QUALITY`."""
QUALITY = 85


@dataclass(frozen=True)
class Embedding:
    """What every image of a page is embedded by; a task is one image.

    Parameters
    ----------
    fits : runs of one k, which have the same images.
    pixels : of each image at most.
    """

    fits: Sequence[Run]
    pixels: float

    def __call__(self, name: str) -> dict[str, Any]:
        """One image as the page's script reads it."""
        pictures = [RunPicture(fit, fit.images[name]) for fit in self.fits]
        image = pictures[0].image
        level = self._level(image)
        whole = Window(0, 0, image.height, image.width)
        first = labels_of(image, level, whole)
        height, width = first.shape
        original, note = _original(pictures[0], (width, height))
        fits = [_fit(one, labels_of(one.image, level, whole)) for one in pictures]
        compared = original is not None and level == 0
        if compared and recipe_named(pictures[0].run.recipe).recolors:
            for fit, picture in zip(fits, pictures, strict=True):
                fit["quality"] = quality_of(picture)
        found = {"name": name, "quoted": shlex.quote(name), "source": original, "note": note}
        size = {"width": image.width, "height": image.height, "columns": width, "rows": height}
        return {**found, **size, "step": 1 << level, "fits": fits}

    def _level(self, image: RunImage) -> int:
        """How many times the image is halved."""
        pixels = image.width * image.height
        return max(0, math.ceil(math.log(max(pixels / self.pixels, 1e-9), 4)))


def embedded_images(run: Run, watch: Watcher) -> list[dict[str, Any]]:
    """Up to `MOST_IMAGES` of a run, made by threads, in order of their names."""
    fits = list(run.runs.values()) or [run]
    names = evenly(list(fits[0].images), MOST_IMAGES)
    if not names:
        return []
    bits = sum(math.log2(max(_k_of(fit, names[0]), 2)) for fit in fits)
    room = PAGE_BYTES * 3 / 4 / len(names)  # base64 writes three bytes as four
    embedding = Embedding(fits, room / (PHOTOGRAPH_BYTES + bits / 8))
    found: list[Any] = [None] * len(names)
    n_done = 0

    def done(position: int, made: dict[str, Any]) -> None:
        nonlocal n_done
        found[position], n_done = made, n_done + 1
        watch(Event("report", n_done, len(names), unit="images"))

    images = [fits[0].images[name] for name in names]
    pool = ThreadPool(export_threads(images, None), memory_bytes=1)
    try:
        run_pass(pool, embedding, names, on_done=done)
    finally:
        pool.close()
    return found


def quality_of(picture: RunPicture) -> list[str]:
    """How near the picture is to its original, and its bytes as ``kmdist export`` writes it."""
    with tempfile.TemporaryDirectory(prefix="kmdist-") as folder:
        (Path(folder) / "palettes").mkdir()
        stems = {picture.image.name: "picture"}
        made = export_image(picture, stems, Path(folder), Look())
    said = [] if math.isnan(made.psnr_db) else [f"PSNR {made.psnr_db:.2f} dB"]
    said += [] if math.isnan(made.ssim) else [f"SSIM {made.ssim:.4f}"]
    said.append(f"{made.bytes:,} bytes as PNG")
    if made.original_bytes:
        said.append(f"{made.bytes / made.original_bytes:.0%} of the original")
    return said


def _k_of(fit: Run, name: str) -> int:
    return len(colors_of(RunPicture(fit, fit.images[name])))


def _fit(picture: RunPicture, labels: np.ndarray) -> dict[str, Any]:
    """Labels and colours of one k: little-endian rows of labels, deflated."""
    k = len(colors_of(picture))
    flat = labels if labels.dtype.itemsize <= 2 else np.minimum(labels, (1 << 16) - 1)
    small = np.ascontiguousarray(flat, "<u1" if labels.dtype.itemsize == 1 else "<u2")
    counts = np.bincount(labels[labels < k].ravel(), minlength=k)
    marker = picture.image.unclustered
    return {
        "labels": base64.b64encode(zlib.compress(small.tobytes(), 9)).decode("ascii"),
        "bytes": small.dtype.itemsize,
        "unclustered": None if marker is None else min(int(marker), (1 << 16) - 1),
        "palette": [hex_color(color) for color in colors_of(picture).tolist()],
        "marks": [hex_color(color) for color in drawing.label_colors(k).tolist()],
        "counts": counts.tolist(),
    }


def _original(picture: RunPicture, size: tuple[int, int]) -> tuple[str | None, str]:
    """The original in the size of the labels as a picture within a page, or why there is none."""
    image = picture.image
    if image.width * image.height > MAX_ORIGINAL_PIXELS:
        return None, "the original is too large to be drawn"
    original, why = try_original(picture)
    if original is None:
        return None, why
    pixels = Image.fromarray(original.rgb(Window(0, 0, image.height, image.width)))
    if pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    file = io.BytesIO()
    pixels.save(file, "WEBP", quality=QUALITY, method=4)
    return data_url("image/webp", file.getvalue()), ""
