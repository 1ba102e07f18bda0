"""`kmdist quantize`."""

from typing import Any

import click

from kmdist.cli.options import command_line, fit_options, job_options, k_option, split_job_options


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@k_option(
    "Colours of the palette; several to compare: 2,8,25; 2..32 or auto chooses one.  [default: 16]"
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
@fit_options(
    init=click.option(
        "--init",
        default="k-means++",
        show_default=True,
        metavar="random|k-means++|FILE",
        help="First centres; FILE: a palette (.gpl, .json, .npy) or a run.",
    )
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
    from kmdist.recipes.quantize.recipe import quantize as run_quantize

    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    own, shared = split_job_options(options)
    with Reporter(quiet=quiet) as reporter:
        result = run_quantize(
            own.pop("inputs"), **own, **shared, watch=reporter, command=command_line()
        )
    say_result(result, verbose=verbose)
