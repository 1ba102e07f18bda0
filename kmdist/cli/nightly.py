"""`kmdist nightly SPEC`, and `kmdist nightly status|find|verify|repair|retry|report`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any

import click

from kmdist.cli.options import QUIET, Verbosity, also, command_line
from kmdist.cli.printing import say
from kmdist.cli.specs import (
    SPEC_KEYS,
    checked,
    inputs_of,
    one_off,
    options_from,
    read_spec,
    recipe_of,
)
from kmdist.errors import KmdistError, UsageError, quantity
from kmdist.job.options import JobOptions
from kmdist.options import declared
from kmdist.recipes.registry import recipe_named

SHOWN_REASONS = 10
DEFAULT_SPEC = "jobs/nightly.yaml"


class SpecOrCommand(click.Group):
    """A group whose first word may be a job spec instead of a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=SpecOrCommand, subcommand_metavar="SPEC | COMMAND [ARGS]...")
def nightly() -> None:
    """Label what is new in folders that grow, once a night.

    SPEC is a YAML file as jobs/nightly.yaml; `kmdist nightly SPEC` is short for `run SPEC`. Every
    command takes it as --spec too.

    Exit codes: 0, all is done or waits for the next night; 1, it could not be done, the next night
    goes on; 2, the command or SPEC is wrong; 3, an input is missing, unreadable, or empty and was
    not, and the files of the others are labelled; 75, another night is still running.

    \b
    kmdist nightly jobs/nightly.yaml
    kmdist nightly status jobs/nightly.yaml
    """


@dataclass(frozen=True)
class Given:
    """What a command was told of its job.

    Parameters
    ----------
    spec : path of the job spec, or None.
    overrides : ``KEY=VALUE``.
    results : folder of the results, instead of the spec's.
    """

    spec: str | None
    overrides: tuple[str, ...]
    results: str | None

    @property
    def path(self) -> str:
        """Where the spec is."""
        return self.spec or DEFAULT_SPEC

    def folder(self) -> Path:
        """Where the results are; no spec is read where that is said."""
        if self.results:
            return Path(self.results).expanduser()
        from kmdist.nightly.settings import Settings

        keys = {"results": read_spec(self.path, self.overrides).get("results")}
        return Path(checked(self.path, Settings, keys)["results"])

    def settings(self, **flags: Any) -> Any:
        """The night's own settings and the recipe's, which its options check.

        Parameters
        ----------
        flags : of the command line, which come before keys of the spec where they are set.

        Raises
        ------
        UsageError : an unknown key, or a value that is not as it must be.
        """
        from kmdist.nightly.settings import Settings

        spec, keys = self.path, read_spec(self.path, self.overrides)
        keys.update({key: v for key, v in {"results": self.results, **flags}.items() if v})
        nights = tuple(declared(Settings))
        own = checked(spec, Settings, {key: keys.pop(key, None) for key in nights})
        keys.setdefault("recipe", "quantize")
        recipe = recipe_of(spec, keys)
        kind = recipe_named(recipe).options
        for key in (*declared(Verbosity), *one_off(kind), "output"):
            if key in keys:
                raise UsageError(f"job spec {spec}: {key!r} does not apply to a nightly job")
        inputs = tuple(inputs_of(spec, keys))  # folders, also of a recipe that takes a single one
        options = options_from(spec, kind, keys, (*SPEC_KEYS[:2], *nights))
        if len(options.ks) > 1 or options.choices:
            raise UsageError(f"job spec {spec}: 'k' must be one number at night, got {keys['k']!r}")
        return Settings(inputs, recipe=recipe, options=keys, command=command_line(), **own)


def _of_spec(command: Any) -> Any:
    """Let a command take a job by options; it is called with them as `Given`."""

    @wraps(command)
    def call(
        spec: str | None,
        overrides: tuple[str, ...],
        results: str | None,
        spec_: str | None = None,
        **how: Any,
    ) -> Any:
        if spec_ and spec:
            raise UsageError(f"SPEC is given twice: {spec_} and --spec {spec}")
        return command(Given(spec_ or spec, overrides, results), **how)

    for option in (
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key."
        ),
        click.option("--results", metavar="DIR", help="The results, instead of the spec's."),
        click.option("--spec", metavar="SPEC", help=f"The job spec.  [default: {DEFAULT_SPEC}]"),
    ):
        option(call)
    return call


def _of_spec_alone(command: Any) -> Any:
    """The same, and SPEC by position too, of a command that takes nothing else so."""
    return click.argument("spec_", metavar="[SPEC]", required=False)(_of_spec(command))


@also(JobOptions, "cluster", "scheduler", "insecure")
@nightly.command()
@_of_spec_alone
@click.option("--watch", is_flag=True, help="Go on: label what comes once it has been left alone.")
@click.option("--until", metavar="HH:MM", help="Stop cleanly at this hour.")
@QUIET
@click.option("--json", "as_json", is_flag=True, help="As JSON, an object a line, for programs.")
def run(given: Given, quiet: bool, as_json: bool, watch: bool, **flags: Any) -> None:
    """Run one night of SPEC, or go on until interrupted.

    \b
    kmdist nightly run jobs/nightly.yaml --set grace=1h --until 06:00
    kmdist nightly run jobs/nightly.yaml --watch
    """
    from kmdist.job.reporter import Reporter
    from kmdist.nightly import run_night, watch_nights
    from kmdist.nightly.outcome import InputError

    settings = given.settings(**flags)

    def say_night(night: Any) -> None:
        if as_json:
            click.echo(json.dumps({"event": "result", **asdict(night)}))
        elif not quiet:
            _say_night(settings, night)

    with Reporter(quiet=quiet, as_json=as_json) as reporter:
        if watch:
            watch_nights(settings, watch=reporter, on_night=say_night)
            return
        night = run_night(settings, watch=reporter)
    say_night(night)
    if night.errors:
        raise InputError("; ".join(f"input {text} {why}" for text, why in night.errors.items()))


def _say_night(settings: Any, night: Any) -> None:
    """Print what a night did, and why files wait or were set aside."""
    from kmdist.nightly.outcome import FIGURES, run_path

    parts = [f"{getattr(night, name):,} {name}" for name in FIGURES]
    say(f"night {night.stamp}: {', '.join(parts)}")
    for one in night.runs:
        say(run_path(settings.results, one))
    if night.drift is not None:
        fitted = ", fitted tonight" if night.fitted else ""
        say(f"model {night.model:04d}{fitted}; drift {_explained(night.drift)}")
    _say_reasons(night.waits, "waiting")
    _say_reasons(night.reasons, "quarantined")


def _explained(drift: float) -> str:
    """What a drift means."""
    if abs(drift - 1) < 0.005:
        return f"{drift:.3f}: new images lie as near to the clusters as those of the model's fit"
    much = "farther from" if drift > 1 else "nearer to"
    return (
        f"{drift:.3f}: squared distances of new images are {abs(drift - 1):.0%} {much} the "
        "clusters than those of the model's own; above 1.5 a refit is worth it"
    )


def _say_reasons(reasons: Mapping[str, str], what: str) -> None:
    for path, reason in islice(reasons.items(), SHOWN_REASONS):
        say(f"  {what} {path}: {reason}")
    if len(reasons) > SHOWN_REASONS:
        say(f"  … and {len(reasons) - SHOWN_REASONS:,} more {what}")


@nightly.command()
@_of_spec_alone
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")
def status(given: Given, as_json: bool) -> None:
    """Say what is done, pending, waiting and quarantined.

    \b
    kmdist nightly status jobs/nightly.yaml
    """
    from kmdist.nightly import status as nightly_status

    found = nightly_status(given.folder())
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    files = ", ".join(f"{n:,} {state}" for state, n in sorted(found["files"].items())) or "none"
    say(f"files   {files}")
    say(f"runs    {found['runs']:,} published, {len(found['started'])} to go on with")
    say(f"models  {', '.join(f'{n:04d}' for n in found['models']) or 'none'}")
    if found["night"]:
        stopped = ", stopped at its hour" if found["night"]["stopped"] else ""
        say(f"last    {found['night']['stamp']}: {found['night']['done']} done{stopped}")
        for text, why in found["night"].get("errors", {}).items():
            say(f"  input {text}: {why}")
        _say_reasons(found["night"].get("waits", {}), "waiting")
    for path, reason in found["quarantined"].items():
        say(f"  {path}: {reason}")


@nightly.command()
@click.argument("path")
@_of_spec
def find(given: Given, path: str) -> None:
    """Say which run holds the labels of the file PATH.

    \b
    kmdist nightly find photos/2024/IMG_0042.jpg
    """
    from kmdist.nightly import find as nightly_find

    found = nightly_find(given.folder(), path)
    gone = ", not there any more" if found["gone"] else ""
    say(f"{found['path']}: {found['state']}{gone}")
    if found["error"]:
        say(f"reason  {found['error']}")
    if found["run"]:
        say(f"run     {found['run']}")
        say(f"image   {found['image']}")
        say(f"model   {found['model']:04d}")


@nightly.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@_of_spec
@QUIET
def retry(given: Given, paths: tuple[str, ...], quiet: bool) -> None:
    """Take files out of quarantine, to be tried again the next night.

    PATH is a file, folder or glob, or the end of one file's path; without any, all quarantined
    files are meant.

    \b
    kmdist nightly retry photos/2024/
    """
    from kmdist.nightly import retry as nightly_retry

    found = nightly_retry(given.folder(), paths)
    if quiet:
        return
    for path in found:
        say(path)
    say(f"{quantity(len(found), 'file')} will be tried again by the next night")


@nightly.command()
@_of_spec_alone
@QUIET
def repair(given: Given, quiet: bool) -> None:
    """Make damaged and lost results anew, with the model they had.

    A damaged or lost ledger is rebuilt from the runs. What was damaged is kept, in damaged/ of the
    results. Exit code 1: something cannot be repaired, such as a model that is lost.

    \b
    kmdist nightly repair jobs/nightly.yaml
    """
    from kmdist.job.reporter import Reporter
    from kmdist.nightly import Settings
    from kmdist.nightly import repair as nightly_repair

    if given.results and given.spec is None:
        settings = Settings((), given.folder(), command=command_line())
    else:
        settings = given.settings()
    with Reporter(quiet=quiet) as reporter:
        done = nightly_repair(settings, watch=reporter)
    if not quiet:
        for place in done.aside:
            say(f"moved aside: {place}")
        if done.known:
            say(f"{quantity(len(done.known), 'run')} entered into the ledger")
        say(f"{quantity(done.remade, 'file')} labelled anew")
    for path in done.changed:
        say(f"{path}: has changed since; the next night labels it")
    for path in done.lost:
        say(f"{path}: is gone, and its labels are lost")
    for finding in done.superseded:
        say(f"{finding}; a later run stands for them, and they are not made anew")
    for finding in done.left:
        say(finding)
    if done.left:
        raise KmdistError(f"{settings.results}: {len(done.left)} findings cannot be repaired")


@nightly.command()
@_of_spec_alone
@QUIET
def verify(given: Given, quiet: bool) -> None:
    """Read all results again and say what is missing or damaged; exit code 1 if anything is.

    \b
    kmdist nightly verify --results results/
    """
    from kmdist.nightly import verify as nightly_verify

    folder = given.folder()
    findings = nightly_verify(folder)
    for finding in findings:
        say(finding)
    if findings:
        raise KmdistError(f"{folder}: {quantity(len(findings), 'finding')}")
    if not quiet:
        say(f"{folder}: all labels and models are as they were written")


@nightly.command()
@click.option("-o", "--output", required=True, metavar="FILE.html", help="The page to write.")
@_of_spec_alone
@QUIET
def report(given: Given, output: str, quiet: bool) -> None:
    """Write a page: images by night, drift, models, quarantine with reasons.

    \b
    kmdist nightly report --results results/ -o nights.html
    """
    from kmdist.pages.night_report import night_report

    page = night_report(given.folder(), output)
    if not quiet:
        say(f"report: {page}")
