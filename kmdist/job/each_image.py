"""Each image on its own: the pass, its manifest and its ending, whatever is done to an image.

Tasks: one a block of whole images. An image larger than a block has passes of its own.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
FittedImage = Iterator[tuple[int, FitResult, np.ndarray, np.ndarray | None]]
"""Of one image, for each number of clusters asked for: the fit, the label of each pixel (y, x), and
where (y, x) they have none, or None: nowhere."""


def fit_each(
    job: Job,
    stage: str,
    one: Callable[[Piece, Any, RunWriter], FittedImage],
    tiled: type[SharedFit],
    wanted: WantedClusters,
    blocks: Sequence[Work],
) -> dict[int, dict[str, Mapping[str, Any]]]:
    """Fit, label and write images one by one.

    Parameters
    ----------
    stage : name of the pass, for progress.
    one : fits and labels one whole image; called in tasks, with `wanted` and the run's writer, so
        that it must be a function of a module. It raises `ImageError` for an image that cannot be
        used.
    tiled : does the same on the driver for an image larger than a block. It raises `KmdistError`
        after rejecting the image where that cannot be used.
    wanted : what clusters are asked for.

    Returns
    -------
    dict : for each k that was asked for, attributes of the fits by image, in the order of names.

    Raises
    ------
    NoUsableImageError : no image has a pixel that can be clustered.
    """
    whole = [work for work in blocks if work.tile_of is None]
    prefixes = [wanted.prefix(k) for k in wanted.ks]
    each = BlockPass(job, each_stage(stage), prefixes=prefixes)
    fits = dict(each.run(whole, one, wanted, job.writer).fits)
    for name, tiles in tiles_of(blocks).items():
        try:
            fits[name] = tiled(job, wanted, tiles, name=f"-{tiles[0].index}", at_image=True).run()
        except KmdistError:
            if name not in job.rejected:
                raise
    if not fits:
        raise job.no_pixel("clustered")
    by_k = {k: {name: fits[name][k] for name in sorted(fits)} for k in wanted.ks}
    for of_k in by_k.values():
        say_choices(job, of_k)
    return by_k


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
    work: Work, one: Callable[[Piece, Any, RunWriter], FittedImage], wanted: Any, writer: RunWriter
) -> Finished:
    """Work on each image of a block, and write what its own fits are; a task."""

    def written(piece: Piece) -> tuple[str, Fits]:
        source, fits = piece.source, {}
        for k, fit, labels, unclustered in one(piece, wanted, writer):
            prefix = wanted.prefix(k)
            described = Layer(prefix, fit.k, fit.palette, fit.record()).described(source)
            marker = writer.write_labels(source.name, labels, unclustered=unclustered, **described)
            fit.write(writer, writer.image_group(source.name, prefix))
            fits[k] = {**fit.record(), "unclustered": marker}
        return source.name, fits

    found, rejected = each_piece(work.pieces, written)
    return Finished(dict(found), rejected)


def record_of_images(by_name: Mapping[str, Mapping[str, Any]], **further: Any) -> dict[str, Any]:
    """Attributes of a run of one k from those of its images.

    Parameters
    ----------
    further : attributes that are those of the run alone, or of all its images.
    """
    fits = list(by_name.values())
    reasons = {fit["stop_reason"] for fit in fits}
    markers = [fit["unclustered"] for fit in fits if fit["unclustered"] is not None]
    return {
        "k": max(fit["k"] for fit in fits),
        "space": fits[0]["space"],
        "inertia": float(sum(fit["inertia"] for fit in fits)),
        "n_iter": max(fit["n_iter"] for fit in fits),
        "stop_reason": "max_iter" if "max_iter" in reasons else min(reasons),
        "per_image": True,
        **further,
        "unclustered": max(markers, default=None),
    }
