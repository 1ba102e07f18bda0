"""From a class of options to a command: its arguments, options, help, and what runs it."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, get_origin

import click
from msgspec import inspect as inspect_type

from kmdist.errors import KmdistError, UsageError, on_command_line
from kmdist.options import Declared, Option, Options, declared

COMMAND_KEY = "kmdist.command"
"""Where the group keeps the command line for its commands, in click's `Context.meta`."""


class Verbosity(Options, frozen=True, kw_only=True):
    """How much a command says."""

    quiet: Annotated[bool, Option("Errors only.", short="-q")] = False
    verbose: Annotated[
        bool, Option("Details, and the name of every rejected image.", short="-v")
    ] = False
    json: Annotated[bool, Option("Progress and result as JSON, an object a line.")] = False


QUIET = click.option("-q", "--quiet", is_flag=True, help="Errors only.")
"""Of commands that write files which are no runs."""


def command_line() -> list[str]:
    """The command line as it was given, for `--resume`; empty where there was none."""
    return list(click.get_current_context().meta.get(COMMAND_KEY, ()))


def said(error: KmdistError) -> str:
    """An error with options as the command line has them."""
    if isinstance(error, UsageError) and error.option is not None:
        return on_command_line(error.named(f"--{error.option.replace('_', '-')}"))
    return on_command_line(str(error))


def job_command(
    name: str,
    options: type[Options],
    arguments: Sequence[click.Argument],
    function: Callable[..., Any],
    further: Sequence[click.Option] = (),
) -> click.Command:
    """A command that writes a run.

    Parameters
    ----------
    options : what it takes; the docstring is its help.
    arguments : what it takes by position, before the output.
    function : called with the arguments, the output, and the options as one object.
    further : options that `function` takes as keywords; where there are some it says itself what
        is missing without an output.
    """

    def run(output: str | None, **values: Any) -> None:
        verbosity = Verbosity(**{name: values.pop(name) for name in declared(Verbosity)})
        given = [*(values.pop(str(argument.name)) for argument in arguments), output]
        besides = {str(one.name): values.pop(str(one.name)) for one in further}
        where = output or besides.get("folder")
        job = partial(function, **besides)
        run_and_say(job, given, options.of(values), verbosity, where)

    declarations = [*declared(options).values(), *declared(Verbosity).values()]
    asked = [click_option(one) for one in declarations if not one.option.python_only]
    return click.Command(
        name,
        params=[*arguments, output_option(required=not further), *further, *asked],
        callback=run,
        help=options.__doc__,
    )


def run_and_say(
    function: Any,
    given: Sequence[Any],
    options: Options,
    verbosity: Verbosity,
    where: str | None = None,
) -> None:
    """Call a function that writes a run, show its progress, and print the run."""
    from kmdist.cli.printing import exit_code_of, say_result
    from kmdist.job.reporter import Reporter

    quiet, verbose, as_json = verbosity.quiet, verbosity.verbose, verbosity.json
    with Reporter(quiet=quiet, verbose=verbose, as_json=as_json) as reporter:
        run = function(*given, options=options, watch=reporter, command=command_line())
    if run is None:
        return
    if as_json:
        click.echo(json.dumps({"event": "result", "path": str(run.path), **run.info()}))
    elif not quiet:
        say_result(run, where=where or run.path, verbose=verbose)
    if code := exit_code_of(run):
        click.get_current_context().exit(code)


def output_option(*, required: bool) -> click.Option:
    """Where a command writes its run."""
    said = "The run to write." if required else "The run to write; or a picture, of one photograph."
    return click.Option(["-o", "--output"], required=required, metavar="RUN.zarr", help=said)


def also(options: type[Options], *names: str) -> Callable[[click.Command], click.Command]:
    """Let a command take some options of a class besides its own."""

    def add(command: click.Command) -> click.Command:
        command.params += [click_option(declared(options)[name]) for name in names]
        return command

    return add


def click_option(one: Declared) -> click.Option:
    """An option of a command."""
    said = one.option
    flag = f"--{one.name.replace('_', '-')}"
    names = [f"{flag}/{said.off}" if said.off else flag, one.name]
    if said.short:
        names.insert(0, said.short)
    keywords: dict[str, Any] = {}
    if isinstance(one.info, inspect_type.BoolType):
        keywords = {"is_flag": True, "show_default": bool(said.off)}
    elif get_origin(one.hint) is Sequence:
        keywords = {"multiple": True}
    else:
        keywords = {"type": _type_of(one), "show_default": one.default is not None}
    if said.bare is not None:
        keywords.update(is_flag=False, flag_value=said.bare)
    default = f"  [default: {said.default}]" if said.default else ""
    return click.Option(
        names,
        required=one.required,
        default=None if one.required else one.default,
        metavar=said.metavar,
        help=said.help + default,
        **keywords,
    )


def _type_of(one: Declared) -> click.ParamType[Any]:
    info = one.info
    if one.values:
        return click.Choice(one.values)
    if isinstance(info, inspect_type.IntType):
        bounded = info.ge is not None or info.le is not None
        return click.IntRange(info.ge, info.le) if bounded else click.INT
    if isinstance(info, inspect_type.FloatType):
        low = info.ge if info.gt is None else info.gt
        return click.FloatRange(low, info.le, min_open=info.gt is not None)
    return click.STRING if one.option.parse is None else Parsed(one)


class Parsed(click.ParamType[Any]):
    """A value that is no number, word or path."""

    def __init__(self, one: Declared) -> None:
        self.name = one.option.metavar or one.name
        self._one = one

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self._one.checked(value)
        except UsageError as error:
            self.fail(error.reason, param, ctx)
