"""Images of a digits run that cannot be used: files that are damaged, blocks that kill workers.

They are found where images are read first. Files are left out as if they had never been there;
images of other stacks keep their place, and their labels say that they have none.
"""

from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np

from kmdist.errors import UsageError, quantity
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass, LeftOut, writing_stage
from kmdist.job.job import Job, NoUsableImageError
from kmdist.job.memory import DECODE_BYTES, Held
from kmdist.job.progress import Message
from kmdist.recipes.digits.blocks import Range, ranges
from kmdist.recipes.digits.opening import Opened
from kmdist.store import Run


def leave_out(job: Job, opened: Opened, rejected: Sequence[Rejection]) -> Opened:
    """The images that remain, in blocks; the others are recorded and said.

    Raises
    ------
    NoUsableImageError : none remains. StrictError : with ``strict``.
    """
    if not rejected:
        return opened
    job.reject(rejected)
    names, before = {one.image for one in rejected}, opened.n_usable
    if opened.stack.names:
        size, dark_ink = opened.block_images, opened.dark_ink
        stack = opened.stack.without(names)
        opened = replace(opened, stack=stack, items=ranges(stack, size, dark_ink))
    else:
        opened = without_blocks(opened, names)
    n_out = before - opened.n_usable
    job.watch(Message(f"{quantity(n_out, 'image')} left out that cannot be used", warning=True))
    if not opened.items:
        raise NoUsableImageError(
            f"{opened.stack.name}: no image can be used: {rejected[0].reason}",
            job.rejected.values(),
        )
    return opened


def without_blocks(opened: Opened, names: Container[str]) -> Opened:
    """Blocks of these names are among those that are lost: their images keep their place."""
    lost = [part for part in opened.items if part.names[0] in names]
    items = [part for part in opened.items if part.names[0] not in names]
    return replace(opened, items=items, lost=(*opened.lost, *lost))


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
    lost = [part for part in opened.items if not labelled[part.first : part.first + part.n].any()]
    items = [part for part in opened.items if part not in lost]
    return replace(opened, items=items, lost=tuple(lost))


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
    found: LeftOut = BlockPass(job, CHECK).run(opened.items)
    return leave_out(job, opened, found.rejected)


def check_block(part: Range) -> LeftOut:
    """Leaf of the pass that reads images to see whether they can be used."""
    return LeftOut(part.usable().rejected)


CHECK = writing_stage("check", check_block, held=Held(block=2 * DECODE_BYTES))
