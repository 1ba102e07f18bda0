"""Image files as a workload: found, probed on the workers, cut into blocks."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace

from kmdist.engine.passes import Pool
from kmdist.errors import quantity
from kmdist.images import Found, ImageSource, Rejection, find_images, plan_blocks, probe
from kmdist.images.finding.find import listed_inputs
from kmdist.job.options import JobOptions
from kmdist.job.probing import fingerprint, probe_all
from kmdist.job.progress import Message, Watcher
from kmdist.job.recipe import Inputs
from kmdist.job.work import Work, work_of

PYRAMID = 4 / 3
"""Pixels of a label map with its pyramid, per pixel of the image."""
METADATA_BYTES = 20_000
"""Of one image in a run: groups, arrays, partly filled disk blocks."""


@dataclass(frozen=True)
class Photographs:
    """Image files: a `kmdist.job.recipe.Workload`.

    Parameters
    ----------
    sources : the images that can be used. blocks : of them. rejected : the others.
    """

    sources: Sequence[ImageSource]
    blocks: Sequence[Work]
    rejected: Sequence[Rejection] = ()

    @property
    def n_images(self) -> int:
        """Images that can be used."""
        return len(self.sources)

    @property
    def pixels(self) -> int:
        """Of these images."""
        return sum(block.pixels for block in self.blocks)

    @property
    def megapixels(self) -> float:
        """Of these images."""
        return self.pixels / 1e6

    @property
    def work_mpx(self) -> float:
        """As much work as they are megapixels."""
        return self.megapixels

    @property
    def names(self) -> list[str]:
        """All have label maps."""
        return [source.name for source in self.sources]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names, sizes and modification times of the usable images."""
        return fingerprint(self.sources)

    @property
    def described(self) -> str:
        """How many, and how large."""
        return f"{quantity(self.n_images, 'image')}, {self.megapixels:,.1f} Mpx"

    @property
    def record(self) -> dict[str, int]:
        """Their pixels."""
        return {"pixels": self.pixels}

    @property
    def notes(self) -> list[Message]:
        """What is left out of files, what is not 8-bit, and whose colours are not sRGB."""
        notes = []
        if several := [source.pages - 1 for source in self.sources if source.pages > 1]:
            text = f"more than one page or frame in {quantity(len(several), 'file')}; the first is "
            notes.append(Message(f"{text}used, {sum(several):,} left out", warning=True))
        if deep := sum(1 for source in self.sources if source.dtype != "uint8"):
            notes.append(Message(f"not 8-bit: {quantity(deep, 'image')}"))
        if converted := sum(1 for source in self.sources if source.profile == "converted"):
            told = f"converted to sRGB from the colour profile: {quantity(converted, 'image')}"
            notes.append(Message(told))
        if broken := [source.name for source in self.sources if source.profile == "unusable"]:
            named = ", ".join(broken[:5]) + (" …" if len(broken) > 5 else "")
            text = f"colour profile cannot be used in {quantity(len(broken), 'image')}, taken as "
            notes.append(Message(f"{text}sRGB: {named}", warning=True))
        return notes

    def label_bytes(self, n_fits: int) -> int:
        """Of label maps of k ≤ 256 with their pyramids, one a fit, before compression."""
        return int(n_fits * (PYRAMID * self.pixels + METADATA_BYTES * self.n_images))

    def without(self, names: Container[str], block_mpx: float) -> "Photographs":
        """These in blocks as if images of some names had never been there."""
        sources = [source for source in self.sources if source.name not in names]
        blocks = work_of(plan_blocks(sources, block_mpx=block_mpx), sources)
        return Photographs(sources, blocks, self.rejected)


def open_photographs(
    inputs: Inputs,
    options: JobOptions,
    pool: Pool,
    watch: Watcher,
    probe: Callable[..., ImageSource] = probe,
    *,
    suffixes: frozenset[str] = frozenset(),
    gather: Callable[[list[Found]], list[Found]] = list,
) -> Photographs:
    """Find image files, read their headers on the workers, and plan blocks.

    Parameters
    ----------
    probe : reads a header; a recipe may bring its own, with sources of a class derived from
        `ImageSource`, and read their pixels by `read_piece` with a function of its own.
    suffixes : of files that it reads besides images.
    gather : makes of the files found what is probed.
    """
    listed = listed_inputs(inputs)
    found, lost = find_images(listed, replace(options.choice, suffixes=suffixes))
    sources, unusable = probe_all(pool, gather(found), options.max_pixels, watch, probe)
    blocks = work_of(plan_blocks(sources, block_mpx=options.block_mpx), sources)
    return Photographs(sources, blocks, [*lost, *unusable])


@dataclass(frozen=True)
class PhotographProcedure:
    """What the procedures of all recipes on image files have in common."""

    inputs: Inputs

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Photographs:
        """Find and probe the image files."""
        return open_photographs(self.inputs, options, pool, watch)
