"""A run in a notebook: by itself, and on matplotlib axes."""

from typing import TYPE_CHECKING, Any

from kmdist.errors import quantity
from kmdist.images import Window
from kmdist.images.color import hex_color
from kmdist.pages.page import data_url, fragment
from kmdist.pages.tiles import labels_of, thumbnail
from kmdist.pictures.run_pictures import RunPicture, find_image
from kmdist.recipes.registry import recipe_named
from kmdist.store import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_IMAGES, SHOWN_COLORS, SHOWN_FITS = 4, 64, 4
PLOTTED_PIXELS = 4 << 20


def run_html(run: Run) -> str:
    """What a notebook shows of a run: a table, palettes, first pictures; below 200 kB."""
    fits = run.fits
    rows = {"recipe": run.recipe, "k": ", ".join(str(fit.k) for fit in fits)}
    if len(fits[0].images):
        rows["images"] = quantity(len(fits[0].images), "image")
    if run.inertia is not None:
        rows["inertia"] = f"{run.inertia:.6g}"
    if run.attributes.get("rejected"):
        rows["left out"] = quantity(len(run.attributes["rejected"]), "file")
    palettes = [fit.palette for fit in fits[:SHOWN_FITS]]
    colors = [[hex_color(c) for c in p[:SHOWN_COLORS]] for p in palettes if p is not None]
    names = list(fits[-1].images)[:SHOWN_IMAGES]
    return fragment(
        "notebook.html",
        path=run.path,
        rows=rows,
        palettes=colors,
        pictures=[
            (name, data_url("image/png", thumbnail(RunPicture(fits[-1], fits[-1].images[name]))))
            for name in names
        ],
    )


def plot(run: Run, image: str | None = None, ax: "Axes | None" = None) -> Any:
    """Draw an image of a run in the colours of its clusters; see `kmdist.Run.plot`."""
    run = run.fits[-1]
    if not len(run.images):
        return recipe_named(run.recipe).figure(run, None)
    import matplotlib.pyplot as plt

    found = find_image(run, image) if image else run.images[next(iter(run.images))]
    picture = RunPicture(run, found)
    level = 0
    while (found.width * found.height) >> (2 * level) > PLOTTED_PIXELS:
        level += 1
    labels = labels_of(found, level, Window(0, 0, found.height, found.width))
    axes = plt.gca() if ax is None else ax
    extent = (-0.5, found.width - 0.5, found.height - 0.5, -0.5)
    axes.imshow(picture.recolored(labels), extent=extent, interpolation="nearest")
    axes.set_title(f"{found.name}, k = {picture.k}")
    return axes
