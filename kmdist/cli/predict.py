"""`kmdist predict`: new photographs with an old palette."""

from typing import Any

import click

from kmdist.cli.options import command_line, labelling_options


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@labelling_options
def predict(run: str, inputs: tuple[str, ...], **options: Any) -> None:
    """Label new photographs with the palette of RUN, and write a new run.

    Each pixel gets the nearest colour. RUN has one palette: a shared one, or RUN.zarr/k8 of
    several k. INPUT is as for `kmdist quantize`.

    \b
    kmdist predict run.zarr new-photos/ -o new.zarr
    """
    from kmdist.cli.progress import Reporter
    from kmdist.cli.summary import say_result
    from kmdist.recipes.predict import predict as run_predict

    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    with Reporter(quiet=quiet) as reporter:
        result = run_predict(run, inputs, **options, watch=reporter, command=command_line())
    say_result(result, verbose=verbose)
