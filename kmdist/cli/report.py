"""`kmdist report` and `kmdist serve`: a run as a page."""

import click

from kmdist.cli.say import say


@click.command()
@click.argument("run", metavar="RUN")
@click.option("-o", "--output", required=True, metavar="FILE.html", help="The page to write.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
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
