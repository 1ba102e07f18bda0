"""`kmdist predict`: new images with old clusters."""

from typing import Any

import click

from kmdist.cli.digits import Cell
from kmdist.cli.options import command_line, labelling_options


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--cell", type=Cell(), help="Digits: INPUT is a sheet of cells of this size: 20x20.")
@click.option(
    "--labels",
    metavar="rows|FILE",
    help="Digits: true classes, to score by the maps of RUN: rows of the sheet, or a file.",
)
@click.option(
    "--polarity",
    type=click.Choice(["auto", "light", "dark"]),
    default="auto",
    show_default=True,
    help="Digits: light: light ink on dark paper; auto: as the images of RUN.",
)
@labelling_options
def predict(run: str, inputs: tuple[str, ...], **options: Any) -> None:
    """Label new images with the clusters of RUN, and write a new run.

    Each pixel of photographs gets the nearest colour or texture; of a run of digits, each image
    gets its cluster. RUN has one set of clusters: a shared one, or RUN.zarr/k8 of several k.
    INPUT is as for the command that wrote RUN; image files for a run of digits are brought to
    the size of its images.

    \b
    kmdist predict run.zarr new-photos/ -o new.zarr
    kmdist predict digits.zarr t10k-images-idx3-ubyte.gz -o test.zarr
    """
    from kmdist.cli.progress import Reporter
    from kmdist.cli.summary import say_result
    from kmdist.recipes.predict import predict as run_predict

    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    with Reporter(quiet=quiet) as reporter:
        result = run_predict(run, inputs, **options, watch=reporter, command=command_line())
    say_result(result, verbose=verbose)
