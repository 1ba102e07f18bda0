"""`kmdist nightly SPEC`, and `kmdist nightly status|find|verify`."""

from pathlib import Path
from typing import Any

import click

from kmdist.cli.options import command_line
from kmdist.cli.run import arguments_of, context_of, read_spec
from kmdist.errors import KmdistError, UsageError

DEFAULT_SPEC = "jobs/nightly.yaml"
OTHERS = (
    "output", "resume", "overwrite", "strict", "quiet", "verbose", "shared", "psnr",
    "keep_responses", "cell", "labels", "test", "test_labels",
)  # fmt: skip
"""Options of the recipe's command that mean nothing at night."""


class SpecOrCommand(click.Group):
    """A group whose first word may be a job spec instead of a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=SpecOrCommand, subcommand_metavar="SPEC | COMMAND [ARGS]...")
def nightly() -> None:
    """Label what is new in folders that grow, once a night.

    SPEC is a YAML file as jobs/nightly.yaml; `kmdist nightly SPEC` is short for `run SPEC`. Exit
    code 75: another night is still running.

    \b
    kmdist nightly jobs/nightly.yaml
    kmdist nightly status jobs/nightly.yaml
    """


def _spec_options(command: Any) -> Any:
    for option in (
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key."
        ),
        click.option("--results", metavar="DIR", help="The results, instead of the spec's."),
        click.option("--spec", default=DEFAULT_SPEC, show_default=True, metavar="SPEC"),
    ):
        command = option(command)
    return command


@nightly.command()
@click.argument("spec", type=click.Path(dir_okay=False))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
@click.option("--until", metavar="HH:MM", help="Stop cleanly at this hour.")
@click.option("--cluster", metavar="FILE[:PROFILE]", help="Run where this cluster file says.")
@click.option("--scheduler", metavar="URL", help="Run on this Dask scheduler.")
@click.option("--insecure", is_flag=True, help="Allow a scheduler in the open without TLS.")
@click.option("-q", "--quiet", is_flag=True, help="Errors and the result only.")
@click.pass_context
def run(
    ctx: click.Context, /, spec: str, overrides: tuple[str, ...], quiet: bool, **flags: Any
) -> None:
    """Run one night of SPEC.

    \b
    kmdist nightly run jobs/nightly.yaml --set grace=1h --until 06:00
    """
    from kmdist.cli.progress import Reporter
    from kmdist.nightly import run_night

    keys = _keys(spec, overrides)
    keys.update({key: value for key, value in flags.items() if value})
    settings = _settings(spec, keys, ctx)
    with Reporter(quiet=quiet) as reporter:
        night = run_night(settings, watch=reporter)
    parts = [
        f"{getattr(night, name):,} {name}"
        for name in ("new", "changed", "done", "waiting", "pending", "quarantined", "vanished")
    ]
    click.echo(f"night {night.stamp}: {', '.join(parts)}")
    for one in night.runs:
        click.echo(f"{settings.results / 'runs' / one}.zarr")
    if night.drift is not None:
        fitted = ", fitted tonight" if night.fitted else ""
        click.echo(f"model {night.model:04d}{fitted}; drift {night.drift:.3f}")


@nightly.command()
@_spec_options
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")
def status(spec: str, overrides: tuple[str, ...], results: str | None, as_json: bool) -> None:
    """Say what is done, pending, waiting and quarantined.

    \b
    kmdist nightly status --spec jobs/nightly.yaml
    """
    from kmdist.nightly import status as nightly_status

    found = nightly_status(_results(spec, overrides, results))
    if as_json:
        import json

        click.echo(json.dumps(found, indent=1))
        return
    files = ", ".join(f"{n:,} {state}" for state, n in sorted(found["files"].items())) or "none"
    click.echo(f"files   {files}")
    click.echo(f"runs    {found['runs']:,} published, {len(found['started'])} to go on with")
    click.echo(f"models  {', '.join(f'{n:04d}' for n in found['models']) or 'none'}")
    if found["night"]:
        stopped = ", stopped at its hour" if found["night"]["stopped"] else ""
        click.echo(f"last    {found['night']['stamp']}: {found['night']['done']} done{stopped}")
    for path, reason in found["quarantined"].items():
        click.echo(f"  {click.format_filename(path)}: {reason}")


@nightly.command()
@click.argument("path")
@_spec_options
def find(path: str, spec: str, overrides: tuple[str, ...], results: str | None) -> None:
    """Say which run holds the labels of the file PATH.

    \b
    kmdist nightly find photos/2024/IMG_0042.jpg
    """
    from kmdist.nightly import find as nightly_find

    found = nightly_find(_results(spec, overrides, results), path)
    gone = ", not there any more" if found["gone"] else ""
    click.echo(f"{click.format_filename(found['path'])}: {found['state']}{gone}")
    if found["error"]:
        click.echo(f"reason  {found['error']}")
    if found["run"]:
        click.echo(f"run     {found['run']}")
        click.echo(f"image   {click.format_filename(found['image'])}")
        click.echo(f"model   {found['model']:04d}")


@nightly.command()
@_spec_options
def verify(spec: str, overrides: tuple[str, ...], results: str | None) -> None:
    """Read all results again and say what is missing or damaged; exit code 1 if anything is.

    \b
    kmdist nightly verify --results results/
    """
    from kmdist.nightly import verify as nightly_verify

    folder = _results(spec, overrides, results)
    findings = nightly_verify(folder)
    for finding in findings:
        click.echo(finding)
    if findings:
        raise KmdistError(f"{folder}: {len(findings)} findings")
    click.echo(f"{folder}: all labels and models are as they were written")


def _keys(spec: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    keys = read_spec(spec)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise UsageError(f"--set {override!r}: must be KEY=VALUE")
        keys[key.strip()] = _typed(value)
    return keys


def _typed(value: str) -> Any:
    """A value of ``--set`` as YAML would read it, but that hours stay text."""
    lowered = value.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if lowered in ("null", "none", ""):
        return None
    return int(lowered) if lowered.isdecimal() else value


def _results(spec: str, overrides: tuple[str, ...], results: str | None) -> Path:
    if results:
        return Path(results).expanduser()
    given = _keys(spec, overrides).get("results")
    if not isinstance(given, str) or not given:
        raise UsageError(f"job spec {spec}: 'results' must be a folder, got {given!r}")
    return Path(given).expanduser()


def _settings(spec: str, keys: dict[str, Any], ctx: click.Context) -> Any:
    """Part the keys of a spec into the night's own and the recipe's, which its command checks.

    Raises
    ------
    UsageError : an unknown key, or a value that is not as it must be.
    """
    from kmdist.nightly.settings import KEYS, Settings

    own = {key: keys.pop(key) for key in KEYS if key in keys}
    results = own.pop("results", None)
    if not isinstance(results, str) or not results:
        raise UsageError(f"job spec {spec}: 'results' must be a folder, got {results!r}")
    for key in (*OTHERS, "per_image"):
        if key in keys:
            raise UsageError(f"job spec {spec}: {key!r} does not apply to a nightly job")
    recipe = keys.get("recipe", "quantize")
    group = ctx.find_root()
    command, arguments = arguments_of(
        spec, {**keys, "recipe": recipe, "output": results}, _under(group, ctx), extra=KEYS
    )
    files = arguments.index("--") + 1
    inputs = tuple(arguments[files:])  # folders, also of a recipe that takes a single one
    options = dict(context_of(spec, command, arguments[: files + 1], ctx).params)
    for key in (*OTHERS, *(p.name for p in command.params if isinstance(p, click.Argument))):
        options.pop(str(key), None)
    ks = options.pop("k", None)
    if ks is not None and len(ks) != 1:
        raise UsageError(f"job spec {spec}: 'k' must be one number at night, got {list(ks)}")
    own = {key: value for key, value in own.items() if value is not None}
    return Settings(
        inputs,
        Path(results).expanduser(),
        recipe=recipe,
        options={**options, "k": ks[0] if ks else None},
        command=command_line(),
        **own,
    )


def _under(root: click.Context, ctx: click.Context) -> click.Context:
    """A context directly below the root, where `arguments_of` looks for recipes."""
    return click.Context(ctx.command, parent=root)
