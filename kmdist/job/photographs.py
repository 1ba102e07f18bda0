"""Image files as a workload: found, probed on the workers, cut into blocks; labelled by a model."""

import hashlib
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.engine.passes import Pool, run_pass
from kmdist.errors import ImageError, quantity
from kmdist.images import Found, ImageSource, Rejection, find_images, plan_blocks, probe
from kmdist.images.finding.find import listed_inputs
from kmdist.job.job import Job
from kmdist.job.memory import Outline, Step
from kmdist.job.options import JobOptions
from kmdist.job.progress import Event, Message, Watcher
from kmdist.job.recipe import Inputs, Results
from kmdist.job.work import Work
from kmdist.store import Run

PICTURE_BYTES = 4
"""A pixel of a picture, in memory."""
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

    def without(
        self, names: Container[str], options: JobOptions, pixel_bytes: int = PICTURE_BYTES
    ) -> "Photographs":
        """These in blocks as if images of some names had never been there; see `blocks_of`."""
        sources = [source for source in self.sources if source.name not in names]
        return Photographs(sources, blocks_of(sources, options, pixel_bytes), self.rejected)


def blocks_of(
    sources: Sequence[ImageSource], options: JobOptions, pixel_bytes: int = PICTURE_BYTES
) -> list[Work]:
    """Images in blocks, of as many pixels as the options say where these are those of pictures.

    Of larger pixels a block has as many fewer, so that the default fits workers of 1.5 GiB whatever
    the channels.
    """
    block_mpx = options.block_mpx * PICTURE_BYTES / max(PICTURE_BYTES, pixel_bytes)
    planned = plan_blocks(sources, block_mpx=block_mpx)
    return [Work(index, pieces) for index, pieces in enumerate(planned)]


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
    return Photographs(sources, blocks_of(sources, options), [*lost, *unusable])


@dataclass(frozen=True)
class PhotographProcedure:
    """What the procedures of all recipes on image files have in common."""

    inputs: Inputs

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Photographs:
        """Find and probe the image files."""
        return open_photographs(self.inputs, options, pool, watch)


PROBE_BATCH = 256


def probe_batch(
    found: Sequence[Found], max_pixels: int, probe: Callable[..., ImageSource]
) -> list[ImageSource | Rejection]:
    """Probe some files; a task of the probing pass."""
    results: list[ImageSource | Rejection] = []
    for one in found:
        try:
            results.append(probe(one, max_pixels=max_pixels))
        except ImageError as error:
            results.append(Rejection(one.name, error.code, error.reason))
    return results


def probe_all(
    pool: Pool,
    found: Sequence[Found],
    max_pixels: int,
    watch: Watcher,
    probe: Callable[..., ImageSource] = probe,
) -> tuple[list[ImageSource], list[Rejection]]:
    """Probe every file, on the workers, in batches.

    Parameters
    ----------
    probe : reads a header; an importable function.
    """
    batches = [found[i : i + PROBE_BATCH] for i in range(0, len(found), PROBE_BATCH)]
    results: list[list[ImageSource | Rejection]] = [[] for _ in batches]
    n_probed = 0

    def collect(index: int, batch: list[ImageSource | Rejection]) -> None:
        nonlocal n_probed
        results[index] = batch
        n_probed += len(batch)
        watch(Event("probe", n_probed, len(found)))

    run_pass(pool, probe_batch, batches, max_pixels, probe, on_done=collect)
    flat = [result for batch in results for result in batch]
    sources = [result for result in flat if isinstance(result, ImageSource)]
    return sources, [result for result in flat if isinstance(result, Rejection)]


def fingerprint(sources: Sequence[ImageSource]) -> str:
    """SHA-256 of the names, sizes and modification times of the usable images."""
    digest = hashlib.sha256()
    for source in sources:
        line = json.dumps([source.name, source.size_bytes, source.mtime_ns], ensure_ascii=True)
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True)
class LabelPhotographs(PhotographProcedure):
    """Label photographs with a model: a `kmdist.job.recipe.Procedure`.

    Parameters
    ----------
    model : the run that holds it.
    label : labels and writes all images of a job; returns what the run's record says.
    steps : what that does, pass by pass.
    """

    model: Run
    label: Callable[[Job, Photographs], Mapping[str, Any]]
    steps: Callable[[Photographs], Sequence[Step]]

    @property
    def recipe(self) -> str:
        """That of the model."""
        return self.model.recipe

    def parameters(self, workload: Photographs, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        return {
            "k": [self.model.k],
            "space": self.model.attributes.get("space"),
            "model": model_record(self.model),
            **options.reading,
        }

    def outline(self, workload: Photographs, options: JobOptions, *, keep: bool) -> Outline:
        """Pass by pass; nothing is kept between them."""
        return Outline(self.steps(workload), result_bytes=workload.label_bytes(1))

    def run(self, job: Job, workload: Photographs) -> Results:
        """Label all images."""
        return Results({0: self.label(job, workload)})


def model_record(run: Run) -> dict[str, Any]:
    """What the record of a run says of the run whose clusters it has."""
    return {
        "path": str(run.path),
        "fingerprint": run.attributes.get("fingerprint"),
        "centroids_sha256": hashlib.sha256(np.asarray(run.centroids).tobytes()).hexdigest(),
    }
