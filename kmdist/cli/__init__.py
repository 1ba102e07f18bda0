"""The `kmdist` command, also `dask kmdist`: options in, recipe calls out, plain errors."""

import errno
import gc
import os
import sys
from typing import Any

import click

from kmdist.cli.cluster import cluster
from kmdist.cli.nightly import nightly
from kmdist.cli.options import COMMAND_KEY, said
from kmdist.cli.recipes import demo, merge, predict, recipe_command, split
from kmdist.cli.runs import export, extract, filters, info, report, serve, view
from kmdist.cli.specs import run
from kmdist.errors import KmdistError, shown_lines
from kmdist.recipes.registry import recipe_names


class Commands(click.Group):
    """The commands, one of each recipe among them; what a user can mend is said in one message."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*recipe_names(), *self.commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in recipe_names():
            return recipe_command(cmd_name)
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[COMMAND_KEY] = [*ctx.command_path.split(), *args]
        if "" in args:  # which is the current folder to some, and nothing to others
            place = args.index("") + 1
            raise click.UsageError(
                f"argument {place} is empty, as a variable that is not set gives it; leave it out, "
                "or say what is meant (. is the current folder)"
            )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KmdistError as error:
            click.echo(f"kmdist: error: {shown_lines(said(error))}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("kmdist: interrupted", err=True)
            ctx.exit(130)


@click.group("kmdist", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kmdist")
def cli() -> None:
    """k-means over image collections: palettes, textures, digits, pixels of any channels.

    Results are Zarr groups that xarray, napari and the OME-Zarr tools open.

    \b
    kmdist quantize photos/ -o run.zarr -k 16
    kmdist view run.zarr -o picture.png

    \b
    Exit codes:
      0    done; files that cannot be used are left out and listed
      1    not done; what is finished is kept for --resume
      2    a mistake in what was asked for
      3    done, but files were left out that may be usable another time: they killed
           workers or had changed; of nights, an input is missing
      75   another night is still running
      130  interrupted
    """


for command in (
    run,
    demo,
    info,
    view,
    export,
    extract,
    predict,
    split,
    merge,
    report,
    serve,
    filters,
    cluster,
    nightly,
):
    cli.add_command(command)


def main() -> None:
    """Run a command, and end the process with its exit code."""
    # Modules and kernels are hundreds of thousands of objects that stay: to go through them as
    # often as Python does takes 0.4 of the 3.4 s of CPU of a small job.
    gc.set_threshold(10_000)
    try:
        cli(prog_name="kmdist")
    except OSError as error:  # of standard output; what jobs write has errors of its own
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EIO):
            raise
        sys.exit(f"kmdist: error: cannot write: {os.strerror(error.errno)}")
