"""Images of a digits run that cannot be used: files that are damaged, blocks that kill workers.

They are found where images are read first. Files are left out as if they had never been there;
images of other stacks keep their place, and their labels say that they have none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kmdist.engine.passes import LostBlockError
from kmdist.errors import UsageError
from kmdist.images import Rejection
from kmdist.job.block_pass import Codec, resumable_pass
from kmdist.job.endings import NoUsableImageError
from kmdist.job.job import Job
from kmdist.job.label_maps import LOST
from kmdist.job.progress import Message, quantity
from kmdist.recipes.digits.blocks import Range, ranges
from kmdist.recipes.digits.opening import Opened
from kmdist.store import Run


@dataclass(frozen=True)
class LeftOut:
    """Images that cannot be used.

    Parameters
    ----------
    rejected : one a file; one a block of images that are no files.
    firsts : number of the first image of each such block.
    """

    rejected: tuple[Rejection, ...] = ()
    firsts: tuple[int, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """As a checkpoint has them."""
        rows = [[r.image, r.code, r.reason] for r in self.rejected]
        return {
            "rejected": np.array(rows, dtype=np.str_).reshape(-1, 3),
            "firsts": np.array(self.firsts, dtype=np.int64),
        }

    @classmethod
    def of_arrays(cls, saved: Mapping[str, np.ndarray]) -> "LeftOut":
        """From a checkpoint."""
        rejected = tuple(Rejection(*map(str, row)) for row in saved["rejected"])
        return cls(rejected, tuple(saved["firsts"].tolist()))


def merge_left_out(parts: Sequence[LeftOut]) -> LeftOut:
    """Join what is left out of several blocks."""
    return LeftOut(
        tuple(rejection for part in parts for rejection in part.rejected),
        tuple(first for part in parts for first in part.firsts),
    )


def lost_images(opened: Opened, part: Range, error: BaseException) -> LeftOut:
    """The images of a block that killed its workers; any other error is raised."""
    if not isinstance(error, LostBlockError):
        raise error
    reason = str(error.args[0])
    if part.names:
        return LeftOut(tuple(Rejection(name, LOST, reason) for name in part.names))
    last = part.first + part.n - 1
    name = f"{opened.stack.name}, images {part.first:,} to {last:,}"
    return LeftOut((Rejection(name, LOST, reason),), (part.first,))


def leave_out(job: Job, opened: Opened, found: LeftOut) -> Opened:
    """The images that remain, in blocks; the others are recorded and said.

    Raises
    ------
    NoUsableImageError : none remains. StrictError : with ``strict``.
    """
    if not found.rejected:
        return opened
    job.reject(found.rejected)
    before = opened.n_usable
    if opened.stack.names:
        size, dark_ink = opened.block_images, opened.dark_ink
        stack = opened.stack.without({rejection.image for rejection in found.rejected})
        opened = replace(opened, stack=stack, items=ranges(stack.source, size, dark_ink))
    else:
        lost = [part for part in opened.items if part.first in found.firsts]
        items = [part for part in opened.items if part.first not in found.firsts]
        opened = replace(opened, items=items, lost=(*opened.lost, *lost))
    n_out = before - opened.n_usable
    job.watch(Message(f"{quantity(n_out, 'image')} left out that cannot be used", warning=True))
    if not opened.items:
        raise NoUsableImageError(
            f"{opened.stack.name}: no image can be used: {found.rejected[0].reason}",
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
    saved = job.writer.load_state("checked")
    if saved is None:

        def set_aside(index: int, error: BaseException) -> LeftOut:
            return lost_images(opened, opened.items[index], error)

        found: LeftOut = resumable_pass(
            job,
            "check",
            check_block,
            opened.items,
            codec=CODEC,
            pixels=[part.pixels for part in opened.items],
            merge=merge_left_out,
            on_failure=set_aside,
        )
        job.writer.save_state("checked", found.arrays())
    else:
        found = LeftOut.of_arrays(saved)
    return leave_out(job, opened, found)


def check_block(part: Range) -> LeftOut:
    """Leaf of the pass that reads images to see whether they can be used."""
    return LeftOut(part.usable().rejected)


CODEC = Codec(LeftOut.arrays, LeftOut.of_arrays)
