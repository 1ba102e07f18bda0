"""`kmdist filters`."""

import click

from kmdist.cli.say import say


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
    from kmdist.pictures.view import draw_bank
    from kmdist.recipes.texture.model import bank_named

    drawn = draw_bank(bank_named(bank, scales=scales, variant=variant), output)
    say(f"picture: {drawn}")
