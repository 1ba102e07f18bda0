"""The images that a digits run was made of, found again."""

from dataclasses import replace
from typing import Any

from kmdist.errors import UsageError
from kmdist.images import EVERYTHING, Choice, Found, Rejection
from kmdist.job.job import NoUsableImageError
from kmdist.recipes.digits.blocks import ranges
from kmdist.recipes.digits.opening import Input, Opened, named, open_input, with_classes_of
from kmdist.recipes.digits.stacks import Stack
from kmdist.recipes.digits.stacks.files import classes_by_folder
from kmdist.store import Run


def fitted_input(run: Run, block_mpx: float, images: Any = None) -> Opened:
    """Open the images that a run was made of, as it had them.

    Parameters
    ----------
    images : where they are now; None: where they were.

    Raises
    ------
    UsageError : the run does not name its images, or these are others.

    Notes
    -----
    Files are found by the paths that the run has recorded, whatever else is in their folders now.
    """
    record, given = run.attributes, run.parameters
    width, height = record["image_size"]
    polarity = "dark" if record["dark_ink"] else "light"
    elsewhere = images is not None
    if not elsewhere and run.paths and given.get("labels") is None:
        images = [Found(*pair) for pair in zip(run.names, run.paths, strict=True)]
    elif not elsewhere:
        images = given.get("images")
    if images is None:
        raise UsageError(f"{run.path} was made of images in memory: say where they are (--images)")
    cell = tuple(given["cell"]) if given.get("cell") else None
    choice = EVERYTHING
    if not elsewhere:
        choice = Choice(tuple(given.get("include", ())), tuple(given.get("exclude", ())))
    wanted = Input(images, cell, given.get("labels"), polarity, choice)
    try:
        opened = open_input(wanted, block_mpx, (width, height))
    except NoUsableImageError as error:
        if elsewhere:
            raise
        raise UsageError(
            f"the images of {run.path} are not where they were, such as {run.paths[0]}; --images "
            "says where they are"
        ) from error
    stack = _named_in(run, opened.stack)
    known = record.get("images_sha256")
    if known is not None:
        same = known == stack.images_sha256()
    else:
        same = record.get("fingerprint") == stack.fingerprint()
    if not same:
        raise UsageError(
            f"{named(images) or 'the images'} are not what {run.path} was made of, or have "
            "changed since; --images says where they are"
        )
    names = record.get("class_names") or []
    if names:
        stack = with_classes_of(stack, names)
    block_images = opened.block_images
    if record.get("unclustered") is not None:  # blocks without labels are blocks of the run
        block_images = run.lazy("labels").chunks[0]
    items = ranges(stack, block_images, opened.dark_ink)
    rejected = [Rejection(**one) for one in record.get("rejected") or []]
    return replace(opened, stack=stack, items=items, rejected=rejected)


def _named_in(run: Run, stack: Stack) -> Stack:
    """The images that a run names, of files that may be more; with classes of their folders."""
    if not stack.names or not run.names:
        return stack
    if more := set(stack.names).difference(run.names):
        stack = stack.without(more)
    if stack.classes is None and run.attributes.get("class_names"):
        classes, class_names = classes_by_folder(stack.names)
        stack = replace(stack, classes=classes, class_names=class_names)
    return stack
