"""Commands that look at runs, or make files of them: info, view, export, extract, report, serve."""

from typing import Any

import click

from kmdist.cli.options import QUIET, also
from kmdist.cli.printing import say
from kmdist.options import declared
from kmdist.pictures.options import ExportOptions, ExtractOptions


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
@QUIET
def view(run: str, image: str | None, output: str | None, quiet: bool, **drawn: Any) -> None:
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
    picture = draw(opened, place, image, **drawn)
    if not quiet:
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


@click.command()
@click.argument("bank", type=click.Choice(["lm", "gabor"]))
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="The .png, .jpg or .webp to write."
)
@click.option("--scales", type=click.Choice(["linear", "published"]), default="linear")
@click.option("--variant", type=click.Choice(["corrected", "tutorial"]), default="corrected")
@QUIET
def filters(bank: str, output: str, scales: Any, variant: Any, quiet: bool) -> None:
    """Draw the kernels of a filter bank: the Leung-Malik bank as the 6 × 8 sheet people know.

    \b
    kmdist filters lm -o bank.png
    """
    from kmdist.errors import UsageError
    from kmdist.filters import gabor, leung_malik
    from kmdist.pictures.view import draw_bank

    if bank == "gabor" and (scales, variant) != ("linear", "corrected"):
        raise UsageError("--scales and --variant go with the bank lm, not gabor")
    chosen = gabor() if bank == "gabor" else leung_malik(scales=scales, variant=variant)
    drawn = draw_bank(chosen, output)
    if not quiet:
        say(f"picture: {drawn}")


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")
@click.option("-v", "--verbose", is_flag=True, help="List every image, colour and rejected file.")
def info(run: str, as_json: bool, verbose: bool) -> None:
    """Say what RUN holds: its clusters, images, scores, times, and the files it left out.

    Of a run of several k, RUN.zarr/k8 is one.

    \b
    kmdist info run.zarr
    kmdist info run.zarr --json
    """
    from kmdist.cli.printing import say_run
    from kmdist.store.reader import interpreting, open_run

    opened = open_run(run)
    with interpreting(opened):
        if as_json:
            import json

            # ASCII with escapes: file names may hold bytes that are no text.
            click.echo(json.dumps(opened.info(), indent=1))
        else:
            say_run(opened, everything=verbose)


@click.command()
@click.argument("run", metavar="RUN")
@click.option("-o", "--output", required=True, metavar="FILE.html", help="The page to write.")
@QUIET
def report(run: str, output: str, quiet: bool) -> None:
    """Write a page about RUN that opens from a file, in any browser, without a network.

    Click a pixel or a colour to choose its cluster; what is chosen can be saved as a cut-out or a
    mask, and the page gives the command that does the same to all images.

    \b
    kmdist report run.zarr -o report.html
    """
    from kmdist.job.reporter import Reporter
    from kmdist.pages.run_report import report as write
    from kmdist.store import open_run

    with Reporter(quiet=quiet) as reporter:
        path = write(open_run(run), output, watch=reporter)
    if not quiet:
        say(f"report: {path}")


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Of loopback.  [default: a free one]"
)
@click.option("--browser/--no-browser", default=True, help="Open the page in the browser.")
def serve(run: str, port: int, browser: bool) -> None:
    """Show RUN live in this machine's browser: label maps of any size pan and zoom.

    Nothing is written, and only who has the printed address can look. Ctrl+C ends it.

    \b
    kmdist serve slide.zarr
    """
    from kmdist.pages.server import Server
    from kmdist.store import open_run

    with Server(open_run(run), port) as server:
        say(server.url)
        if browser:
            click.launch(server.url)
        server.serve_forever()


@also(ExportOptions, *declared(ExportOptions))
@click.command()
@click.argument("run", metavar="RUN")
@click.argument("folder", metavar="[DIR]", required=False)
@click.option("-o", "--output", metavar="DIR", help="The folder to write to, here or behind RUN.")
@click.option("--overwrite", is_flag=True, help="Write into DIR though it is not empty.")
@click.option("--workers", type=click.IntRange(1), help="Threads; default: all cores.")
@QUIET
@click.option("-v", "--verbose", is_flag=True, help="List every image.")
def export(
    run: str, folder: str | None, output: str | None, quiet: bool, verbose: bool, **options: Any
) -> None:
    """Write the pictures of RUN in the colours of their clusters, and its palette, to DIR.

    Pictures are indexed PNG, transparent where nothing was clustered; the palette is written as
    JSON, GIMP palette, CSS, Adobe's ASE and ACO, and PNG; table.csv compares bytes, PSNR, SSIM and
    CIEDE2000 with the originals.

    \b
    kmdist export run.zarr -o pictures/ --dither
    """
    from kmdist.cli.printing import say_table
    from kmdist.errors import UsageError
    from kmdist.job.reporter import Reporter
    from kmdist.pictures.export import export as run_export
    from kmdist.store import open_run

    if output is not None and folder is not None:
        raise UsageError(f"-o {output}: {folder} is given too; one folder is written to")
    place = output or folder
    if not place:
        raise UsageError("-o is missing: the folder to write to, such as -o pictures/")
    with Reporter(quiet=quiet) as reporter:
        rows = run_export(open_run(run), place, **options, watch=reporter)
    if not quiet:
        say_table(rows, everything=verbose)
        say(f"written to {place}")


class Numbers(click.ParamType[Any]):
    """Whole numbers with commas between them: ``2,5``."""

    def __init__(self, name: str, length: int | None = None) -> None:
        self.name = name
        self._length = length

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not numbers or (self._length is not None and len(numbers) != self._length):
            self.fail(f"{value!r} must be whole numbers as in {self.name}", param, ctx)
        return numbers


@also(ExtractOptions, *declared(ExtractOptions))
@click.command()
@click.argument("run", metavar="RUN")
@click.argument("image", metavar="[IMAGE]", required=False)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE.png|DIR",
    help="The picture to write, or pictures.",
)
@click.option("--clusters", type=Numbers("N[,N...]"), default=(), help="Clusters to keep: 2,5.")
@click.option(
    "--at",
    type=Numbers("X,Y", 2),
    multiple=True,
    help="Keep the cluster at this column and row, after EXIF orientation. Several are allowed.",
)
@QUIET
def extract(
    run: str, image: str | None, output: str, at: tuple[Any, ...], quiet: bool, **options: Any
) -> None:
    """Cut the pixels of some clusters out of an image; the rest becomes transparent.

    IMAGE is a name that `kmdist info` lists, or the path of the photograph. Without it: out of all
    images that share their clusters, into the folder DIR.

    \b
    kmdist quantize portrait.jpg -o face.zarr -k 3
    kmdist extract face.zarr portrait.jpg --at 250,120 --largest --feather 2 -o cutout.png
    kmdist extract face.zarr --clusters 1 -o cutouts/
    """
    from kmdist.errors import UsageError, quantity
    from kmdist.pictures.extract import extract as run_extract
    from kmdist.pictures.extract import extract_all
    from kmdist.store import open_run

    if image is None:
        if at:
            raise UsageError("--at X,Y is a place in one image: give IMAGE, or --clusters")
        cutouts = extract_all(open_run(run), output, **options)
        n_kept, n_pixels = (sum(getattr(c, n) for c in cutouts) for n in ("n_kept", "n_pixels"))
        share = n_kept / max(n_pixels, 1)
        if not quiet:
            images = quantity(len(cutouts), "image")
            say(f"{output}: {images}, {share:.1%} of the pixels")
        return
    cutout = run_extract(open_run(run), image, output, at=at, **options)
    if quiet:
        return
    if cutout.note:
        say(f"note: {cutout.note}", err=True)
    share = cutout.n_kept / cutout.n_pixels
    kept = ", ".join(map(str, cutout.clusters))
    word = "cluster" if len(cutout.clusters) == 1 else "clusters"
    say(f"{cutout.path}: {word} {kept}, {share:.1%} of the pixels")
