"""Options that every recipe's command shares, and what they become."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


COMMAND_KEY = "kmdist.command"
"""Where the group keeps the command line for its commands, in click's `Context.meta`."""


class KList(click.ParamType[Any]):
    """One k or several: ``16``, ``2,8,25``, ``2..32``, ``auto``."""

    name = "K[,K...]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None or isinstance(value, tuple):
            return value
        if value == "auto" or ".." in str(value):
            return str(value)
        try:
            ks = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(
                f"{value!r} is not a whole number, a list such as 2,8,25, a range 2..32, or auto",
                param,
                ctx,
            )
        if min(ks) < 1:
            self.fail(f"{value!r}: k must be 1 or more", param, ctx)
        return tuple(sorted(set(ks)))


def k_option(what: str) -> Callable[[Command], Command]:
    """How many clusters; `what` says in its help what they are, and the default."""
    return click.option("-k", "--k", type=KList(), default=None, help=what)


def fit_options(
    *, init: Callable[[Any], Any] | None = None, unset: bool = False
) -> Callable[[Command], Command]:
    """How clusters are fitted.

    Parameters
    ----------
    init : the option ``--init`` of a recipe that takes more than the names of methods.
    unset : what is not given is None, so that a recipe can tell; the help says the defaults.
    """
    methods = click.Choice(["k-means++", "k-means||", "random"])
    kinds: dict[str, tuple[Any, Any, str]] = {
        "--init": (methods, "k-means++", "First centres."),
        "--n-init": (click.IntRange(1), 1, "Restarts."),
        "--max-iter": (click.IntRange(1), 300, "Iterations at most."),
        "--tol": (
            click.FloatRange(0),
            1e-4,
            "Stop when centres move less, relative to the variance; 0: until no label changes.",
        ),
    }

    def add(command: Command) -> Command:
        for name, (kind, default, said) in reversed(kinds.items()):
            if name == "--init" and init is not None:
                command = init(command)
            elif unset:
                command = click.option(name, type=kind, help=f"{said}  [default: {default}]")(
                    command
                )
            else:
                command = click.option(
                    name, type=kind, default=default, show_default=True, help=said
                )(command)
        return command

    return add


def job_options(command: Command) -> Command:
    """Where and how any recipe runs."""
    for option in reversed(_JOB_OPTIONS.values()):
        command = option(command)
    return command


def with_default(name: str, default: Any) -> Callable[[Command], Command]:
    """Give one option of a command another default."""

    def change(command: Command) -> Command:
        if isinstance(command, click.Command):
            for parameter in command.params:
                if parameter.name == name:
                    parameter.default = default
        return command

    return change


def labelling_options(command: Command) -> Command:
    """Where and how a job runs that draws no random numbers and reads every file once."""
    for name, option in reversed(_JOB_OPTIONS.items()):
        if name not in ("seed", "keep_pixels"):
            command = option(command)
    return command


def job_options_but(*names: str) -> Callable[[Command], Command]:
    """Where and how a job runs, without some options."""

    def add(command: Command) -> Command:
        for name, option in reversed(_JOB_OPTIONS.items()):
            if name not in names:
                command = option(command)
        return command

    return add


def command_line() -> list[str]:
    """The command line as it was given, for `--resume`; empty where there was none."""
    return list(click.get_current_context().meta.get(COMMAND_KEY, ()))


_JOB_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "output": click.option(
        "-o", "--output", required=True, metavar="RUN.zarr", help="The run to write."
    ),
    "seed": click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
    "workers": click.option(
        "--workers", type=click.IntRange(1), help="Local workers; default: all cores."
    ),
    "worker_kind": click.option(
        "--worker-kind",
        type=click.Choice(["auto", "thread", "process"]),
        default="auto",
        show_default=True,
        help="auto: threads for small work, one process per core for large.",
    ),
    "cluster": click.option(
        "--cluster", metavar="FILE[:PROFILE]", help="Run where this cluster file says."
    ),
    "scheduler": click.option("--scheduler", metavar="URL", help="Run on this Dask scheduler."),
    "trust": click.option(
        "--trust", multiple=True, metavar="MODULE", help="Let the cluster file name its classes."
    ),
    "insecure": click.option(
        "--insecure", is_flag=True, help="Allow a scheduler in the open without TLS."
    ),
    "block_mpx": click.option(
        "--block-mpx",
        type=click.FloatRange(0.01, 1024),
        default=16.0,
        show_default=True,
        help="Megapixels per unit of distributed work.",
    ),
    "keep_pixels": click.option(
        "--keep-pixels",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Keep decoded pixels between the passes; auto: where they fit in memory.",
    ),
    "max_pixels": click.option(
        "--max-pixels",
        type=click.IntRange(1),
        default=200_000_000,
        show_default=True,
        help="Refuse larger images that must be decoded whole.",
    ),
    "strict": click.option(
        "--strict", is_flag=True, help="Stop at the first image that cannot be used."
    ),
    "resume": click.option("--resume", is_flag=True, help="Go on with an interrupted run."),
    "overwrite": click.option(
        "--overwrite", is_flag=True, help="Replace an existing run once this is done."
    ),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="Errors and the result only."),
    "verbose": click.option("-v", "--verbose", is_flag=True, help="Name every rejected image."),
}


def split_job_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the options of a command into a recipe's own and those of `job_options`."""
    shared = {
        "seed", "workers", "worker_kind", "cluster", "scheduler", "trust", "insecure", "block_mpx",
        "keep_pixels", "max_pixels", "strict", "resume", "overwrite",
    }  # fmt: skip
    own = {key: value for key, value in options.items() if key not in shared}
    return own, {key: value for key, value in options.items() if key in shared}
