"""`kmdist demo`: the main job on bundled pictures, with something to look at in the end."""

import click

from kmdist.cli.say import say


@click.command()
@click.option("-o", "--output", default="kmdist-demo", show_default=True, metavar="DIR")
@click.option("-k", type=click.IntRange(2, 256), default=16, show_default=True)
def demo(output: str, k: int) -> None:
    """Quantize bundled photographs and draw the result; needs no network."""
    from pathlib import Path

    from kmdist.cli.summary import say_result
    from kmdist.job.reporter import Reporter
    from kmdist.pictures.output_files import make_folder
    from kmdist.pictures.view import draw_run
    from kmdist.recipes.quantize.recipe import quantize
    from kmdist.urls import require_on_disk

    require_on_disk(output, "-o")
    folder = make_folder(Path(output))
    with Reporter() as reporter:
        run = quantize(
            ["sample:photos"], folder / "photos.zarr", k=k, overwrite=True, watch=reporter
        )
    say_result(run, where=run.path)
    picture = folder / "photos.png"
    draw_run(run, picture)
    say(f"picture: {picture}")
