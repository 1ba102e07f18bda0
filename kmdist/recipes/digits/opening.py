"""The workload of a digits job: a stack of images, in blocks.

Images that cannot be used, damaged files and blocks that kill workers, are found where images are
read first. Files are left out as if they had never been there;
images of other stacks keep their place, and their labels say that they have none.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.errors import UsageError, quantity
from kmdist.images import EVERYTHING, Choice, Found, Rejection
from kmdist.job.block_pass import BlockPass, LeftOut, writing_stage
from kmdist.job.job import Job, NoUsableImageError
from kmdist.job.memory import DECODE_BYTES, Held
from kmdist.job.options import JobOptions
from kmdist.job.progress import Message
from kmdist.recipes.digits.stacks import Stack, border_of, open_stack
from kmdist.recipes.digits.stacks.files import classes_by_folder
from kmdist.recipes.digits.stacks.stack import Range, ranges
from kmdist.store import Run
from kmdist.urls import is_url

WORK_FACTOR = 4
"""A pixel of a character costs about this many times what one of a photograph does: blocks are
so much smaller, and processes start so much earlier."""


@dataclass(frozen=True)
class Input:
    """What the images are and how they are read.

    Parameters
    ----------
    images : what the user named; see `kmdist.recipes.digits.stacks.open_stack`.
    cell, labels : as there.
    polarity : ``light`` ink on dark paper, ``dark`` ink, or ``auto``: as the borders show.
    choice : which of the files that are found.
    """

    images: Any
    cell: tuple[int, int] | None = None
    labels: str | Path | None = None
    polarity: str = "auto"
    choice: Choice = EVERYTHING

    def __post_init__(self) -> None:
        if isinstance(self.images, Iterator):  # such as Path.glob gives them
            object.__setattr__(self, "images", list(self.images))

    def parameters(self) -> dict[str, Any]:
        """What a run records, to open the same images again."""
        return {
            "images": named(self.images),
            "cell": list(self.cell) if self.cell else None,
            "labels": self.labels if self.labels in (None, "rows") else _in_full(str(self.labels)),
            "polarity": self.polarity,
            **{key: list(globs) for key, globs in vars(self.choice).items() if globs},
        }


@dataclass
class Opened:
    """A stack that is ready to be worked on: a `kmdist.job.recipe.Workload`.

    Parameters
    ----------
    blocks : its ranges.
    notes : to be said once.
    lost : ranges that cannot be used, of a stack whose images are no files: they keep their
        place, and get no labels.
    tested : further images, to be scored after the fit.
    """

    stack: Stack
    blocks: list[Range]
    rejected: list[Any]
    dark_ink: bool
    notes: list[Message]
    lost: tuple[Range, ...] = ()
    tested: "Opened | None" = None

    @property
    def block_images(self) -> int:
        """Images in every block but the last."""
        return max(part.n for part in (*self.blocks, *self.lost))

    @property
    def n_usable(self) -> int:
        """Images in all blocks that are not lost."""
        return sum(part.n for part in self.blocks)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of each image, pixels."""
        return self.stack.width, self.stack.height

    @property
    def n_images(self) -> int:
        """Images of the stack."""
        return self.stack.n

    @property
    def megapixels(self) -> float:
        """Of all images."""
        return self.stack.n * self.stack.height * self.stack.width / 1e6

    @property
    def work_mpx(self) -> float:
        """Megapixels of photographs that are as much work."""
        return WORK_FACTOR * self.megapixels

    @property
    def names(self) -> tuple[str, ...]:
        """None has a label map: all labels are one array."""
        return ()

    @property
    def fingerprint(self) -> str:
        """Of the images, not of their classes."""
        return self.stack.fingerprint()

    @property
    def record(self) -> dict[str, Any]:
        """Nothing yet: more images may be left out."""
        return {}

    @property
    def described(self) -> str:
        """How many, and how large."""
        width, height = self.size
        return f"{quantity(self.stack.n, 'image')} of {width} × {height} px"


def named(images: Any) -> str | list[str] | None:
    """What names the images, to find them again; None for images in memory, or found one by one.

    Paths are in full: a run is read from other folders than it was made in.
    """
    if isinstance(images, str | Path):
        return _in_full(str(images))
    if isinstance(images, list | tuple) and all(isinstance(one, str | Path) for one in images):
        return [_in_full(str(one)) for one in images]
    return None


def _in_full(text: str) -> str:
    if is_url(text) or text.startswith("sample:"):
        return text
    return os.path.abspath(os.path.expanduser(text))


def open_input(given: Input, options: JobOptions, size: tuple[int, int] | None = None) -> Opened:
    """Open the stack, decide what is ink, and plan blocks.

    The blocks depend on the images and their size in megapixels alone.

    Parameters
    ----------
    size : width and height that image files are brought to; None: the most frequent.

    Raises
    ------
    NoUsableImageError : no file is a usable image.
    """
    stack, rejected = open_stack(
        given.images, cell=given.cell, labels=given.labels, size=size, choice=given.choice
    )
    notes = [Message(stack.note)] if stack.note else []
    if given.polarity == "auto":
        border = border_of(stack)
        dark_ink = border > 0.5
        if dark_ink:
            notes.append(
                Message(
                    f"dark ink on light paper (borders at {border:.0%}): images are "
                    "inverted; --polarity light or dark decides otherwise"
                )
            )
    else:
        dark_ink = given.polarity == "dark"
    block_images = int(options.block_mpx * 1e6 / WORK_FACTOR / (stack.height * stack.width))
    blocks = ranges(stack, max(1, block_images), dark_ink)
    return Opened(stack, blocks, rejected, dark_ink, notes)


def open_further(
    given: Input, options: JobOptions, size: tuple[int, int], dark_ink: bool
) -> Opened:
    """Open images that others were fitted before.

    Parameters
    ----------
    size : width and height of the fitted ones; files are brought to it.
    dark_ink : of the fitted ones; holds unless `given` says otherwise: a few new images are too
        few to decide by.

    Raises
    ------
    UsageError : images of another size.
    """
    warnings = []
    if given.polarity == "auto":
        given = replace(given, polarity="dark" if dark_ink else "light")
    opened = open_input(given, options, size)
    stack = opened.stack
    if opened.size != size:
        raise UsageError(
            f"{stack.name}: images of {stack.width} × {stack.height} px; the fitted ones have "
            f"{size[0]} × {size[1]}"
        )
    border = border_of(stack)
    if (border > 0.5) != opened.dark_ink:
        ink = "dark" if opened.dark_ink else "light"
        warnings.append(
            Message(
                f"{stack.name}: borders at {border:.0%}, but taken for {ink} ink as the "
                "fitted images have; --polarity light or dark decides otherwise",
                warning=True,
            )
        )
    return replace(opened, notes=[*opened.notes, *warnings])


def with_classes_of(stack: Stack, class_names: Sequence[str]) -> Stack:
    """The stack with its classes numbered as those of other images.

    Raises
    ------
    UsageError : a class that does not occur there.
    """
    if stack.classes is None:
        return replace(stack, class_names=tuple(class_names))
    number = {name: i for i, name in enumerate(class_names)}
    unknown = [name for name in stack.class_names if name not in number]
    if unknown:
        raise UsageError(
            f"{stack.name}: classes {', '.join(unknown[:5])} do not occur in the fitted "
            f"images: {', '.join(class_names[:20]) or 'they have none'}"
        )
    renumbered = np.array([number[name] for name in stack.class_names])[stack.classes]
    return replace(stack, classes=renumbered, class_names=tuple(class_names))


def leave_out(
    job: Job, opened: Opened, rejected: Sequence[Rejection], *, fitted: bool = False
) -> Opened:
    """The images that remain, in blocks; the others are recorded and said.

    Parameters
    ----------
    fitted : they are counted in centroids: even files keep their place.

    Raises
    ------
    NoUsableImageError : none remains. StrictError : with ``strict``.
    """
    if not rejected:
        return opened
    job.reject(rejected)
    names, before = {one.image for one in rejected}, opened.n_usable
    if opened.stack.names and not fitted:
        size, dark_ink = opened.block_images, opened.dark_ink
        stack = opened.stack.without(names)
        opened = replace(opened, stack=stack, blocks=ranges(stack, size, dark_ink))
    else:
        lost = [part for part in opened.blocks if part.names[0] in names]
        opened = _without(opened, lost)
    out = quantity(before - opened.n_usable, "image")
    said = f"fitted, and cannot be read any more: {out}" if fitted else ""
    job.watch(Message(said or f"{out} left out that cannot be used", warning=True))
    if not opened.blocks:
        raise NoUsableImageError(
            f"{opened.stack.name}: no image can be {'labelled' if fitted else 'used'}: "
            f"{rejected[0].reason}",
            job.rejected.values(),
        )
    return opened


def without_unlabelled(run: Run, opened: Opened) -> Opened:
    """The images of a run without those that it could not label.

    Parameters
    ----------
    opened : images of the run, in blocks as the run has them.
    """
    marker = run.attributes.get("unclustered")
    if marker is None:
        return opened
    labelled = np.asarray(run.labels()[:]) != marker
    return _without(
        opened,
        [part for part in opened.blocks if not labelled[part.first : part.first + part.n].any()],
    )


def _without(opened: Opened, lost: Sequence[Range]) -> Opened:
    """Without blocks whose images keep their place."""
    gone = {part.first for part in lost}
    kept = [part for part in opened.blocks if part.first not in gone]
    return replace(opened, blocks=kept, lost=(*opened.lost, *lost))


def require_enough(opened: Opened, ks: Sequence[int]) -> None:
    """Refuse more clusters than images remain.

    Raises
    ------
    UsageError : says how many there are.
    """
    if max(ks) > opened.n_usable:
        raise UsageError(f"k is {max(ks)}; {opened.n_usable:,} images can be used")


def check_images(job: Job, opened: Opened) -> Opened:
    """Read all images once, and go on with those that can be used; one pass."""
    found: LeftOut = BlockPass(job, CHECK).run(opened.blocks)
    return leave_out(job, opened, found.rejected)


def check_block(part: Range) -> LeftOut:
    """Leaf of the pass that reads images to see whether they can be used."""
    return LeftOut(part.usable().rejected)


CHECK = writing_stage("check", check_block, held=Held(block=2 * DECODE_BYTES))


def fitted_input(run: Run, options: JobOptions, images: Any = None) -> Opened:
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
        opened = open_input(wanted, options, (width, height))
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
    blocks = ranges(stack, block_images, opened.dark_ink)
    rejected = [Rejection(**one) for one in record.get("rejected") or []]
    return replace(opened, stack=stack, blocks=blocks, rejected=rejected)


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
