"""What commands print, above all of a run: palette, shares, sizes, scores, what was left out."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import click

from kmdist.errors import quantity, shown
from kmdist.recipes.registry import recipe_named

WORTH_ANOTHER_TRY = 3
"""Exit code of a run without images that may not be to blame: the same command may do better."""
SHOWN_COLORS = 16
SHOWN_IMAGES = 24
SHOWN_REJECTED = 10
LISTED_CLUSTERS = 16
"""Of which the classes are listed."""
COMPARED = (
    "PSNR of all pixels, SSIM and CIEDE2000 (ΔE) of some of each image; kmdist export: SSIM of all"
)
PIPE_WIDTH = 160
"""Columns where the output is no terminal: tables are then not squeezed."""


_SWATCH = re.compile(r"(\x1b\[48;2;\d{1,3};\d{1,3};\d{1,3}m  \x1b\[0m)")
"""Cells of a colour, as `_swatch` makes them."""


def say(line: object, *, err: bool = False) -> None:
    """Print one line, as `shown`, so that names of others cannot take over a terminal.

    Colours of swatches stay.
    """
    parts = _SWATCH.split(str(line))
    click.echo("".join(p if i % 2 else shown(p) for i, p in enumerate(parts)), err=err)


def say_result(run: Any, *, where: Any, verbose: bool = False) -> None:
    """Print a finished run: where it is, each k with its figures, what was rejected."""
    say(where)
    for one in run.fits:
        say(_figures(one))
        _say_fidelity(one)
        if one.palette is not None:
            _say_palette(one.palette, one.counts, everything=False)
    _say_rejected(run.attributes.get("rejected") or [], everything=verbose)
    for one in run.fits:
        _say_classes(one, everything=verbose)
        _say_items(one)
    _say_tree(run.attributes.get("tree") or [])


def exit_code_of(run: Any) -> int:
    """`WORTH_ANOTHER_TRY` where images were left out for reasons that may be the machine's."""
    from kmdist.images import NOT_THEIR_OWN  # with NumPy, which `--help` does not need

    codes = {one["code"] for one in run.attributes.get("rejected") or []}
    return WORTH_ANOTHER_TRY if codes & NOT_THEIR_OWN else 0


def say_run(run: Any, *, everything: bool = False) -> None:
    """Print what `kmdist info` says of a run.

    Parameters
    ----------
    everything : all colours, images and rejected files instead of the first of each.
    """
    attributes = run.attributes
    first = run.fits[0]
    say(f"{run.path}  {run.recipe}")
    for line in recipe_named(run.recipe).summary(run):
        say(line)
    if run.runs:
        _say_runs(run.runs.values())
    else:
        say(_figures(run))
        _say_fidelity(run)
        selection = attributes.get("selection") or {}
        if selection.get("reason"):
            say(f"k chosen     {selection['reason']}")
        _say_scores(attributes.get("scores") or {})
        table = run.array("confusion")
        if table is not None:
            _say_confusion(table, attributes["class_names"], attributes["maps"])
        _say_tree(attributes.get("tree") or [])
        if run.palette is not None:
            _say_palette(run.palette, run.counts, everything=everything)
    _say_images(first, own_fit=run.palette is None and not run.runs, everything=everything)
    if first.fidelity:
        of_first = f"k = {first.k}: " if run.runs else ""
        say(f"compared     {of_first}{COMPARED}")
    times = ", ".join(f"{k} {v:.1f} s" for k, v in (attributes.get("timings") or {}).items())
    model = (run.parameters.get("model") or {}) if isinstance(run.parameters, dict) else {}
    if isinstance(model, Mapping) and model.get("path"):
        say(f"model        {model['path']}")
    say(f"seed         {attributes.get('seed')}")
    say(f"times        {times or '-'}")
    say(f"fingerprint  {attributes.get('fingerprint')}")
    _say_rejected(attributes.get("rejected") or [], everything=everything)


def say_table(rows: Sequence[Any], *, everything: bool = False) -> None:
    """Print the table of an export, with totals for each k of a run of several.

    Parameters
    ----------
    rows : of `kmdist.pictures.export.ExportedImage`, at least one.
    """
    head = ["image", "k", "bytes", "bit/px", "of original", "PSNR dB", "SSIM", "ΔE"]
    lines = [_table_line(row) for row in (rows if everything else rows[:SHOWN_IMAGES])]
    own_fit = len({row.k for row in rows if row.image == rows[0].image}) == 1
    groups: dict[int, list[Any]] = {}
    for row in rows:
        groups.setdefault(0 if own_fit else row.k, []).append(row)
    lines += [_total_line(group) for group in groups.values()]
    if len({row.k for row in rows}) == 1:
        head, lines = head[:1] + head[2:], [line[:1] + line[2:] for line in lines]
    _print_table(head, lines, totals=len(groups))
    if not everything and len(rows) > SHOWN_IMAGES:
        say(f"… {quantity(len(rows) - SHOWN_IMAGES, 'more line')} (-v, or table.csv, lists them)")
    for row in [row for row in rows if row.note][: len(rows) if everything else SHOWN_REJECTED]:
        say(f"note: {row.image}: {row.note}", err=True)


def _table_line(row: Any) -> list[str]:
    return [
        row.image,
        str(row.k),
        f"{row.bytes:,}",
        f"{row.bits_per_pixel:.3f}",
        _share(row.bytes, row.original_bytes),
        _number(row.psnr_db, 2),
        _number(row.ssim, 4),
        _number(row.delta_e, 2),
    ]


def _total_line(rows: Sequence[Any]) -> list[str]:
    from kmdist.recipes.quantize.fidelity import psnr_db

    total = sum(row.bytes for row in rows)
    pixels = sum(row.width * row.height for row in rows)
    compared = [row for row in rows if row.original_bytes is not None]
    ks = {row.k for row in rows}
    return [
        f"all {len(rows):,}",
        str(*ks) if len(ks) == 1 else "",
        f"{total:,}",
        f"{8 * total / max(pixels, 1):.3f}",
        _share(sum(r.bytes for r in compared), sum(r.original_bytes for r in compared)),
        _number(psnr_db(sum(r.squared_error for r in rows), sum(r.n_values for r in rows)), 2),
        _number(_mean(row.ssim for row in rows), 4),
        _number(_mean(row.delta_e for row in rows), 2),
    ]


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else None


def _figures(run: Any) -> str:
    parts = [run.said_k]
    if run.inertia is not None:
        parts.append(f"inertia {run.inertia:.6g}")
    if run.n_iter is not None:
        reason = run.attributes.get("stop_reason")
        parts.append(
            f"{quantity(run.n_iter, 'iteration')} ({reason})" if run.n_iter else f"{reason}"
        )
    return ", ".join(parts)


def _say_fidelity(run: Any) -> None:
    """How near the pictures are to their originals: all of them, and the worst."""
    near = run.attributes.get("fidelity")
    if not near:
        return
    worst = near["worst"]
    others = f"; worst {worst['image']}: {_nearness(worst)}" if len(run.images) > 1 else ""
    say(f"PSNR {_nearness(near)}{others}")


def _nearness(near: Mapping[str, Any]) -> str:
    known = near.get("delta_e")  # which runs of earlier versions do not say
    apart = "" if known is None else f", ΔE {known:.2f}"
    return f"{_psnr(near['psnr_db'])}, SSIM {_number(near['ssim'], 4)}{apart}"


def _psnr(value: float | None) -> str:
    """In dB; None, or infinite, where pictures are equal."""
    return "∞ (exact)" if value is None or math.isinf(value) else f"{value:.2f} dB"


def _say_runs(runs: Iterable[Any]) -> None:
    """The table of several k."""
    listed = list(runs)
    scores = [name for name in _scores(listed[0]) if any(_scores(run)[name] for run in listed)]
    lines = []
    for run in listed:
        figures = [str(run.k), _number(run.inertia, 6, "g"), str(run.n_iter)]
        figures += [str(run.attributes.get("stop_reason"))]
        near = run.attributes.get("fidelity") or {}
        figures += [_psnr(near["psnr_db"]) if near else "-", _number(near.get("ssim"), 4)]
        figures += [_number(near.get("delta_e"), 2)]
        figures += [_number(_scores(run)[name], 4) for name in scores]
        lines.append([*figures, str(run.path)])
    _print_table(
        ["k", "inertia", "iterations", "stopped", "PSNR", "SSIM", "ΔE", *scores, "path"],
        lines,
        left_from=-1,
    )


def _scores(run: Any) -> dict[str, float | None]:
    from kmdist.store.reader import SCORES

    return {name: (run.attributes.get("scores") or {}).get(name) for name in SCORES}


def _say_scores(scores: Mapping[str, float | None]) -> None:
    given = {name: value for name, value in scores.items() if value is not None}
    for name, value in given.items():
        say(f"{name:<20} {value:.4f}")


def _say_classes(run: Any, *, everything: bool) -> None:
    """Print how well clusters and known classes agree, and which cluster holds what."""
    for title, key in (("images", "scores"), ("test", "scores_test")):
        if run.attributes.get(key):
            figures = "  ".join(f"{n} {v:.4f}" for n, v in run.attributes[key].items())
            say(f"k = {run.k}, {title}: {figures}")
    table = run.array("confusion")
    if table is not None and (run.k <= LISTED_CLUSTERS or everything):
        _say_confusion(table, run.attributes["class_names"], run.attributes["maps"])


def _say_items(run: Any) -> None:
    """Print the cluster of each new image that is a file, and the class that cluster stands for."""
    if run.attributes.get("stop_reason") != "predicted" or not run.names:
        return
    maps, names = run.attributes.get("maps") or {}, run.attributes.get("class_names") or []
    labels = run.labels()[:SHOWN_IMAGES]
    for name, label in zip(run.names, labels.tolist(), strict=False):
        stands = ""
        if label < run.k and "majority" in maps and names:
            share = maps.get("majority_share", [])[label:][:1]
            said = f", {share[0]:.1%}" if share else ""
            stands = f" (class {names[maps['majority'][label]]}{said})"
        say(f"{name} → cluster {label}{stands}")
    if len(run.names) > SHOWN_IMAGES:
        say(f"… and {quantity(len(run.names) - SHOWN_IMAGES, 'more image')} (run.labels())")


def _say_confusion(table: Any, class_names: Sequence[str], maps: dict[str, list[int]]) -> None:
    """Print clusters × classes with totals, the class each cluster stands for, and its share."""
    head = ["cluster", "class", *map(str, class_names), "total", "purity"]
    lines = []
    for number, row in enumerate(table):
        total = int(row.sum())
        best = maps["majority"][number]
        share = f"{row[best] / total:.3f}" if total else "-"
        lines.append([str(number), str(class_names[best]), *map(str, row), str(total), share])
    totals = [int(v) for v in table.sum(axis=0)]
    lines.append(["total", "", *map(str, totals), str(sum(totals)), ""])
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    for line in [head, *lines]:
        say("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _say_tree(tree: list[dict[str, Any]]) -> None:
    """Print where the clusters that were split or merged come from."""
    now = {node["id"]: node["cluster"] for node in tree}
    for node in tree:
        if node["by"] == "fit":
            continue
        sources = ", ".join(f"#{origin} ({tree[origin]['count']:,})" for origin in node["from"])
        what = "part of" if node["by"] == "split" else "joined from"
        cluster = now[node["id"]]
        name = f"cluster {cluster}" if cluster is not None else "no longer a cluster"
        say(f"#{node['id']} {name}: {quantity(node['count'], 'image')}, {what} {sources}")


def _say_palette(palette: Any, counts: Any, *, everything: bool) -> None:
    from kmdist.images.color import hex_color  # with NumPy, which `--help` does not need

    listed = [int(n) for n in counts] if counts is not None else [0] * len(palette)
    total = max(sum(listed), 1)
    pairs = list(zip(palette.tolist(), listed, strict=True))
    for number, (color, count) in enumerate(pairs if everything else pairs[:SHOWN_COLORS]):
        say(f"{number:>4}  {_swatch(color)}  {hex_color(color)} {count / total:8.2%} {count:>16,}")
    if not everything and len(pairs) > SHOWN_COLORS:
        say(f"      … and {quantity(len(pairs) - SHOWN_COLORS, 'more cluster')}")


def _say_images(run: Any, *, own_fit: bool, everything: bool) -> None:
    for name in run.images if everything else islice(run.images, SHOWN_IMAGES):
        image = run.images[name]
        palette = image.palette if own_fit else None
        fit = ""
        if palette is not None:
            swatches = "".join(map(_swatch, palette[:SHOWN_COLORS].tolist()))
            swatches += "  " * (min(run.k, SHOWN_COLORS) - len(palette[:SHOWN_COLORS]))
            fit = f"k = {len(palette):<3} {swatches} "
        near = run.fidelity.get(name)
        figures = ""
        if near:
            figures = f"{_psnr(near.psnr_db):>9}  {_number(near.ssim, 4):>6}  "
            figures += f"ΔE {_number(near.delta_e, 2):<5}  "
        say(f"  {image.width:>6} × {image.height:<6} {figures}{fit}{name}")
    if not everything and len(run.images) > SHOWN_IMAGES:
        say(f"  … and {quantity(len(run.images) - SHOWN_IMAGES, 'more image')} (-v, or --json)")


def _say_rejected(rejected: Sequence[Mapping[str, Any]], *, everything: bool) -> None:
    if not rejected:
        return
    say(f"{quantity(len(rejected), 'file')} left out:")
    for one in rejected if everything else rejected[:SHOWN_REJECTED]:
        say(f"  {one['image']}: {one['reason']} [{one['code']}]")
    if not everything and len(rejected) > SHOWN_REJECTED:
        say(f"  … and {len(rejected) - SHOWN_REJECTED:,} more (kmdist info -v lists them)")


def _print_table(
    head: Sequence[str],
    lines: Iterable[Sequence[str]],
    *,
    left_from: int = 0,
    totals: int = 0,
) -> None:
    """Print a table of figures; the column `left_from` holds text, the last lines may be totals."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(head):
        is_text = number == left_from % len(head)
        table.add_column(
            title, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text
        )
    listed = list(lines)
    for number, line in enumerate(listed):
        if totals and number == len(listed) - totals:
            table.add_section()
        table.add_row(*(Text(shown(cell)) for cell in line))
    console = Console()
    console = console if console.is_terminal else Console(width=PIPE_WIDTH)
    console.print(table)


def _share(size: int, of: int | None) -> str:
    return f"{size / of:.1%}" if of else "-"


def _number(value: float | None, digits: int, kind: str = "f") -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}{kind}}"


def _swatch(color: Sequence[int]) -> str:
    """Two cells in the colour; click strips it where the output is not a terminal."""
    return click.style("  ", bg=(color[0], color[1], color[2]))
