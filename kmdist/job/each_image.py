"""Each image on its own: the pass, its manifest and its ending, whatever is done to an image.

Tasks: one a block of whole images. An image larger than a block has passes of its own.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.errors import KmdistError, quantity, shown
from kmdist.images import Piece, Rejection
from kmdist.job.block_pass import BlockPass, Stage
from kmdist.job.job import Job
from kmdist.job.label_maps import Layer, tiles_of
from kmdist.job.memory import NOTHING, Held
from kmdist.job.progress import Message
from kmdist.job.shared_fit import FitResult, SharedFit, WantedClusters
from kmdist.job.work import Work, each_piece
from kmdist.store import RunWriter

NAMED = 10
"""Images of which warnings are said one by one."""
Fits = Mapping[int, Mapping[str, Any]]
"""Attributes of one image's fits, by the number of clusters asked for."""


@dataclass(frozen=True)
class EachImage:
    """What a recipe does to images one by one.

    Parameters
    ----------
    stage : name of the pass, for progress.
    one : fits, labels and writes one whole image; called in tasks, with `wanted` and the run's
        writer, so that it must be a function of a module. It raises `ImageError` for an image
        that cannot be used.
    tiled : does the same on the driver for an image larger than a block. It raises `KmdistError`
        after rejecting the image where that cannot be used.
    wanted : what clusters are asked for.
    """

    stage: str
    one: Callable[[Piece, Any, RunWriter], Fits]
    tiled: type[SharedFit]
    wanted: WantedClusters

    def run(self, job: Job, blocks: Sequence[Work]) -> dict[str, Fits]:
        """Work on all images; attributes of their fits, by name, in the order of names.

        Raises
        ------
        NoUsableImageError : no image has a pixel that can be clustered.
        """
        whole = [work for work in blocks if work.tile_of is None]
        stage = each_stage(self.stage)
        prefixes = [self.wanted.prefix(k) for k in self.wanted.ks]
        each = BlockPass(job, stage, prefixes=prefixes)
        fits = dict(each.run(whole, self.one, self.wanted, job.writer).fits)
        for name, tiles in tiles_of(blocks).items():
            try:
                group = f"-{tiles[0].index}"
                fits[name] = self.tiled(job, self.wanted, tiles, name=group, at_image=True).run()
            except KmdistError:
                if name not in job.rejected:
                    raise
        if not fits:
            raise job.no_pixel("clustered")
        found = {name: fits[name] for name in sorted(fits)}
        for k in self.wanted.ks:
            say_choices(job, {name: fit[k] for name, fit in found.items()})
        return found


def say_choices(job: Job, fits: Mapping[str, Mapping[str, Any]]) -> None:
    """Say once how k was chosen, and what fits warn of, those of the first images by name."""
    by_name = {name: fit["selection"] for name, fit in fits.items() if fit.get("selection")}
    chosen = list(by_name.values())
    if len(chosen) == 1:
        of_one = "".join(f"{shown(name)}: " for name in by_name) if len(fits) > 1 else ""
        job.watch(Message(f"{of_one}{chosen[0]['reason']}"))
    elif chosen:
        ks = Counter(one["k"] for one in chosen)
        (most, n), *others = ks.most_common(2)
        span = f"{min(ks)} to {max(ks)}" if others else f"{most}"
        if others and n > others[0][1]:
            span += f", most often {most} ({n:,} of {quantity(len(chosen), 'image')})"
        job.watch(Message(f"k by image: {span}"))
    warned = [f"{shown(name)}: {fit['warning']}" for name, fit in fits.items() if fit["warning"]]
    if len(warned) > NAMED:
        warned[NAMED:] = [f"… and {quantity(len(warned) - NAMED, 'more image')}"]
    for text in warned:
        job.watch(Message(text, warning=True))


@dataclass(frozen=True)
class Finished:
    """What a task says of its images.

    Parameters
    ----------
    fits : by image name.
    """

    fits: Mapping[str, Fits]
    rejected: tuple[Rejection, ...]

    @staticmethod
    def merge(parts: Sequence["Finished"]) -> "Finished":
        """What several tasks say."""
        fits = {name: fit for part in parts for name, fit in part.fits.items()}
        return Finished(fits, tuple(one for part in parts for one in part.rejected))


def each_stage(name: str, held: Held = NOTHING) -> Stage:
    """The stage that works on each whole image of a block."""
    return Stage(name, each_of_block, Finished.merge, _no_fits, noted=Finished, held=held)


def _no_fits(rejected: tuple[Rejection, ...]) -> Finished:
    return Finished({}, rejected)


def each_of_block(
    work: Work, one: Callable[[Piece, Any, RunWriter], Fits], wanted: Any, writer: RunWriter
) -> Finished:
    """Work on each image of a block; a task."""
    found, rejected = each_piece(
        work.pieces, lambda piece: (piece.source.name, one(piece, wanted, writer))
    )
    return Finished(dict(found), rejected)


def write_image(
    writer: RunWriter,
    piece: Piece,
    prefix: str,
    fit: FitResult,
    labels: np.ndarray,
    unclustered: np.ndarray | None,
) -> int | None:
    """Write the label map of a whole image and the fit that is its own.

    Parameters
    ----------
    labels : (y, x). unclustered : (y, x) True where a pixel has none, or None.

    Returns
    -------
    The label of pixels that are not clustered; None: all are.
    """
    source = piece.source
    described = Layer(prefix, fit.k, fit.palette, fit.record()).described(source)
    marker = writer.write_labels(source.name, labels, unclustered=unclustered, **described)
    fit.write(writer, writer.image_group(source.name, prefix))
    return marker


def record_of_images(fits: Sequence[Mapping[str, Any]], **further: Any) -> dict[str, Any]:
    """Attributes of a run of one k from those of its images, in the order of their names.

    Parameters
    ----------
    further : attributes that are those of the run alone, or of all its images.
    """
    reasons = {fit["stop_reason"] for fit in fits}
    markers = [fit["unclustered"] for fit in fits if fit.get("unclustered") is not None]
    marked = {"unclustered": max(markers, default=None)} if "unclustered" in fits[0] else {}
    return {
        "k": max(fit["k"] for fit in fits),
        "space": fits[0]["space"],
        "inertia": float(sum(fit["inertia"] for fit in fits)),
        "n_iter": max(fit["n_iter"] for fit in fits),
        "stop_reason": "max_iter" if "max_iter" in reasons else min(reasons),
        "per_image": True,
        **further,
        **marked,
    }
