"""Versions of the model: which one is current, when a new one is due, and fitting it."""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import KmdistError, UsageError
from kmdist.job.job import Deadline
from kmdist.job.progress import Message, Watcher
from kmdist.job.running import run_job
from kmdist.nightly.digests import root_digest
from kmdist.nightly.ledger import DONE, PENDING, FileRow, Ledger
from kmdist.nightly.scan import found_of
from kmdist.nightly.settings import Settings
from kmdist.options import Declared, declared, path_or_text
from kmdist.recipes.options import PredictOptions
from kmdist.recipes.registry import recipe_named
from kmdist.store import Run, open_run

DAY_S = 86_400.0
SHOWN_VALUES = 5


def model_path(results: Path, number: int) -> Path:
    """Where a version lies."""
    return results / "models" / f"{number:04d}.zarr"


def model_numbers(results: Path) -> list[int]:
    """Numbers of the versions that lie in the results, ascending."""
    names = [path.stem for path in (results / "models").glob("*.zarr")]
    return sorted(int(name) for name in names if name.isdecimal())


def current_model(settings: Settings, ledger: Ledger, now: datetime) -> int | None:
    """Number of the newest published version; one that the ledger missed in a crash is noted.

    Raises
    ------
    UsageError : it is of another recipe than the night's.
    KmdistError : the newest that was made is not there any more.
    """
    folder = settings.results / "models"
    published = model_numbers(settings.results)
    for number in published:
        if number not in ledger.models():
            ledger.add_model(number, now.timestamp())
    newest = max(ledger.model_numbers(), default=None)
    if newest is None:
        return None
    if newest not in published:
        # Its number means these clusters in every run that was labelled with it.
        raise KmdistError(
            f"{model_path(settings.results, newest)} is not there, which the last nights labelled "
            "with: put it back from a backup, or begin anew with another folder for the results"
        )
    made_by = open_run(model_path(settings.results, published[-1])).recipe
    if made_by != settings.recipe:
        raise UsageError(
            f"nightly: the models in {folder} are of the recipe {made_by}, and {settings.recipe} "
            "is asked for: give it another folder for its results"
        )
    return published[-1]


def require_same_options(settings: Settings, number: int) -> None:
    """Refuse options that the model to label with was not fitted with: they would change nothing.

    Raises
    ------
    UsageError : naming the first of them.
    """
    recipe = recipe_named(settings.recipe)
    options = recipe.options.of(settings.options)
    record = open_run(model_path(settings.results, number)).parameters
    features = record.get("features") or {}
    fitted = {**features, **features.get("options", {}), **(record.get("fit") or {}), **record}
    free = {*declared(PredictOptions), *recipe.model_options, *PredictOptions.OMITTED} - {"seed"}
    for name, one in declared(recipe.options).items():
        if name in free or one.option.one_off:
            continue
        asked = list(options.ks) if name == "k" else getattr(options, one.attribute)
        made = fitted.get(name, one.default)  # a recipe may record no more than it needs
        if _differ(one, asked, made):
            raise UsageError(
                f"nightly: {name!r} is {_worded(asked)}, and model {number:04d} was fitted with "
                f"{_worded(made)}: set it back; or have a new model fitted (refit: 1), or give "
                "another folder for the results"
            )


def _differ(one: Declared, asked: Any, made: Any) -> bool:
    """Whether an option is not what a run records; False where that cannot be said."""
    if asked is None:  # what stands for it may depend on the images
        return made not in (None, [], {}) and not one.option.default
    if made is None:
        return asked != [0]  # k, where something else decides it
    if one.option.parse is path_or_text:  # files are recorded by what they hold
        return False
    return isinstance(asked, type(made) | int) and asked != made


def _worded(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) if len(value) < SHOWN_VALUES else f"{len(value)} values"
    return "none" if value is None else repr(value)


def is_due(settings: Settings, ledger: Ledger, number: int | None, now: datetime) -> bool:
    """Whether a new version is to be fitted: the first, or one whose time has come."""
    if number is None:
        return True
    days = settings.refit_days
    return days is not None and now.timestamp() - ledger.models()[number] >= days * DAY_S


def fit_model(
    settings: Settings,
    ledger: Ledger,
    rows: Mapping[bytes, FileRow],
    number: int,
    *,
    watch: Watcher,
    deadline: Deadline | None,
) -> Run | None:
    """Fit a version to the images that are there, or go on with an interrupted fit.

    Up to `Settings.refit_images` are taken, those with the least hashes: a uniform sample that
    depends on the contents alone. Files that are waiting, bad or gone are left out.

    Returns
    -------
    Run : the published model; None where there is no image to fit to.
    """
    recipe = recipe_named(settings.recipe)
    sample = ledger.sample()
    chosen = [rows[path] for path, _ in sample if path in rows and not rows[path].gone]
    if not chosen:
        usable = [row for row in rows.values() if not row.gone and row.state in (DONE, PENDING)]
        usable.sort(key=lambda row: (row.next_hash or row.hash or "", row.path))
        chosen = sorted(usable[: settings.refit_images], key=lambda row: row.path)
        least = recipe.least_files(recipe.options.of(settings.options))
        if len(chosen) < max(least, 1):
            if chosen:
                watch(Message(f"{len(chosen)} images wait for a model, which takes {least}"))
            return None
        ledger.set_sample((row.path, row.name) for row in chosen)
    path = model_path(settings.results, number)
    again = {"resume": True, "overwrite": not os.path.exists(path)}
    options = recipe.options.of({**settings.options, **recipe.model_options, **again})
    procedure = recipe.fit(found_of(chosen), options)
    try:
        return run_job(
            procedure, path, options, watch=watch, command=settings.command, deadline=deadline
        )
    except UsageError:  # such as too few images that can be used: there may be more tomorrow
        ledger.set_sample(())
        raise


def inertia_per_pixel(run: Run) -> float:
    """Σ‖x − c‖² per clustered pixel."""
    counts = run.counts
    pixels = 0 if counts is None else int(np.sum(counts))
    return float(run.inertia or 0.0) / pixels if pixels else 0.0


def drift_of(results: Path, number: int, run: Run) -> float | None:
    """Inertia per pixel of a run over that of its model on its own images; 1: as at the fit.

    None where the model's images lie on its centroids, and the run's do not.
    """
    own, found = inertia_per_pixel(open_run(model_path(results, number))), inertia_per_pixel(run)
    if not own:
        return None if found else 1.0
    return found / own


def run_record(results: Path, number: int, run: Run) -> dict[str, Any]:
    """What the ledger notes of a published run that a model labelled; no drift if that is lost."""
    try:
        drift = drift_of(results, number, run)
    except KmdistError:
        drift = None
    return {
        "inertia": run.inertia,
        "pixels": int(np.sum(run.counts)) if run.counts is not None else 0,
        "drift": drift,
        "digest": root_digest(run.path),
    }
