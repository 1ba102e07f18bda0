"""`kmdist digits`."""

from typing import Any

import click

from kmdist.cli.options import (
    command_line,
    fit_options,
    job_options_but,
    k_option,
    split_job_options,
)

PRESETS = ("raw", "deskew", "gradient", "landmark", "refined")


class Cell(click.ParamType[Any]):
    """Width and height of a cell: ``20x20``."""

    name = "WxH"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None or isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) != 2 or not all(part.isdigit() and int(part) > 1 for part in parts):
            self.fail(f"{value!r} must be a width and a height in pixels such as 20x20", param, ctx)
        return int(parts[0]), int(parts[1])


@click.command()
@click.argument("images", metavar="INPUT")
@k_option("Clusters, or several numbers to compare: 10,16,64.  [default: 10]")
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    help="How images are described and grouped.  [default: landmark from 2,000 images on, else "
    "gradient]",
)
@click.option("--cell", type=Cell(), help="INPUT is a sheet of cells of this size: 20x20.")
@click.option(
    "--labels",
    metavar="rows|FILE",
    help="True classes, to score the result: rows of the sheet, or a file.",
)
@click.option("--test", metavar="INPUT", help="Further images, labelled and scored afterwards.")
@click.option("--test-labels", metavar="rows|FILE", help="Their true classes.")
@click.option(
    "--polarity",
    type=click.Choice(["auto", "light", "dark"]),
    default="auto",
    show_default=True,
    help="light: light ink on dark paper; auto: as the borders show.",
)
@fit_options(unset=True)
@job_options_but("max_pixels")
def digits(images: str, **options: Any) -> None:
    """Group images of single characters, such as handwritten digits.

    INPUT is an IDX file (MNIST's, gzipped or not), a sheet with --cell, a folder of images
    (sub-folders are classes), a .npy, .npz or Zarr stack, or the bundled sample:digits. Classes
    that come with the images only score the result.

    \b
    kmdist digits train-images-idx3-ubyte.gz -o run.zarr -k 10
    kmdist digits digits.png --cell 20x20 --labels rows -o run.zarr
    """
    from kmdist.cli.progress import Reporter
    from kmdist.cli.summary import say_result
    from kmdist.recipes.digits.recipe import digits as run_digits

    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    own, shared = split_job_options(options)
    with Reporter(quiet=quiet) as reporter:
        run = run_digits(images, **own, **shared, watch=reporter, command=command_line())
    say_result(run, verbose=verbose)
