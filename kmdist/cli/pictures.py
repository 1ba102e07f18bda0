"""Pictures instead of a run, or beside it: `kmdist quantize a.jpg -o a.png`."""

import os
from typing import Any

from kmdist.errors import UsageError, shown
from kmdist.job.options import JobOptions
from kmdist.job.progress import Watcher
from kmdist.pictures.export import Look, export, export_image
from kmdist.pictures.output_files import check_folder, check_picture_path, written_to
from kmdist.pictures.run_pictures import RunPicture
from kmdist.store import Run
from kmdist.urls import is_url


def check_pictures(
    inputs: Any, picture: str | None, folder: str | None, options: JobOptions
) -> None:
    """Refuse places for pictures before any work is spent on them.

    Raises
    ------
    UsageError : a picture of several photographs or several k, over its original, or not as PNG;
        a folder that is not empty.
    """
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
    if not is_url(place) and os.path.exists(place) and not options.overwrite:
        raise UsageError(f"-o {picture}: is there already; give another name, or --overwrite")


def write_pictures(
    run: Run, picture: str | None, folder: str | None, options: JobOptions, watch: Watcher
) -> None:
    """Write the picture of a run of one image, and all pictures of a run to a folder."""
    if folder is not None:
        export(run, folder, overwrite=options.overwrite, watch=watch)
    if picture is None:
        return
    name, *others = run.images
    if others:
        raise UsageError(f"-o {picture}: {shown(name)} and others make several pictures")
    place = check_picture_path(picture, (".png",))
    with written_to(place) as path:
        export_image(RunPicture(run, run.images[name]), {name: path.stem}, path.parent, Look())
