"""The commands that write runs: one a recipe, `kmdist predict`, `kmdist split`, `kmdist merge`."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import click

from kmdist.cli.options import job_command
from kmdist.job.options import JobOptions
from kmdist.recipes.digits.options import MergeOptions, SplitOptions
from kmdist.recipes.options import PredictOptions
from kmdist.recipes.registry import recipe_named


def recipe_command(name: str) -> click.Command:
    """The command of a recipe, with its options."""
    options = recipe_named(name).options
    several: dict[str, Any] = {} if options.ONE_INPUT else {"nargs": -1}
    metavar = "INPUT" if options.ONE_INPUT else "INPUT..."
    inputs = click.Argument(["inputs"], required=True, metavar=metavar, **several)
    return job_command(name, options, [inputs], partial(run_recipe, name))


def run_recipe(name: str, inputs: Any, output: str, *, options: Any, **how: Any) -> Any:
    """Run a recipe, whichever it is."""
    from kmdist.job.running import run_job

    return run_job(recipe_named(name).fit(inputs, options), output, options, **how)


def _of_module(module: str, name: str) -> Callable[..., Any]:
    """A function that is imported when it is called, with its options as one object."""

    def call(*given: Any, **how: Any) -> Any:
        return getattr(import_module(module), name).__wrapped__(*given, **how)

    return call


def _from_run(
    name: str, options: type[JobOptions], module: str, *further: click.Argument
) -> click.Command:
    run = click.Argument(["run"], metavar="RUN")
    return job_command(name, options, [run, *further], _of_module(module, name))


predict = _from_run(
    "predict",
    PredictOptions,
    "kmdist.recipes.predict",
    click.Argument(["inputs"], nargs=-1, required=True, metavar="INPUT..."),
)
split = _from_run("split", SplitOptions, "kmdist.recipes.digits.tree")
merge = _from_run("merge", MergeOptions, "kmdist.recipes.digits.tree")
