"""`kmdist texture` and `kmdist filters`."""

from typing import Any

import click

from kmdist.cli.options import (
    command_line,
    fit_options,
    job_options,
    k_option,
    split_job_options,
    with_default,
)


@with_default("block_mpx", 4.0)
@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@k_option(
    "Clusters; several to compare: 4,6,8; with --shared 2..12 or auto chooses one.  [default: 6]"
)
@click.option(
    "--preset",
    type=click.Choice(["textons", "gabor", "lm", "color+texture", "tutorial"]),
    default="textons",
    show_default=True,
    help="What is measured; color+texture for photographs, tutorial for comparison only.",
)
@click.option(
    "--shared/--per-image",
    default=False,
    show_default=True,
    help="One set of clusters for the collection, or one an image.",
)
@click.option(
    "--sample",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Share of the positions a fit takes.  [default: all, up to 131,072]",
)
@click.option(
    "--scales",
    type=click.Choice(["linear", "published"]),
    default="linear",
    show_default=True,
    help="Scales of the Leung-Malik bank.",
)
@click.option(
    "--pool-px",
    type=click.FloatRange(0),
    metavar="PX",
    help="Standard deviation of the window that features are pooled in.  [default: the preset's]",
)
@click.option(
    "--whiten", type=click.IntRange(0), metavar="N", help="Keep N half-whitened components."
)
@click.option(
    "--textons", type=click.IntRange(0, 256), metavar="N", help="Number of textons; 0: none."
)
@click.option(
    "--color-weight",
    type=click.FloatRange(0),
    metavar="W",
    help="Weight of colour against texture.",
)
@click.option(
    "--keep-responses", is_flag=True, help="Write the filter responses beside the labels."
)
@fit_options()
@job_options
def texture(**options: Any) -> None:
    """Segment photographs by texture: k-means on pooled responses of a filter bank.

    INPUT is a folder, a glob, image files, or a text file that lists them; `sample:photos` are
    bundled photographs. Tiled TIFF and Zarr images are read by tile, never whole.

    \b
    kmdist texture photos/ -o texture.zarr -k 6
    kmdist view texture.zarr photo.jpg -o picture.png
    kmdist extract texture.zarr photo.jpg --at 120,80 -o cutout.png
    """
    from kmdist.cli.progress import Reporter
    from kmdist.cli.summary import say_result
    from kmdist.recipes.texture.recipe import texture as run_texture

    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    own, shared = split_job_options(options)
    with Reporter(quiet=quiet) as reporter:
        result = run_texture(
            own.pop("inputs"), **own, **shared, watch=reporter, command=command_line()
        )
    say_result(result, verbose=verbose)


@click.command()
@click.argument("bank", type=click.Choice(["lm", "gabor"]))
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="The .png, .jpg or .webp to write."
)
@click.option("--scales", type=click.Choice(["linear", "published"]), default="linear")
@click.option("--variant", type=click.Choice(["corrected", "tutorial"]), default="corrected")
def filters(bank: str, output: str, scales: str, variant: str) -> None:
    """Draw the kernels of a filter bank: the Leung-Malik bank as the 6 × 8 sheet people know.

    \b
    kmdist filters lm -o bank.png
    """
    from kmdist.pictures.bank import draw_bank
    from kmdist.recipes.texture.model import bank_named

    drawn = draw_bank(bank_named(bank, scales=scales, variant=variant), output)
    click.echo(f"picture: {drawn}")
