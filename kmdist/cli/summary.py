"""What a command prints of a run: palette, shares, sizes, what was left out."""

from typing import Any

import click

SHOWN_COLORS = 16


def say_result(run: Any, *, verbose: bool = False) -> None:
    """Print a finished run: where it is, each k with its figures, what was rejected."""
    info = run.info()
    click.echo(f"{run.path}")
    for one in list((info.get("runs") or {"": info}).values()):
        _say_fit(one)
    rejected = info.get("rejected") or []
    if rejected:
        click.echo(f"{len(rejected)} files left out:")
        for rejection in rejected if verbose else rejected[:10]:
            click.echo(f"  {rejection['image']}: {rejection['reason']} [{rejection['code']}]")
        if not verbose and len(rejected) > 10:
            click.echo(f"  … and {len(rejected) - 10} more (kmdist info, or -v, lists them)")


def _say_fit(info: dict[str, Any]) -> None:
    parts = [f"k = {info['k']}"]
    if info.get("inertia") is not None:
        parts.append(f"inertia {info['inertia']:.6g}")
    if info.get("n_iter") is not None:
        parts.append(f"{info['n_iter']} iterations ({info['stop_reason']})")
    click.echo(", ".join(parts))
    palette, counts = info.get("palette"), info.get("counts")
    if not palette or not counts:
        return
    total = max(sum(counts), 1)
    for color, count in list(zip(palette, counts, strict=True))[:SHOWN_COLORS]:
        click.echo(
            f"  {_swatch(color)} #{color[0]:02x}{color[1]:02x}{color[2]:02x} {count / total:7.2%}"
        )
    if len(palette) > SHOWN_COLORS:
        click.echo(f"  … and {len(palette) - SHOWN_COLORS} more colours")


def _swatch(color: list[int]) -> str:
    """Two cells in the colour; click strips it where the output is not a terminal."""
    return click.style("  ", bg=(color[0], color[1], color[2]))
