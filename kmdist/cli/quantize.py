"""`kmdist quantize`."""

from typing import Any

import click

from kmdist.cli.options import KList, command_line, job_options, split_job_options


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-k",
    "--k",
    type=KList(),
    default=None,
    help="Colours of the palette; several to compare: 2,8,25; 2..32 or auto chooses one.  "
    "[default: 16]",
)
@click.option(
    "--psnr",
    type=click.FloatRange(5, 100),
    metavar="DB",
    help="Instead of -k: the fewest colours found that reach this quality.",
)
@click.option(
    "--shared/--per-image",
    default=True,
    show_default=True,
    help="One palette for the collection, or one an image.",
)
@click.option(
    "--space",
    type=click.Choice(["rgb", "lab", "oklab", "hsv"]),
    default="rgb",
    show_default=True,
    help="Colour space in which distances are measured.",
)
@click.option(
    "--metric",
    type=click.Choice(["euclidean", "manhattan"]),
    default="euclidean",
    show_default=True,
    help="manhattan: k-medians.",
)
@click.option(
    "--init",
    default="k-means++",
    show_default=True,
    metavar="random|k-means++|FILE",
    help="First centres; FILE: a palette (.gpl, .json, .npy) or a run.",
)
@click.option("--n-init", type=click.IntRange(1), default=1, show_default=True, help="Restarts.")
@click.option("--max-iter", type=click.IntRange(1), default=300, show_default=True)
@click.option(
    "--tol",
    type=click.FloatRange(0),
    default=1e-4,
    show_default=True,
    help="Stop when centres move less, relative to the variance; 0: until no label changes.",
)
@job_options
def quantize(**options: Any) -> None:
    """Reduce photographs to a palette of k colours.

    INPUT is a folder, a glob, image files, or a text file that lists them; `sample:photos` are
    bundled photographs. Writes label maps and the palette to RUN.zarr.

    \b
    kmdist quantize photos/ -o run.zarr -k 16
    kmdist view run.zarr -o picture.png
    """
    from kmdist.cli.progress import Reporter
    from kmdist.cli.summary import say_result
    from kmdist.recipes.quantize import quantize as run_quantize

    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    own, shared = split_job_options(options)
    with Reporter(quiet=quiet) as reporter:
        result = run_quantize(
            own.pop("inputs"), **own, **shared, watch=reporter, command=command_line()
        )
    say_result(result, verbose=verbose)
