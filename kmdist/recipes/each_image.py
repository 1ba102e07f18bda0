"""One palette an image: decode, count, fit, label and write in one task a block."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kmdist.errors import ImageError, KmdistError
from kmdist.images import Rejection
from kmdist.kernels.histogram import ColorCounter
from kmdist.kernels.label_table import apply_table, borrowed_table
from kmdist.palette import ColorCloud
from kmdist.passes import LostBlockError
from kmdist.recipes.job import Job, NoUsableImageError, Piece, Work
from kmdist.recipes.memory import projection
from kmdist.recipes.pixels import decode_piece
from kmdist.recipes.progress import Message
from kmdist.recipes.shared_palette import Group, attributes_of, write_arrays
from kmdist.recipes.wanted import Wanted
from kmdist.store import RunWriter


@dataclass(frozen=True)
class Finished:
    """What a task says of its images.

    Parameters
    ----------
    fits : by image name, attributes by the number of colours asked for.
    """

    fits: Mapping[str, Mapping[int, Mapping[str, Any]]]
    rejected: tuple[Rejection, ...]


def quantize_each(job: Job, wanted: Wanted) -> dict[int, dict[str, Any]]:
    """Fit the wanted palettes to every image on its own and label it.

    Returns
    -------
    dict : attributes of the run, by the number of colours asked for.
    """
    plan = projection(job, len(wanted.ks), passes=1)
    job.watch(Message(str(plan)))
    plan.require()
    whole = [work for work in job.work if work.pieces[0].whole]
    fits = _whole_images(job, wanted, whole)
    tiled: dict[str, list[Work]] = {}
    for work in job.work:
        if not work.pieces[0].whole:
            tiled.setdefault(work.pieces[0].source.name, []).append(work)
    for name, blocks in tiled.items():
        group = Group(job, blocks, name=f"-{blocks[0].index}")
        prefixes = {k: wanted.prefix(k) for k in wanted.ks}
        try:
            fits[name] = group.quantize(wanted, prefixes, at_image=True)
        except KmdistError:
            if name not in job.rejected:
                raise
    if not fits:
        raise NoUsableImageError(
            "no pixel can be clustered: every image is transparent or unreadable",
            job.rejected.values(),
        )
    return {k: _summary([fit[k] for fit in fits.values()]) for k in wanted.ks}


def _whole_images(job: Job, wanted: Wanted, todo: list[Work]) -> dict[str, Any]:
    fits: dict[str, Any] = {}
    done = job.writer.done("each")
    for _, saved in sorted(done.items()):
        fits.update({n: {int(k): v for k, v in by_k.items()} for n, by_k in saved["fits"]})
        job.reject([Rejection(*row) for row in saved["rejected"]])
    left = [work for work in todo if work.index not in done]

    def finished(position: int, result: Finished) -> None:
        fits.update(result.fits)
        job.reject(result.rejected)
        job.writer.mark_done(
            "each",
            left[position].index,
            {
                "fits": list(result.fits.items()),
                "rejected": [[r.image, r.code, r.reason] for r in result.rejected],
            },
        )

    def lost(position: int, error: BaseException) -> Finished:
        if not isinstance(error, LostBlockError):
            raise error
        pieces = left[position].pieces
        return Finished({}, tuple(Rejection(p.source.name, "lost", str(error)) for p in pieces))

    job.over_blocks(
        "quantize",
        quantize_block,
        left,
        wanted,
        job.writer,
        pixels=[work.pixels for work in left],
        done_before=len(todo) - len(left),
        on_done=finished,
        on_failure=lost,
    )
    return {name: fits[name] for name in sorted(fits)}


def quantize_block(work: Work, wanted: Wanted, writer: RunWriter) -> Finished:
    """Quantize each image of a block on its own; a task."""
    fits, rejected = {}, []
    for piece in work.pieces:
        try:
            fits[piece.source.name] = _quantize_image(piece, wanted, writer)
        except ImageError as error:
            rejected.append(Rejection(piece.source.name, error.code, error.reason))
    return Finished(fits, tuple(rejected))


def _quantize_image(piece: Piece, wanted: Wanted, writer: RunWriter) -> dict[int, Any]:
    pixels = decode_piece(piece)
    with ColorCounter() as counter:
        counter.add(pixels.rgb, pixels.unclustered)
        colors = counter.colors()
    if not len(colors):
        raise ImageError("transparent", "every pixel is transparent; none can be clustered")
    results = {}
    for k, fit in wanted.fit_all(ColorCloud(colors, wanted.space)).items():
        with borrowed_table(colors.codes, fit.labels) as table:
            labels = apply_table(pixels.rgb, table)
        attributes = attributes_of(fit)
        prefix = wanted.prefix(k)
        marker = writer.write_labels(
            piece.source.name,
            labels,
            k=fit.k,
            unclustered=pixels.unclustered,
            palette=fit.palette,
            source=piece.source.path,
            prefix=prefix,
            attributes=attributes,
        )
        write_arrays(writer, writer.image_group(piece.source.name, prefix), fit)
        results[k] = {**attributes, "unclustered": marker}
    return results


def _summary(fits: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Attributes of the run from those of its images, in the order of their names."""
    reasons = {fit["stop_reason"] for fit in fits}
    markers = [fit["unclustered"] for fit in fits if fit["unclustered"] is not None]
    return {
        "k": max(fit["k"] for fit in fits),
        "space": fits[0]["space"],
        "inertia": float(sum(fit["inertia"] for fit in fits)),
        "n_iter": max(fit["n_iter"] for fit in fits),
        "stop_reason": "max_iter" if "max_iter" in reasons else sorted(reasons)[0],
        "per_image": True,
        "unclustered": max(markers, default=None),
    }
