"""What commands print: names, reasons and records of others cannot take over a terminal."""

import re

import click

from kmdist.errors import shown

_SWATCH = re.compile(r"(\x1b\[48;2;\d{1,3};\d{1,3};\d{1,3}m  \x1b\[0m)")
"""Cells of a colour, as `kmdist.cli.summary` makes them."""


def say(line: object, *, err: bool = False) -> None:
    """Print one line, as `shown`; colours of swatches stay."""
    parts = _SWATCH.split(str(line))
    click.echo("".join(p if i % 2 else shown(p) for i, p in enumerate(parts)), err=err)
