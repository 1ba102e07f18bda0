"""A digits job up to its first pass: the stack, its blocks, workers, and where it writes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.cluster import open_pool
from kmdist.errors import UsageError
from kmdist.job.endings import NoUsableImageError, right_ending
from kmdist.job.job import Job, JobOptions
from kmdist.job.progress import Message, Watcher, quantity
from kmdist.recipes.digits.blocks import Range, ranges
from kmdist.recipes.digits.stacks import Stack, open_stack, polarity_of
from kmdist.recipes.digits.stacks.stack import NoImagesError
from kmdist.store import RunWriter

WORK_FACTOR = 4
"""A pixel of a character costs about this many times what one of a photograph does: blocks are
so much smaller, and processes start so much earlier."""

POLARITIES = ("auto", "light", "dark")


@dataclass(frozen=True)
class Input:
    """What the images are and how they are read.

    Parameters
    ----------
    images : what the user named; see `kmdist.recipes.digits.stacks.open_stack`.
    cell, labels : as there.
    polarity : ``light`` ink on dark paper, ``dark`` ink, or ``auto``: as the borders show.
    """

    images: Any
    cell: tuple[int, int] | None = None
    labels: str | Path | None = None
    polarity: str = "auto"

    def __post_init__(self) -> None:
        if self.polarity not in POLARITIES:
            raise UsageError(
                f"--polarity {self.polarity!r}: must be one of {', '.join(POLARITIES)}"
            )

    def parameters(self) -> dict[str, Any]:
        """What a run records, to open the same images again."""
        return {
            "images": named(self.images),
            "cell": list(self.cell) if self.cell else None,
            "labels": None if self.labels is None else str(self.labels),
            "polarity": self.polarity,
        }


@dataclass
class Opened:
    """A stack that is ready to be worked on.

    Parameters
    ----------
    items : its ranges, a block each.
    lost : ranges that cannot be used, of a stack whose images are no files: they keep their
        place, and get no labels.
    """

    stack: Stack
    items: list[Range]
    rejected: list[Any]
    dark_ink: bool
    messages: list[Message]
    lost: tuple[Range, ...] = ()

    @property
    def block_images(self) -> int:
        """Images in every block but the last."""
        return max(part.n for part in (*self.items, *self.lost))

    @property
    def n_usable(self) -> int:
        """Images in all blocks that are not lost."""
        return sum(part.n for part in self.items)


def named(images: Any) -> str | list[str] | None:
    """What names the images, to find them again; None for images in memory, or found one by one."""
    if isinstance(images, str | Path):
        return str(images)
    if isinstance(images, list | tuple) and all(isinstance(one, str | Path) for one in images):
        return [str(one) for one in images]
    return None


def open_input(given: Input, block_mpx: float, size: tuple[int, int] | None = None) -> Opened:
    """Open the stack, decide what is ink, and plan blocks.

    The blocks depend on the images and `block_mpx` alone.

    Parameters
    ----------
    size : width and height that image files are brought to; None: the most frequent.

    Raises
    ------
    NoUsableImageError : no file is a usable image.
    """
    with _usable_files():
        stack, rejected = open_stack(given.images, cell=given.cell, labels=given.labels, size=size)
    messages = [Message(stack.note)] if stack.note else []
    if given.polarity == "auto":
        with _usable_files():
            found = polarity_of(stack)
        dark_ink = found.dark_ink
        if dark_ink:
            messages.append(
                Message(
                    f"dark ink on light paper (borders at {found.border:.0%}): images are "
                    "inverted; --polarity light or dark decides otherwise"
                )
            )
    else:
        dark_ink = given.polarity == "dark"
    block_images = int(block_mpx * 1e6 / WORK_FACTOR / (stack.height * stack.width))
    items = ranges(stack.source, max(1, block_images), dark_ink)
    return Opened(stack, items, rejected, dark_ink, messages)


@contextmanager
def _usable_files() -> Iterator[None]:
    try:
        yield
    except NoImagesError as error:
        raise NoUsableImageError(str(error), error.rejections) from error


def open_further(given: Input, block_mpx: float, size: tuple[int, int], dark_ink: bool) -> Opened:
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
    opened = open_input(given, block_mpx, size)
    stack = opened.stack
    if (stack.width, stack.height) != size:
        raise UsageError(
            f"{stack.name}: images of {stack.width} × {stack.height} px; the fitted ones have "
            f"{size[0]} × {size[1]}"
        )
    with _usable_files():
        found = polarity_of(stack)
    if found.dark_ink != opened.dark_ink:
        ink = "dark" if opened.dark_ink else "light"
        warnings.append(
            Message(
                f"{stack.name}: borders at {found.border:.0%}, but taken for {ink} ink as the "
                "fitted images have; --polarity light or dark decides otherwise",
                warning=True,
            )
        )
    return replace(opened, messages=[*opened.messages, *warnings])


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


@contextmanager
def open_digit_job(
    recipe: str,
    opened: Opened,
    output: str | Path,
    parameters: Mapping[str, Any],
    options: JobOptions,
    *,
    watch: Watcher,
    command: Sequence[str] = (),
) -> Iterator[Job]:
    """Claim the output and start workers; the right ending for whatever happens.

    Raises
    ------
    UsageError : the output is not as it must be.
    """
    stack = opened.stack
    with ExitStack() as closing:
        started_s = time.perf_counter()
        writer = RunWriter.create(
            output,
            recipe=recipe,
            parameters=dict(parameters),
            fingerprint=stack.fingerprint(),
            resume=options.resume,
            overwrite=options.overwrite,
            command=command,
        )
        with right_ending(writer, watch):
            mpx = WORK_FACTOR * stack.n * stack.height * stack.width / 1e6
            pool = closing.enter_context(open_pool(options.compute, work_mpx=mpx))
            job = Job(options, [], [], pool, writer, watch)
            job.timings["open"] = time.perf_counter() - started_s
            for message in opened.messages:
                watch(message)
            watch(
                Message(
                    f"{quantity(stack.n, 'image')} of {stack.width} × {stack.height} px, "
                    f"{quantity(len(opened.items), 'block')}, {quantity(pool.threads, 'worker')}"
                )
            )
            job.reject(opened.rejected)
            if opened.rejected:
                watch(
                    Message(
                        f"{quantity(len(opened.rejected), 'file')} cannot be used", warning=True
                    )
                )
            yield job
