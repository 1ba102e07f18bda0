"""`kmdist run SPEC`: a job's options from a YAML file instead of the command line."""

from functools import partial
from typing import Any

import click

from kmdist.cli.options import Verbosity, reporter_of, run_and_say
from kmdist.cli.recipes import run_recipe, say_plan
from kmdist.cli.specs import SPEC_KEYS, inputs_of, options_from, read_spec, recipe_of
from kmdist.errors import UsageError
from kmdist.options import declared
from kmdist.recipes.registry import plan_of, recipe_named


@click.command()
@click.argument("spec", type=click.Path(dir_okay=False))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
@click.option("--cluster", metavar="FILE[:PROFILE]", help="Run where this cluster file says.")
@click.option("--scheduler", metavar="URL", help="Run on this Dask scheduler.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--overwrite", is_flag=True, help="Replace an existing run once this is done.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Details, and every rejected image.")
@click.option("--json", is_flag=True, help="Progress and result as JSON, an object a line.")
def run(
    spec: str,
    overrides: tuple[str, ...],
    dry_run: bool,
    **flags: Any,
) -> None:
    """Run the job that SPEC (YAML) describes.

    Its keys are the long options of the recipe's command with underscores, plus `recipe`,
    `input` and `output`. Paths in it are relative to the working directory.

    \b
    kmdist run jobs/quantize.yaml --set k=32 --set output=k32.zarr
    kmdist run jobs/quantize.yaml --dry-run
    """
    keys = read_spec(spec, overrides)
    if "results" in keys and "output" not in keys:
        raise UsageError(f"job spec {spec}: 'results' is of a nightly job: kmdist nightly {spec}")
    keys.update({key: value for key, value in flags.items() if value})
    recipe = recipe_of(spec, keys)
    kind = recipe_named(recipe).options
    job = {key: keys.pop(key, None) for key in ("input", "output")}
    verbosity = options_from(
        spec, Verbosity, {key: keys.pop(key) for key in declared(Verbosity) if key in keys}
    )
    options = options_from(spec, kind, keys, (*SPEC_KEYS, *declared(Verbosity)))
    inputs = inputs_of(spec, job, single=kind.ONE_INPUT)
    if job["output"] is None:
        raise UsageError(f"job spec {spec}: 'output' is missing")
    output = str(job["output"])
    if dry_run:
        say_plan(plan_of(recipe, inputs, output, options), reporter_of(verbosity))
        return
    run_and_say(partial(run_recipe, recipe), [inputs, output], options, verbosity)
