"""The `kmdist` command, also `dask kmdist`: options in, recipe calls out, plain errors."""

from typing import Any

import click

from kmdist.cli.cluster import cluster
from kmdist.cli.demo import demo
from kmdist.cli.digits import digits
from kmdist.cli.export import export, extract
from kmdist.cli.info import info
from kmdist.cli.nightly import nightly
from kmdist.cli.options import COMMAND_KEY
from kmdist.cli.predict import predict
from kmdist.cli.quantize import quantize
from kmdist.cli.run import run
from kmdist.cli.split_merge import merge, split
from kmdist.cli.summary import shown_lines
from kmdist.cli.texture import filters, texture
from kmdist.cli.view import view
from kmdist.errors import KmdistError, on_command_line


class PlainErrors(click.Group):
    """A group that reports what a user can mend in one message, without a traceback."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[COMMAND_KEY] = [*ctx.command_path.split(), *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KmdistError as error:
            click.echo(f"kmdist: error: {shown_lines(on_command_line(str(error)))}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("kmdist: interrupted", err=True)
            ctx.exit(130)


@click.group("kmdist", cls=PlainErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kmdist")
def cli() -> None:
    """k-means over image collections: palettes, textures, digits.

    Results are Zarr groups that xarray, napari and the OME-Zarr tools open.

    \b
    kmdist quantize photos/ -o run.zarr -k 16
    kmdist view run.zarr -o picture.png
    """


for command in (
    quantize,
    texture,
    digits,
    run,
    demo,
    info,
    view,
    export,
    extract,
    predict,
    split,
    merge,
    filters,
    cluster,
    nightly,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the `kmdist` script."""
    cli(prog_name="kmdist")
