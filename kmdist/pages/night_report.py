"""`kmdist nightly report`: what the nights did, as one page."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kmdist.errors import quantity
from kmdist.job.exhibits import Curves, Exhibit, Table
from kmdist.nightly.outcome import FIGURES, Night, open_ledger, read_nights, status
from kmdist.pages.page import render
from kmdist.pictures.output_files import check_picture_path, write_text, written_to

SHOWN = 1000
"""Quarantined files and nights that are listed; the last ones."""


def night_report(results: Path, output: str | Path) -> str | Path:
    """Write a page about nightly results: images by night, drift, models, quarantine.

    Parameters
    ----------
    results : the folder of ledger, models, runs and nights.
    output : the .html file to write.

    Raises
    ------
    UsageError : no night has run there, or `output` is no .html file that can be written.
    """
    place = check_picture_path(output, (".html", ".htm"))
    found = status(results)
    with open_ledger(results) as ledger:
        models = ledger.models()
    nights = read_nights(results, SHOWN)
    files = found["files"]
    facts = [(f"{n:,}", state) for state, n in sorted(files.items())]
    n_models = len(found["models"])
    facts.append((f"{n_models:,}", "model" if n_models == 1 else "models"))
    page = render(
        "nights.html",
        title=f"{results.resolve().name}: nights",
        lead=f"{results}; {quantity(found['runs'], 'run')} published",
        facts=facts,
        exhibits=list(_exhibits(nights, models, found["quarantined"])),
    )
    with written_to(place) as path:
        write_text(path, page)
    return place


def _exhibits(
    nights: Sequence[Night], models: Mapping[int, float], bad: Mapping[str, str]
) -> Iterator[Exhibit]:
    if nights:
        days = list(range(1, len(nights) + 1))
        drawn = ("done", "quarantined")
        lines = {name: [float(getattr(one, name)) for one in nights] for name in drawn}
        yield Curves("Images by night", "night", days, lines, from_zero=True)
        if any(one.drift is not None for one in nights):
            drift = [float("nan") if one.drift is None else one.drift for one in nights]
            note = "inertia per pixel over that of the model on its own images; 1: as at the fit"
            yield Curves("Drift", "night", days, {"drift": drift}, note=note)
        yield Table("Nights", ["night", *FIGURES, "model", "drift"], list(map(_row, nights[::-1])))
    if models:
        rows = [[f"{number:04d}", _when(made)] for number, made in models.items()]
        yield Table("Models", ["model", "made"], rows)
    if bad:
        listed = list(bad.items())
        more = len(listed) - SHOWN
        note = f"and {more:,} more: kmdist nightly status lists them" if more > 0 else ""
        rows = [[name, reason or ""] for name, reason in listed[:SHOWN]]
        yield Table("Quarantine", ["file", "reason"], rows, note)


def _row(night: Night) -> list[str]:
    model = "" if night.model is None else f"{night.model:04d}"
    drift = "" if night.drift is None else f"{night.drift:.3f}"
    fitted = ", fitted" if night.fitted else ""
    return [night.stamp, *(f"{getattr(night, one):,}" for one in FIGURES), model + fitted, drift]


def _when(made_s: float) -> str:
    return datetime.fromtimestamp(made_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
