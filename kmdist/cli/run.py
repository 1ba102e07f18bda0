"""`kmdist run SPEC`: a job's options from a YAML file instead of the command line."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from kmdist.errors import UsageError
from kmdist.options import declared


@click.command()
@click.argument("spec", type=click.Path(dir_okay=False))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
@click.option("--cluster", metavar="FILE[:PROFILE]", help="Run where this cluster file says.")
@click.option("--scheduler", metavar="URL", help="Run on this Dask scheduler.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--overwrite", is_flag=True, help="Replace an existing run once this is done.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("-q", "--quiet", is_flag=True)
@click.option("-v", "--verbose", is_flag=True)
@click.pass_context
def run(
    ctx: click.Context, /, spec: str, overrides: tuple[str, ...], dry_run: bool, **flags: Any
) -> None:
    """Run the job that SPEC (YAML) describes.

    Its keys are the long options of the recipe's command with underscores, plus `recipe`,
    `input` and `output`. Paths in it are relative to the working directory.

    \b
    kmdist run jobs/quantize.yaml --set k=32 --set output=k32.zarr
    kmdist run jobs/quantize.yaml --dry-run
    """
    keys = read_spec(spec)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise UsageError(f"--set {override!r}: must be KEY=VALUE")
        keys[key.strip()] = value
    if "results" in keys and "output" not in keys:
        raise UsageError(f"job spec {spec}: 'results' is of a nightly job: kmdist nightly {spec}")
    keys.update({key: value for key, value in flags.items() if value})
    command, arguments = arguments_of(spec, keys, ctx)
    called = context_of(spec, command, arguments, ctx)
    if dry_run:
        _say_plan(str(command.name), called.params)
        return
    with called:
        command.invoke(called)


def context_of(
    spec: str, command: click.Command, arguments: list[str], ctx: click.Context
) -> click.Context:
    """The parsed call that a job spec stands for.

    Raises
    ------
    UsageError : a value is not of the kind that its key wants.
    """
    try:
        return command.make_context(str(command.name), arguments, parent=ctx)
    except click.MissingParameter as error:
        key = error.param.name if error.param else "a key"
        raise UsageError(f"job spec {spec}: {key!r} is missing") from error
    except click.BadParameter as error:
        key = error.param.name if error.param else "a key"
        raise UsageError(f"job spec {spec}: {key!r}: {error.message}") from error
    except click.UsageError as error:
        raise UsageError(f"job spec {spec}: {error.message}") from error


def _say_plan(recipe: str, options: dict[str, Any]) -> None:
    from kmdist.recipes.registry import plan_of, recipe_named

    kind = recipe_named(recipe).options
    inputs = options.get("inputs") or options["images"]
    given = {key: value for key, value in options.items() if key in declared(kind)}
    plan = plan_of(recipe, inputs, options["output"], kind.of(given))
    for line in plan.lines():
        click.echo(line)
    for rejection in plan.rejected[:10]:
        click.echo(f"  {rejection.image}: {rejection.reason} [{rejection.code}]")
    if plan.memory is not None:
        plan.memory.require()


def read_spec(path: str) -> dict[str, Any]:
    """Read a job spec.

    Raises
    ------
    UsageError : not a file, not YAML, or not a mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"job spec {path}: {getattr(error, 'strerror', error)}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"job spec {path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"job spec {path}: must be a mapping of keys, not {content!r}")
    return {str(key): value for key, value in content.items()}


def arguments_of(
    spec: str, keys: dict[str, Any], ctx: click.Context, *, extra: Sequence[str] = ()
) -> tuple[click.Command, list[str]]:
    """The command and the command line that a job spec stands for.

    `extra` are keys the caller knows besides, to be named where one is misspelt.

    Going through the command line keeps one set of defaults, types and messages.

    Raises
    ------
    UsageError : an unknown recipe or key; the nearest valid one is named.
    """
    recipes = _recipes(ctx)
    recipe = keys.pop("recipe", None)
    if recipe not in recipes:
        raise UsageError(
            f"job spec {spec}: recipe {recipe!r} is not known; allowed: {', '.join(recipes)}"
        )
    command = recipes[recipe]
    options = {
        _key_of(parameter): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
    arguments: list[str] = []
    inputs = keys.pop("input", None)
    for key, value in keys.items():
        if key == "per_image":
            key, value = "shared", not _as_bool(spec, key, value)
        if key not in options:
            allowed = sorted([*options, "per_image", "input", "recipe", *extra])
            close = get_close_matches(key, allowed, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(allowed)}"
            raise UsageError(f"job spec {spec}: unknown key {key!r}{hint}")
        arguments += _as_arguments(spec, key, options[key], value)
    if not isinstance(inputs, str | list | None) or not all(
        isinstance(one, str) for one in (inputs if isinstance(inputs, list) else ())
    ):
        raise UsageError(f"job spec {spec}: 'input' must be a path or a list of them: {inputs!r}")
    if not inputs:
        raise UsageError(f"job spec {spec}: 'input' is missing: a folder, a file or a list of them")
    arguments.append("--")
    arguments += [str(one) for one in (inputs if isinstance(inputs, list) else [inputs])]
    return command, arguments


def _recipes(ctx: click.Context) -> dict[str, click.Command]:
    group = ctx.parent.command if ctx.parent else None
    if not isinstance(group, click.Group):
        raise UsageError("run belongs to the kmdist command")
    from kmdist.recipes.registry import recipe_names

    return {name: group.commands[name] for name in recipe_names() if name in group.commands}


def _key_of(option: click.Option) -> str:
    long = [name for name in option.opts if name.startswith("--")]
    return long[0][2:].replace("-", "_")


def _as_arguments(spec: str, key: str, option: click.Option, value: Any) -> list[str]:
    if value is None:
        return []
    if option.is_flag:
        chosen = option.opts if _as_bool(spec, key, value) else option.secondary_opts
        return [name for name in chosen if name.startswith("--")][:1]
    name = next(name for name in option.opts if name.startswith("--"))
    if option.multiple:
        values = value if isinstance(value, list) else [value]
        return [word for one in values for word in (name, str(one))]
    if isinstance(value, list):
        value = ",".join(str(one) for one in value)
    if isinstance(value, dict):
        raise UsageError(f"job spec {spec}: {key!r} must be a single value, got {value!r}")
    return [name, str(value)]


def _as_bool(spec: str, key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "yes", "on", "1"):
        return True
    if str(value).lower() in ("false", "no", "off", "0"):
        return False
    raise UsageError(f"job spec {spec}: {key!r} must be true or false, got {value!r}")
