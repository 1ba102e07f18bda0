"""`kmdist report`: what a run holds, as one page that opens from a file and needs nothing else."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.arguments import checked_arguments
from kmdist.errors import quantity
from kmdist.job.exhibits import Curves, Exhibit, Table
from kmdist.job.progress import Watcher, watch_nothing
from kmdist.pages.embedding import embedded_images
from kmdist.pages.page import render
from kmdist.pictures.output_files import check_picture_path, write_text, written_to
from kmdist.recipes.registry import recipe_named
from kmdist.store import Run
from kmdist.store.reader import opened

SHOWN_REJECTED = 200
MODES = {
    "compare": "Compare",
    "overlay": "Overlay",
    "labels": "Labels",
    "chosen": "Chosen clusters",
}
SCRIPTS = ("png.js", "canvas.js", "viewer.js", "embedded.js")
SAVING = (
    "Saved in full size. A cut-out has the colours of this page's copy (WebP); the command takes "
    "the original's."
)


@checked_arguments
def report(
    run: Run | str | Path, output: str | Path, *, watch: Watcher = watch_nothing
) -> str | Path:
    """Write a page about a run: what ran, pictures whose clusters can be picked, what it found.

    It holds everything it shows, up to about 15 MB: of many images reduced copies, of more than
    1,000 a selection spread evenly. It loads nothing and sends nothing.

    Parameters
    ----------
    output : the .html file to write, or its URL.
    watch : called with progress.

    Returns
    -------
    Path or URL : what was written.

    Raises
    ------
    UsageError : there is no such run, or `output` is no .html file that can be written.
    KmdistError : the run is damaged, or the file cannot be written.
    """
    run = opened(run)
    place = check_picture_path(output, (".html", ".htm"))
    images = embedded_images(run, watch)
    fits = list(run.runs.values()) or [run]
    viewer = None
    if images:
        shown = {"shown": len(images), "all": len(fits[0].images), "modes": MODES}
        viewer = {**shown, "data": {**viewer_data(run), "images": images, "saving": SAVING}}
    page = render("run.html", SCRIPTS if viewer else (), viewer=viewer, **about(run))
    with written_to(place) as path:
        write_text(path, page)
    return place


def viewer_data(run: Run) -> dict[str, Any]:
    """What the page's script needs besides images."""
    fits = list(run.runs.values()) or [run]
    return {
        "mode": "compare" if recipe_named(run.recipe).recolors else "overlay",
        "ownPalettes": all(fit.palette is None for fit in fits),
        "runs": [{"k": fit.k, "quoted": shlex.quote(str(fit.path))} for fit in fits],
    }


def about(run: Run) -> dict[str, Any]:
    """All that a page says of a run besides its pictures, as its template takes it."""
    return {
        "title": f"{os.path.basename(str(run.path))}: {run.recipe}",
        "lead": "; ".join([str(run.path), *recipe_named(run.recipe).summary(run)[:1]]),
        "facts": list(_facts(run)),
        "sections": _sections(run),
        "record": list(_record(run)),
    }


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """Figures worth large type, each with what it is."""
    record = run.attributes
    yield (", ".join(map(str, run.runs or [run.k])), "clusters (k)")
    n_images = record.get("n_images") or len(next(iter(run.runs.values()), run).images)
    yield f"{n_images:,}", "image" if n_images == 1 else "images"
    if record.get("rejected"):
        yield f"{len(record['rejected']):,}", "left out"
    elapsed_s = sum((record.get("timings") or {}).values())
    if elapsed_s:
        yield f"{elapsed_s:,.1f} s", "in all"
    if record.get("pixels") and elapsed_s:
        for mpx, unit in (
            (record["pixels"] / 1e6, "Mpx"),
            (record["pixels"] / 1e6 / elapsed_s, "Mpx/s"),
        ):
            yield (f"{mpx:,.1f}" if mpx >= 1 else f"{mpx:.2g}"), unit
    if host := record.get("host"):
        yield f"{host['workers']:,}", f"worker{'s' * (host['workers'] != 1)} of {host['name']}"
        yield f"{host['memory_bytes'] / 1e9:,.2f} GB", "memory, as projected"


def _sections(run: Run) -> dict[str, Sequence[Exhibit]]:
    """Exhibits of the recipe and of each fit, by heading; empty ones are left out."""
    recipe = recipe_named(run.recipe)
    if not run.runs:
        found = {"Clusters": [*recipe.exhibits(run), *_fit_exhibits(run)]}
    else:
        found = {"Comparison": list(recipe.exhibits(run))}
        for k, one in run.runs.items():
            found[f"k = {k}"] = [*recipe.exhibits(one), *_fit_exhibits(one)]
    return {name: shown for name, shown in found.items() if shown}


def _fit_exhibits(run: Run) -> Iterator[Exhibit]:
    """Convergence and cluster sizes."""
    history = run.history
    if history is not None and len(history) > 1:
        steps = list(range(1, len(history) + 1))
        why = run.attributes.get("stop_reason")
        note = f"{quantity(len(history), 'iteration')}; ended by {why}" if why else ""
        yield Curves(
            "Convergence", "iteration", steps, {"inertia": history[:, 0].tolist()}, None, note
        )
    counts = run.counts
    if counts is not None and np.sum(counts):
        shares = counts / np.sum(counts)
        ranks = list(range(len(counts)))
        lines = {"share of members in %": (100 * shares).tolist()}
        yield Curves("Cluster sizes", "cluster", ranks, lines)


def _record(run: Run) -> Iterator[Exhibit]:
    """What ran, how long, with what, and what was left out."""
    record = run.attributes
    timings = record.get("timings") or {}
    total = sum(timings.values()) or 1.0
    rows = [[stage, f"{s:.2f} s", f"{s / total:.0%}"] for stage, s in timings.items()]
    if rows:
        yield Table("Duration by stage", ["stage", "time", "share"], rows)
    rows = [[name, value] for name, value in _flat(run.parameters)]
    if "seed" not in run.parameters:
        rows.append(["seed", str(record.get("seed"))])
    rows.append(["fingerprint", str(record.get("fingerprint"))])
    yield Table("Parameters", ["name", "value"], rows)
    rows = [[name, str(text)] for name, text in (record.get("versions") or {}).items()]
    yield Table("Versions", ["package", "version"], rows)
    rejected = record.get("rejected") or []
    if rejected:
        rows = [[one["image"], one["code"], one["reason"]] for one in rejected[:SHOWN_REJECTED]]
        rest = len(rejected) - len(rows)
        note = f"and {rest:,} more: kmdist info -v lists them" if rest else ""
        yield Table("Files left out", ["file", "code", "reason"], rows, note)


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Parameters with those of groups below each other; what is not set is left out."""
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            if value:
                yield f"{prefix}{name}", ", ".join(map(str, value[:50]))
        elif value is not None:
            yield f"{prefix}{name}", str(value)
