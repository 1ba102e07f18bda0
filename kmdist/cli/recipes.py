"""The commands that write runs: one a recipe, demo, predict, split, merge."""

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from kmdist.cli.options import QUIET, job_command
from kmdist.cli.printing import say
from kmdist.errors import UsageError, quantity
from kmdist.job.options import JobOptions
from kmdist.job.progress import Message, Watcher
from kmdist.recipes.digits.options import MergeOptions, SplitOptions
from kmdist.recipes.options import PredictOptions
from kmdist.recipes.registry import recipe_named
from kmdist.urls import require_on_disk

if TYPE_CHECKING:
    from kmdist.store import Run

EXPORT = click.Option(
    ["--export", "folder"],
    metavar="DIR",
    help="Write recoloured pictures there, as kmdist export does; the run itself need not be kept.",
)
DRY_RUN = click.Option(["--dry-run"], is_flag=True, help="Say what would be done; do nothing.")


def recipe_command(name: str) -> click.Command:
    """The command of a recipe, with its options."""
    options = recipe_named(name).options
    several: dict[str, Any] = {} if options.ONE_INPUT else {"nargs": -1}
    metavar = "INPUT" if options.ONE_INPUT else "INPUT..."
    inputs = click.Argument(["inputs"], required=True, metavar=metavar, **several)
    further = [EXPORT, DRY_RUN] if recipe_named(name).exported else [DRY_RUN]
    return job_command(name, options, [inputs], partial(run_recipe, name), further)


def run_recipe(
    name: str,
    inputs: Any,
    output: str | None,
    *,
    options: Any,
    folder: str | None = None,
    dry_run: bool = False,
    **how: Any,
) -> Any:
    """Run a recipe, whichever it is, and write pictures of the run where they are asked for.

    Parameters
    ----------
    output : the run; or, of one photograph, a picture. None: a temporary run.
    folder : where pictures are exported to.

    Returns
    -------
    Run, or None where nothing was run.
    """
    from kmdist.job.running import PICTURE_SUFFIXES, plan_job, run_job

    if output is None and folder is None:
        raise UsageError("-o is missing: the run to write, such as -o run.zarr")
    recipe = recipe_named(name)
    named_so = PurePosixPath(output or "").suffix.lower() in PICTURE_SUFFIXES
    picture = output if named_so and recipe.exported else None
    drawn = picture is not None or folder is not None
    if drawn:
        check_pictures(inputs, picture, folder, options)
    if dry_run:
        plan = plan_job(recipe.fit(inputs, options), output or str(folder), options)
        say_plan(plan, how["watch"])
        return None
    place = None if picture else output
    run = run_job(recipe.fit(inputs, options), place, options, **how)
    if drawn:
        write_pictures(run, picture, folder, options, how["watch"])
    return run


def check_pictures(
    inputs: Any, picture: str | None, folder: str | None, options: JobOptions
) -> None:
    """Refuse places for pictures before any work is spent on them.

    Raises
    ------
    UsageError : a picture of several photographs or several k, over its original, or not as PNG;
        a folder that is not empty.
    """
    from kmdist.pictures.output_files import check_folder, check_picture_path, is_there

    if folder is not None:
        check_folder(folder, overwrite=options.overwrite)
    if picture is None:
        return
    listed = [inputs] if isinstance(inputs, str) else list(inputs)
    if len(listed) != 1 or os.path.isdir(listed[0]) or len(options.ks) > 1:
        raise UsageError(
            f"-o {picture}: is one picture, of one photograph and one k; give a run such as "
            "-o run.zarr, or --export DIR for a picture of each"
        )
    place = check_picture_path(picture, (".png",), not_over=listed[0])
    if is_there(place) and not options.overwrite:
        raise UsageError(f"-o {picture}: is there already; give another name, or --overwrite")


def write_pictures(
    run: "Run", picture: str | None, folder: str | None, options: JobOptions, watch: Watcher
) -> None:
    """Write the picture of a run of one image, and all pictures of a run to a folder."""
    from kmdist.pictures.export import export, export_image
    from kmdist.pictures.options import ExportOptions
    from kmdist.pictures.output_files import check_picture_path, written_to
    from kmdist.pictures.run_pictures import RunPicture

    if folder is not None:
        export(run, folder, overwrite=options.overwrite, watch=watch)
    if picture is None:
        return
    names = list(run.images)
    if len(names) != 1:
        labelled = quantity(len(names), "image")
        raise UsageError(f"-o {picture}: is one picture, and {labelled} are labelled; give a run")
    place = check_picture_path(picture, (".png",))
    with written_to(place) as path:
        export_image(RunPicture(run, run.images[names[0]]), path.stem, path.parent, ExportOptions())


def say_plan(plan: Any, watch: Watcher) -> None:
    """Print what a job would do; an error where it cannot fit."""
    for line in plan.lines():
        say(line)
    for rejection in plan.rejected[:10]:
        say(f"  {rejection.image}: {rejection.reason} [{rejection.code}]")
    watch(Message(plan.memory.explained, detail=True))
    plan.memory.require()


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


@click.command()
@click.option("-o", "--output", default="kmdist-demo", show_default=True, metavar="DIR")
@click.option("-k", type=click.IntRange(2, 256), default=16, show_default=True)
@QUIET
def demo(output: str, k: int, quiet: bool) -> None:
    """Quantize bundled photographs and draw the result; needs no network."""
    from pathlib import Path

    from kmdist.cli.printing import say_result
    from kmdist.job.reporter import Reporter
    from kmdist.pictures.output_files import make_folder
    from kmdist.pictures.view import view
    from kmdist.recipes.quantize.recipe import quantize

    require_on_disk(output, "-o")
    folder = make_folder(Path(output))
    with Reporter(quiet=quiet) as reporter:
        run = quantize(
            ["sample:photos"], folder / "photos.zarr", k=k, overwrite=True, watch=reporter
        )
    picture = folder / "photos.png"
    view(run, picture)
    if not quiet:
        say_result(run, where=run.path)
        say(f"picture: {picture}")
