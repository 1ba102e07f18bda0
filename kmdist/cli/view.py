"""`kmdist view`: pictures of a run."""

import click

from kmdist.cli.say import say


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("image", metavar="[IMAGE]", required=False)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The .png, .jpg or .webp to write.  [default: a new .png here, named as RUN]",
)
@click.option(
    "--overlay",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Draw the labels over the original: 0.5 is half of each.",
)
@click.option(
    "--what",
    type=click.Choice(["centroids", "members", "confusion", "sweep", "normalised", "signatures"]),
    help="Of a run of digits: which picture  [default: centroids]; of segment: signatures, the "
    "mean of each channel in each cluster, and its standard deviation.",
)
def view(
    run: str, image: str | None, output: str | None, overlay: float | None, what: str | None
) -> None:
    """Draw an image of RUN: original, recoloured, labels, and the palette with shares.

    Without IMAGE: a contact sheet. IMAGE is a name that `kmdist info` lists, or the path of the
    photograph. Of a run of several k all are drawn; RUN.zarr/k8 is one of them.

    \b
    kmdist view run.zarr
    kmdist view run.zarr photo.jpg -o picture.png --overlay 0.5
    """
    from kmdist.pictures.view import view as draw
    from kmdist.store import open_run

    opened = open_run(run)
    place = output or _new_name(opened.path.name, image)
    picture = draw(opened, place, image, overlay=overlay, what=what)
    say(f"picture: {picture}")


def _new_name(run: str, image: str | None) -> str:
    """A name for a picture of a run, or of an image in it, that no file here has."""
    from pathlib import Path, PurePosixPath

    stem = "-".join(PurePosixPath(name).stem for name in filter(None, (run, image)))
    number, name = 1, f"{stem}.png"
    while Path(name).exists():
        number += 1
        name = f"{stem}-{number}.png"
    return name
