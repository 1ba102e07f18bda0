"""`kmdist export` and `kmdist extract`: files made from a run."""

from typing import Any

import click

from kmdist.cli.say import say


class Amount(click.ParamType[Any]):
    """A share of 0 to 1."""

    name = "amount"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is no amount of 0 to 1; alone --dither comes last", param, ctx)


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("folder", metavar="DIR")
@click.option(
    "--dither",
    type=Amount(),
    is_flag=False,
    flag_value=1.0,
    default=0.0,
    metavar="[AMOUNT]",
    help="Diffuse errors (Floyd-Steinberg), or a share of them, 0 to 1, away from edges: no bands "
    "in skies.",
)
@click.option(
    "--sort",
    type=click.Choice(["share", "hue", "lightness"]),
    default="share",
    help="Order of the colours in the files of the palette.",
)
@click.option(
    "--polygons",
    is_flag=True,
    help="Write regions as GeoJSON, in the reference system of the source (kmdist[geo]).",
)
@click.option(
    "--min-area",
    type=float,
    default=0.0,
    metavar="AREA",
    help="Of the smallest polygon, in units of that system (m²), or pixels.",
)
@click.option("--overwrite", is_flag=True, help="Write into DIR though it is not empty.")
@click.option("--workers", type=click.IntRange(1), help="Threads; default: all cores.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.option("-v", "--verbose", is_flag=True, help="List every image.")
def export(run: str, folder: str, quiet: bool, verbose: bool, **options: Any) -> None:
    """Write the pictures of RUN in the colours of their clusters, and its palette, to DIR.

    Pictures are indexed PNG, transparent where nothing was clustered; the palette is written as
    JSON, GIMP palette, CSS, Adobe's ASE and ACO, and PNG; table.csv compares bytes, PSNR and SSIM
    with the originals.

    \b
    kmdist export run.zarr pictures/ --dither
    """
    from kmdist.cli.summary import say_table
    from kmdist.job.reporter import Reporter
    from kmdist.pictures.export import export as run_export
    from kmdist.store import open_run

    with Reporter(quiet=quiet) as reporter:
        rows = run_export(open_run(run), folder, **options, watch=reporter)
    if not quiet:
        say_table(rows, everything=verbose)
        say(f"written to {folder}")


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
@click.option("--mask", is_flag=True, help="Write white on black instead of the pixels.")
@click.option(
    "--min-region",
    type=int,
    default=0,
    metavar="N",
    help="Drop regions of fewer pixels, and fill holes of fewer.",
)
@click.option("--largest", is_flag=True, help="Keep the largest region alone.")
@click.option(
    "--feather",
    type=float,
    default=0.0,
    metavar="PX",
    help="Fade out over so many pixels on either side of the edge.",
)
def extract(run: str, image: str | None, output: str, at: tuple[Any, ...], **options: Any) -> None:
    """Cut the pixels of some clusters out of an image; the rest becomes transparent.

    IMAGE is a name that `kmdist info` lists, or the path of the photograph. Without it: out of all
    images that share their clusters, into the folder DIR.

    \b
    kmdist quantize portrait.jpg -o face.zarr -k 3
    kmdist extract face.zarr portrait.jpg --at 250,120 --largest --feather 2 -o cutout.png
    kmdist extract face.zarr --clusters 1 -o cutouts/
    """
    from kmdist.errors import UsageError
    from kmdist.pictures.extract import extract as run_extract
    from kmdist.pictures.extract import extract_all
    from kmdist.store import open_run

    if image is None:
        if at:
            raise UsageError("--at X,Y is a place in one image: give IMAGE, or --clusters")
        cutouts = extract_all(open_run(run), output, **options)
        n_kept, n_pixels = (sum(getattr(c, n) for c in cutouts) for n in ("n_kept", "n_pixels"))
        share = n_kept / max(n_pixels, 1)
        say(f"{output}: {len(cutouts):,} images, {share:.1%} of the pixels")
        return
    cutout = run_extract(open_run(run), image, output, at=at, **options)
    if cutout.note:
        say(f"note: {cutout.note}", err=True)
    share = cutout.n_kept / cutout.n_pixels
    kept = ", ".join(map(str, cutout.clusters))
    word = "cluster" if len(cutout.clusters) == 1 else "clusters"
    say(f"{cutout.path}: {word} {kept}, {share:.1%} of the pixels")
