"""`kmdist report`: what a run holds, as one page that opens from a file and needs nothing else.

Images are embedded with as many pixels each as the page has room for.
"""

import base64
import io
import math
import os
import shlex
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kmdist.arguments import checked_arguments
from kmdist.engine.passes import ThreadPool, run_pass
from kmdist.errors import quantity
from kmdist.images import Window
from kmdist.images.color import hex_color
from kmdist.job.exhibits import Curves, Exhibit, Table
from kmdist.job.progress import Event, Watcher, watch_nothing
from kmdist.pages.page import data_url, render
from kmdist.pages.tiles import colors_of, labels_of
from kmdist.pictures import drawing
from kmdist.pictures.export import export_image, export_threads
from kmdist.pictures.options import ExportOptions
from kmdist.pictures.output_files import check_picture_path, write_text, written_to
from kmdist.pictures.run_pictures import MAX_ORIGINAL_PIXELS, RunPicture, evenly, try_original
from kmdist.recipes.registry import recipe_named
from kmdist.store import Run, RunImage
from kmdist.store.reader import opened

SHOWN_REJECTED = 200
MODES = {
    "compare": "Compare",
    "overlay": "Overlay",
    "labels": "Labels",
    "chosen": "Chosen clusters",
}
SCRIPTS = ("png.js", "canvas.js", "viewer.js", "embedded.js")
SAVING = (
    "Saved in full size. A cut-out has the colours of this page's copy (WebP); the command takes "
    "the original's."
)


@checked_arguments
def report(
    run: Run | str | Path, output: str | Path, *, watch: Watcher = watch_nothing
) -> str | Path:
    """Write a page about a run: what ran, pictures whose clusters can be picked, what it found.

    It holds everything it shows, up to about 15 MB: of many images reduced copies, of more than
    1,000 a selection spread evenly. It loads nothing and sends nothing. Threads of this machine
    make it, also where a cluster made the run: that is a thousand images at most.

    Parameters
    ----------
    output : the .html file to write, or its URL.
    watch : called with progress.

    Returns
    -------
    Path or URL : what was written.

    Raises
    ------
    UsageError : there is no such run, or `output` is no .html file that can be written.
    KmdistError : the run is damaged, or the file cannot be written.
    """
    run = opened(run)
    place = check_picture_path(output, (".html", ".htm"))
    images = embedded_images(run, watch)
    fits = run.fits
    viewer = None
    if images:
        shown = {"shown": len(images), "all": len(fits[0].images), "modes": MODES}
        viewer = {**shown, "data": {**viewer_data(run), "images": images, "saving": SAVING}}
    page = render("run.html", SCRIPTS if viewer else (), viewer=viewer, **about(run))
    with written_to(place) as path:
        write_text(path, page)
    return place


def viewer_data(run: Run) -> dict[str, Any]:
    """What the page's script needs besides images."""
    fits = run.fits
    return {
        "mode": "compare" if recipe_named(run.recipe).recolors else "overlay",
        "ownPalettes": all(fit.palette is None for fit in fits),
        "runs": [{"k": fit.k, "quoted": shlex.quote(str(fit.path))} for fit in fits],
    }


def about(run: Run) -> dict[str, Any]:
    """All that a page says of a run besides its pictures, as its template takes it."""
    return {
        "title": f"{_named(run)}: {run.recipe}",
        "lead": "; ".join([str(run.path), *recipe_named(run.recipe).summary(run)[:1]]),
        "facts": list(_facts(run)),
        "sections": _sections(run),
        "record": list(_record(run)),
    }


def _named(run: Run) -> str:
    """The end of a run's path; with that of the whole where it is one of several k."""
    folder, name = os.path.split(str(run.path))
    return f"{os.path.basename(folder)}/{name}" if name == f"k{run.k}" else name


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """Figures worth large type, each with what it is."""
    record = run.attributes
    yield (", ".join(map(str, run.runs or [run.k])), "clusters (k)")
    n_images = record.get("n_images") or len(run.fits[0].images)
    yield f"{n_images:,}", "image" if n_images == 1 else "images"
    if record.get("rejected"):
        yield f"{len(record['rejected']):,}", "left out"
    elapsed_s = sum((record.get("timings") or {}).values())
    if elapsed_s:
        yield f"{elapsed_s:,.1f} s", "in all"
    if record.get("pixels") and elapsed_s:
        for mpx, unit in (
            (record["pixels"] / 1e6, "Mpx"),
            (record["pixels"] / 1e6 / elapsed_s, "Mpx/s"),
        ):
            yield (f"{mpx:,.1f}" if mpx >= 1 else f"{mpx:.2g}"), unit
    if host := record.get("host"):
        yield f"{host['workers']:,}", f"worker{'s' * (host['workers'] != 1)} of {host['name']}"
        yield f"{host['memory_bytes'] / 1e9:,.2f} GB", "memory, as projected"


def _sections(run: Run) -> dict[str, Sequence[Exhibit]]:
    """Exhibits of the recipe and of each fit, by heading; empty ones are left out."""
    recipe = recipe_named(run.recipe)
    if not run.runs:
        found = {"Clusters": [*recipe.exhibits(run), *_fit_exhibits(run)]}
    else:
        found = {"Comparison": list(recipe.exhibits(run))}
        for k, one in run.runs.items():
            found[f"k = {k}"] = [*recipe.exhibits(one), *_fit_exhibits(one)]
    return {name: shown for name, shown in found.items() if shown}


def _fit_exhibits(run: Run) -> Iterator[Exhibit]:
    """Convergence and cluster sizes."""
    history = run.history
    if history is not None and len(history) > 1:
        steps = list(range(1, len(history) + 1))
        why = run.attributes.get("stop_reason")
        note = f"{quantity(len(history), 'iteration')}; ended by {why}" if why else ""
        yield Curves(
            "Convergence", "iteration", steps, {"inertia": history[:, 0].tolist()}, None, note
        )
    counts = run.counts
    if counts is not None and np.sum(counts):
        shares = counts / np.sum(counts)
        ranks = list(range(len(counts)))
        lines = {"share of members in %": (100 * shares).tolist()}
        yield Curves("Cluster sizes", "cluster", ranks, lines, from_zero=True)


def _record(run: Run) -> Iterator[Exhibit]:
    """What ran, how long, with what, and what was left out."""
    record = run.attributes
    timings = record.get("timings") or {}
    total = sum(timings.values()) or 1.0
    rows = [[stage, f"{s:.2f} s", f"{s / total:.0%}"] for stage, s in timings.items()]
    if rows:
        yield Table("Duration by stage", ["stage", "time", "share"], rows)
    rows = [[name, value] for name, value in _flat(run.parameters)]
    if "seed" not in run.parameters:
        rows.append(["seed", str(record.get("seed"))])
    rows.append(["fingerprint", str(record.get("fingerprint"))])
    yield Table("Parameters", ["name", "value"], rows)
    rows = [[name, str(text)] for name, text in (record.get("versions") or {}).items()]
    yield Table("Versions", ["package", "version"], rows)
    rejected = record.get("rejected") or []
    if rejected:
        rows = [[one["image"], one["code"], one["reason"]] for one in rejected[:SHOWN_REJECTED]]
        rest = len(rejected) - len(rows)
        note = f"and {rest:,} more: kmdist info -v lists them" if rest else ""
        yield Table("Files left out", ["file", "code", "reason"], rows, note)


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Parameters with those of groups below each other; what is not set is left out."""
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            if value:
                yield f"{prefix}{name}", ", ".join(map(str, value[:50]))
        elif value is not None:
            yield f"{prefix}{name}", str(value)


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
    fits = run.fits
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
    with closing(ThreadPool(export_threads(images, None), memory_bytes=1)) as pool:
        run_pass(pool, embedding, names, on_done=done)
    return found


def quality_of(picture: RunPicture) -> list[str]:
    """How near the picture is to its original, and its bytes as ``kmdist export`` writes it."""
    with tempfile.TemporaryDirectory(prefix="kmdist-") as folder:
        made = export_image(picture, "picture", Path(folder), ExportOptions())
    near = {
        f"PSNR {made.psnr_db:.2f} dB": made.psnr_db,
        f"SSIM {made.ssim:.4f}": made.ssim,
        f"ΔE {made.delta_e:.2f}": made.delta_e,
    }
    said = [text for text, value in near.items() if not math.isnan(value)]
    said.append(f"{made.bytes:,} bytes as PNG")
    if made.original_bytes:
        said.append(f"{made.bytes / made.original_bytes:.0%} of the original")
    return said


def _k_of(fit: Run, name: str) -> int:
    return len(colors_of(RunPicture(fit, fit.images[name])))


def _fit(picture: RunPicture, labels: np.ndarray) -> dict[str, Any]:
    """Labels and colours of one k: little-endian rows of labels, deflated."""
    flat = labels if labels.dtype.itemsize <= 2 else np.minimum(labels, (1 << 16) - 1)
    small = np.ascontiguousarray(flat, "<u1" if labels.dtype.itemsize == 1 else "<u2")
    marker = picture.image.unclustered
    return {
        "labels": base64.b64encode(zlib.compress(small.tobytes(), 9)).decode("ascii"),
        "bytes": small.dtype.itemsize,
        "unclustered": None if marker is None else min(int(marker), (1 << 16) - 1),
        **clusters_of(picture, labels),
    }


def clusters_of(picture: RunPicture, labels: np.ndarray) -> dict[str, Any]:
    """Colours of the clusters, those that tell them apart, and their shares of some labels."""
    colors = colors_of(picture)
    k = len(colors)
    return {
        "palette": [hex_color(color) for color in colors.tolist()],
        "marks": [hex_color(color) for color in drawing.label_colors(k).tolist()],
        "counts": np.bincount(labels[labels < k].ravel(), minlength=k).tolist(),
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
