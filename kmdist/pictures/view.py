"""Draw a run (one image as original, recoloured and labels, or a contact sheet), or a bank."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kmdist.arguments import checked_arguments
from kmdist.errors import ImageError, KmdistError, UsageError, quantity
from kmdist.filters import FilterBank
from kmdist.images import Window
from kmdist.job.exhibits import signed_levels
from kmdist.pictures import drawing
from kmdist.pictures.drawing import Panel
from kmdist.pictures.output_files import check_picture_path
from kmdist.pictures.run_pictures import (
    MAX_ORIGINAL_PIXELS,
    RunPicture,
    evenly,
    find_image,
    original_of,
)
from kmdist.recipes.registry import recipe_named
from kmdist.store import Nearness, Run, RunImage
from kmdist.store.reader import interpreting, opened

PANEL_PX = 768
"""Longest side of a panel: photographs of Kodak's size appear pixel by pixel."""
SHEET_PX = 1920
THUMBNAIL_PX = 236
MAX_SHEET_IMAGES = 12
MAX_FITS = 8
KERNEL_SCALE = 2
"""Screen pixels a kernel's pixel."""
KERNEL_GAP_PX = 6
FIGURE_DPI = 150


@checked_arguments
def view(
    run: Run | str | Path,
    output: str | Path,
    image: str | None = None,
    *,
    overlay: float | None = None,
    what: str | None = None,
) -> str | Path:
    """Draw what the recipe of a run has to show: figures of its own, or label maps.

    One image: original, recoloured and labels beside each other, and the palette with shares; of
    a run of several k, recoloured once for each. Without `image`: a contact sheet of up to 12
    images spread evenly over the run, each beside its original; of several k one sheet below the
    other, unless there is one image alone, which is drawn as by its name. Originals that are gone
    are replaced by a note.

    Parameters
    ----------
    output : .png, .jpg, .webp or .tif; or the URL of such a file.
    image : name in the run, or path of the photograph.
    overlay : 0 … 1: draw the labels over the original, so much of them.
    what : one of the recipe's pictures; None: label maps, or where there are none the picture to
        begin with.

    Returns
    -------
    str or Path : what was written.

    Raises
    ------
    UsageError : no such image or picture, a path that cannot be written to, or an overlay out of
        range.
    KmdistError : the run has nothing to draw, or its clusters have no colours.
    """
    run = opened(run)
    recipe = recipe_named(run.recipe)
    if what is not None and what not in recipe.pictures:
        has = f"has {', '.join(recipe.pictures)}" if recipe.pictures else "is drawn without"
        raise UsageError(f"--what {what!r}: {run.path} is a run of {run.recipe}, which {has}")
    with interpreting(run):
        if what is None and (not recipe.pictures or len(run.fits[0].images)):
            return _draw_label_maps(run, output, image, overlay)
        place = check_picture_path(output)
        picture = _drawn(recipe.figure(run, what))
        title = drawing.heading(run.path.name, max(picture.width, 660), note=_described(run))
        drawing.save(drawing.stacked([title, picture]), place)
        return place


def _drawn(figure: Any) -> Image.Image:
    """A figure of matplotlib on the paper and in the ink of the other pictures."""
    paper, ink, line = (
        tuple(value / 255 for value in color)
        for color in (drawing.PAPER, drawing.INK, drawing.LINE)
    )
    figure.set_facecolor(paper)
    for axes in figure.axes:
        axes.set_facecolor(paper)
        axes.tick_params(color=line, labelcolor=ink, labelsize="small")
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(ink)
        if legend := axes.get_legend():
            legend.get_frame().set(facecolor=paper, edgecolor=line)
            legend.get_title().set_fontsize("small")
        for spine in axes.spines.values():
            spine.set_edgecolor(line)
    file = io.BytesIO()
    figure.savefig(file, dpi=FIGURE_DPI, format="png")
    return Image.open(file).convert("RGB")


def _draw_label_maps(
    run: Run, path: str | Path, image: str | None, overlay: float | None
) -> str | Path:
    """A contact sheet, or one image; see `view`."""
    if overlay is not None and not 0 <= overlay <= 1:
        raise UsageError(f"--overlay {overlay}: must be 0 (original) to 1 (labels)")
    fits = run.fits
    if not len(fits[0].images):
        raise KmdistError(f"{run.path} has no label maps of images to draw (recipe {run.recipe})")
    if image is None and len(fits) > 1 and len(fits[0].images) == 1:
        (image,) = fits[0].images
    if image is not None:
        found = find_image(fits[0], image)
        place = check_picture_path(path, not_over=found.source)
        views = [_View(fit, fit.images[found.name]) for fit in evenly(fits, MAX_FITS)]
        several = len(fits) > 1
        parts = _several_fits(views, overlay) if several else _one_image(views[0], overlay)
    else:
        place = check_picture_path(path)
        parts = _contact_sheet(run, evenly(fits, MAX_FITS), overlay)
    drawing.save(drawing.stacked(parts), place)
    return place


@dataclass(frozen=True)
class _View:
    """One image of one fit, drawn in any size."""

    run: Run
    image: RunImage

    @cached_property
    def data(self) -> RunPicture:
        return RunPicture(self.run, self.image)

    @property
    def size(self) -> tuple[int, int]:
        return self.image.width, self.image.height

    def labels(self, box: tuple[int, int]) -> np.ndarray:
        """Labels from the level of the pyramid that has at least twice the pixels of the box."""
        level, width, levels = 0, self.size[0], self.image.levels
        while level + 1 < levels and width >= 4 * drawing.fitted(self.size, box)[0]:
            level, width = level + 1, width // 2
        return self.image.read_labels(level, k=self.data.k)

    @cached_property
    def counts(self) -> np.ndarray:
        """(k,) pixels of each cluster in this image; of large ones in the level that is drawn."""
        if self.data.has_own_palette:
            return self.data.counts
        labels = self.labels(_panel_box(self.size))
        return np.bincount(labels[labels < self.data.k].ravel(), minlength=self.data.k)

    def recolored(self, box: tuple[int, int]) -> Image.Image:
        labels = self.labels(box)
        return drawing.resized(_with_alpha(self.data, labels, self.data.palette), box)

    def label_map(self, box: tuple[int, int]) -> Image.Image:
        labels, colors = self.labels(box), drawing.label_colors(self.data.k)
        return drawing.resized(_with_alpha(self.data, labels, colors), box, nearest=True)

    @property
    def shown_palette(self) -> np.ndarray:
        """(k, 3 or 4) colours of the clusters in `thumbnail`."""
        return _shown_colors(self.run, self.data.palette)

    def thumbnail(self, box: tuple[int, int]) -> Image.Image:
        """Recoloured, or where that does not stand for the photograph, the label map."""
        if recipe_named(self.run.recipe).recolors:
            return self.recolored(box)
        return self.label_map(box)

    def overlaid(self, box: tuple[int, int], share: float) -> Image.Image:
        labels = self.label_map(box)
        original = self.original(box)
        return Image.blend(original.resize(labels.size), labels, share)

    def original(self, box: tuple[int, int]) -> Image.Image:
        width, height = self.size
        size = drawing.fitted(self.size, box)
        if width * height > MAX_ORIGINAL_PIXELS:
            return drawing.placeholder(size, f"original: {width:,} × {height:,} px, too large")
        try:
            pixels = original_of(self.data).rgb(Window(0, 0, height, width))
        except ImageError as error:
            return drawing.placeholder(size, error.reason)
        nowhere = self.data.unclustered(self.image.read_labels())
        if nowhere is not None:
            alpha = pixels[..., 3] if pixels.shape[2] == 4 else np.uint8(255)
            pixels = np.dstack([pixels[..., :3], np.where(nowhere, 0, alpha).astype(np.uint8)])
        return drawing.resized(pixels, box)


def _with_alpha(data: RunPicture, labels: np.ndarray, colors: np.ndarray) -> np.ndarray:
    nowhere = data.unclustered(labels)
    if nowhere is None:
        return colors[labels]
    rgba = np.full((*labels.shape, 4), 255, np.uint8)
    rgba[..., : colors.shape[1]] = colors[np.where(nowhere, 0, labels)]
    rgba[nowhere, 3] = 0
    return rgba


def _one_image(view: _View, overlay: float | None) -> list[Image.Image]:
    """Original, recoloured, labels; the palette with shares below."""
    box = _panel_box(view.size)
    data, k = view.data, view.data.k
    panels = [
        Panel(view.original(box), "original"),
        Panel(view.recolored(box), f"recoloured: {quantity(k, 'colour')}"),
        Panel(view.label_map(box), "labels")
        if overlay is None
        else Panel(view.overlaid(box, overlay), f"labels over the original, {overlay:.0%}"),
    ]
    wide = view.size[0] > 2.2 * view.size[1]
    rows = [[panel] for panel in panels] if wide else [panels]
    drawn = [drawing.panel_row(row) for row in rows]
    width = max(max(row.width for row in drawn), 660)
    note = f"{view.size[0]:,} × {view.size[1]:,} px · {view.run.recipe} · k = {k}"
    note = " · ".join([note, *_quality(view.run, view.image.name)])
    return [
        drawing.heading(view.image.name, width, note=note),
        *drawn,
        drawing.palette_bar(data.palette, view.counts, width),
        drawing.legend(data.palette, view.counts, width, drawing.label_colors(k)),
    ]


def _several_fits(views: Sequence[_View], overlay: float | None) -> list[Image.Image]:
    """The original and one picture for each k, each with its palette."""
    first = views[0]
    box = _panel_box(first.size)
    panels = [Panel(first.original(box), "original")]
    for view in views:
        picture = view.thumbnail(box) if overlay is None else view.overlaid(box, overlay)
        caption = " · ".join([f"k = {view.data.k}", *_quality(view.run, view.image.name)])
        panels.append(Panel(picture, caption, view.shown_palette, view.counts))
    columns = 1 if first.size[0] > 2.2 * first.size[1] else min(len(panels), 3)
    if len(panels) == 4 and columns == 3:
        columns = 2
    drawn = [drawing.panel_row(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    width = max(max(row.width for row in drawn), 660)
    note = f"{first.size[0]:,} × {first.size[1]:,} px"
    return [drawing.heading(first.image.name, width, note=note), *drawn]


def _contact_sheet(run: Run, fits: Sequence[Run], overlay: float | None) -> list[Image.Image]:
    names = evenly(list(fits[0].images), MAX_SHEET_IMAGES)
    n_images = len(fits[0].images)
    shown = [f"{len(names)} of them shown"] if n_images > len(names) else []
    note = " · ".join([_described(run), *shown])
    title = drawing.heading(run.path.name, SHEET_PX, note=note)
    parts = [title]
    if len(fits) == 1:
        views = [_View(fits[0], fits[0].images[name]) for name in names]
        parts += _palette_parts(fits[0])
        return [*parts, *_thumbnails(views, overlay, with_original=True)]
    views = [_View(fits[0], fits[0].images[name]) for name in names]
    parts += _thumbnails(views, 0.0, with_original=False)
    for fit in fits:
        views = [_View(fit, fit.images[name]) for name in names]
        note = " · ".join(_quality(fit))
        parts.append(drawing.heading(f"k = {fit.k}", SHEET_PX, note=note, above=drawing.GAP_PX))
        parts += _palette_parts(fit)[:1]
        parts += _thumbnails(views, overlay, with_original=False, named=False)
    return parts


def _thumbnails(
    views: Sequence[_View], overlay: float | None, *, with_original: bool, named: bool = True
) -> list[Image.Image]:
    """Rows of thumbnails, each beside its original if asked for."""
    across = 2 if with_original else 1
    rows: list[Image.Image] = []
    sizes = [view.size for view in views]
    for positions, height in drawing.justified(sizes, SHEET_PX, THUMBNAIL_PX, across):
        panels = [_thumbnail(views[i], height, overlay, with_original, named) for i in positions]
        rows.append(drawing.panel_row(panels))
    return rows


def _thumbnail(
    view: _View, height: int, overlay: float | None, with_original: bool, named: bool
) -> Panel:
    width = round(height * drawing.bounded_aspect(view.size))
    box = (width, height)
    original = view.original(box) if with_original or overlay == 0 else None
    if overlay == 0 and original is not None:
        picture = original
    else:
        picture = view.thumbnail(box) if overlay is None else view.overlaid(box, overlay)
    shown = [original, picture] if with_original and original is not None else [picture]
    own = view.data.has_own_palette and overlay != 0
    return Panel(
        drawing.beside(shown),
        view.image.name if named else "",
        view.shown_palette if own else None,
        view.data.counts if own else None,
    )


def _palette_parts(run: Run) -> list[Image.Image]:
    """The bar and the legend of a palette that all images share."""
    palette = run.palette
    if palette is None:
        return []
    return [
        drawing.palette_bar(_shown_colors(run, palette), run.counts, SHEET_PX),
        drawing.legend(palette, run.counts, SHEET_PX, _marks(run, palette)),
    ]


def _shown_colors(run: Run, palette: np.ndarray) -> np.ndarray:
    """Colours of clusters in small pictures: their own where these stand for the photograph.

    Mean colours of textures are much the same brown; those of labels tell them apart.
    """
    marks = _marks(run, palette)
    return palette if marks is None else marks


def _marks(run: Run, palette: np.ndarray) -> np.ndarray | None:
    recolors = recipe_named(run.recipe).recolors
    return None if recolors else drawing.label_colors(len(palette))


def _described(run: Run) -> str:
    images = recipe_named(run.recipe).summary(run)[:1]
    k = f"k = {', '.join(map(str, run.runs))}" if run.runs else run.said_k
    return " · ".join([*images, run.recipe, k, *([] if run.runs else _quality(run))])


def _quality(run: Run, image: str = "") -> list[str]:
    """How near pictures are to photographs, or clusters to classes; nothing where it is unknown."""
    near = run.attributes.get("fidelity") or {}
    values = run.fidelity.get(image, ()) if image else map(near.get, Nearness._fields)
    words = [
        f"{name} {value:{digits}}{unit}"
        for value, (name, digits, unit) in zip(values, _FIDELITY, strict=False)
        if value is not None and math.isfinite(value)
    ]
    accuracy = (run.attributes.get("scores") or {}).get("accuracy_hungarian")
    return [*words, *([] if accuracy is None else [f"accuracy {accuracy:.1%}"])]


_FIDELITY = (("PSNR", ".1f", " dB"), ("SSIM", ".3f", ""), ("ΔE", ".1f", ""))


def _panel_box(size: tuple[int, int]) -> tuple[int, int]:
    wide = size[0] > 2.2 * size[1]
    return (2 * PANEL_PX if wide else PANEL_PX, PANEL_PX)


@checked_arguments
def draw_bank(bank: FilterBank, path: str | Path) -> str | Path:
    """Draw every kernel, each stretched to its own largest magnitude, grey for 0.

    The Leung-Malik bank takes 8 columns: three of edges, three of bars, a row an angle, then the
    Gaussians and Laplacians; others 12.

    Returns
    -------
    str or Path : what was written.

    Raises
    ------
    UsageError : the path is no picture, or cannot be written to.
    """
    from skimage.util import montage

    place = check_picture_path(path)
    columns = 8 if len(bank) == 48 else 12
    square = np.ones((KERNEL_SCALE, KERNEL_SCALE), np.uint8)
    kernels = bank.kernels[_sheet_order(len(bank))]
    pictures = [np.kron(signed_levels(kernel), square) for kernel in kernels]
    shape = (-(-len(bank) // columns), columns)
    sheet = montage(np.array(pictures), fill=255, grid_shape=shape, padding_width=KERNEL_GAP_PX)
    drawing.save(Image.fromarray(sheet).convert("RGB"), place)
    return place


def _sheet_order(n: int) -> list[int]:
    """Kernels by row: for 48, angle by angle the edges and bars of three scales, two round ones."""
    if n != 48:
        return list(range(n))
    order = []
    for angle in range(6):
        order += [kind * 18 + scale * 6 + angle for kind in (0, 1) for scale in range(3)]
        order += [36 + 2 * angle, 37 + 2 * angle]
    return order
