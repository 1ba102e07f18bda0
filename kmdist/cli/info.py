"""`kmdist info`."""

import click


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
    from kmdist.cli.summary import say_run
    from kmdist.store.reader import interpreting, open_run

    opened = open_run(run)
    with interpreting(opened):
        if as_json:
            import json

            # ASCII with escapes: file names may hold bytes that are no text.
            click.echo(json.dumps(opened.info(), indent=1))
        else:
            say_run(opened, everything=verbose)
