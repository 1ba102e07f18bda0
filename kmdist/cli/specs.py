"""`kmdist run SPEC`, and job specs: options from a YAML file instead of the command line."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from kmdist.cli.options import Verbosity, also, run_and_say
from kmdist.cli.recipes import run_recipe
from kmdist.errors import UsageError
from kmdist.job.options import JobOptions
from kmdist.options import Options, checked_values, declared
from kmdist.recipes.registry import recipe_named, recipe_names

SPEC_KEYS = ("recipe", "input", "output")
"""Keys of every spec besides the recipe's options."""


def read_spec(path: str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The keys of a spec, some of them changed by ``--set``.

    Parameters
    ----------
    overrides : ``KEY=VALUE``; a value is text, or a list as in YAML: ``[2, 8]``.

    Raises
    ------
    UsageError : not a file, not YAML, not a mapping, or an override is not as it must be.
    """
    from kmdist.yaml_files import read_mapping

    try:
        keys = read_mapping(path, "job spec")
    except FileNotFoundError as error:
        raise UsageError(f"job spec {path}: {error.strerror}") from error
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise UsageError(f"--set {override!r}: must be KEY=VALUE")
        keys[key.strip()] = _value(override, value.strip())
    return keys


def _value(override: str, text: str) -> Any:
    if text.lower() in ("", "null", "none"):
        return None
    if not text.startswith("["):
        return text  # converted by the type of its option; YAML would make 06:00 a number
    from kmdist.yaml_files import parse

    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"--set {override!r}: not a list as in YAML: {error}") from error


def recipe_of(spec: str, keys: dict[str, Any]) -> str:
    """The recipe that a spec names; its key is taken out.

    Raises
    ------
    UsageError : there is no such recipe.
    """
    recipe = keys.pop("recipe", None)
    if recipe not in recipe_names():
        allowed = ", ".join(recipe_names())
        raise UsageError(f"job spec {spec}: recipe {recipe!r} is not known; allowed: {allowed}")
    return str(recipe)


def inputs_of(spec: str, keys: dict[str, Any], *, single: bool = False) -> Any:
    """What a spec names as input; its key is taken out.

    Parameters
    ----------
    single : it is one path, not a list.

    Raises
    ------
    UsageError : none, or no paths.
    """
    given = keys.pop("input", None)
    if not given:
        raise UsageError(f"job spec {spec}: 'input' is missing: a folder, a file or a list of them")
    listed = given if isinstance(given, list) else [given]
    if not all(isinstance(one, str) for one in listed):
        raise UsageError(f"job spec {spec}: 'input' must be a path or a list of them: {given!r}")
    if not single:
        return listed
    if len(listed) > 1:
        raise UsageError(f"job spec {spec}: 'input' must be one path for this recipe: {given!r}")
    return listed[0]


def checked(
    spec: str, kind: type[Any], keys: Mapping[str, Any], further: tuple[str, ...] = SPEC_KEYS
) -> dict[str, Any]:
    """Values of the keys of a spec, by the attributes of a class of options.

    Parameters
    ----------
    further : keys that the caller takes besides, to be named where one is misspelt.

    Raises
    ------
    UsageError : an unknown key, or a value that is not allowed.
    """
    with _said_of(spec):
        return checked_values(kind, keys, further)


def options_from(
    spec: str, kind: type[Options], keys: Mapping[str, Any], further: tuple[str, ...] = SPEC_KEYS
) -> Any:
    """Options from the keys of a spec; parameters and errors of `checked`."""
    values = checked(spec, kind, keys, further)
    with _said_of(spec):
        return kind(**values)


@contextmanager
def _said_of(spec: str) -> Iterator[None]:
    """Say errors with the spec, and their option as its key."""
    try:
        yield
    except UsageError as error:
        said = error.reason if error.option is None else error.named(repr(error.option))
        raise UsageError(f"job spec {spec}: {said}") from error


def one_off(kind: type[Options]) -> list[str]:
    """Options of a recipe that mean nothing in a job that is repeated every night."""
    found = [one for one in declared(kind).values() if one.option.one_off]
    return [name for one in found for name in (one.name, one.off) if name]


@also(Verbosity, *declared(Verbosity))
@also(JobOptions, "cluster", "scheduler", "resume", "overwrite")
@click.command()
@click.argument("spec", type=click.Path(dir_okay=False))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
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
    run_and_say(partial(run_recipe, recipe, dry_run=dry_run), [inputs, output], options, verbosity)
