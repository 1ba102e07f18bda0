"""One palette an image: decode, count, fit, label and write in one task a block."""

from collections.abc import Mapping
from typing import Any

from kmdist.errors import ImageError, quantity
from kmdist.job.each_image import EachImage, Fits, summary
from kmdist.job.job import Job
from kmdist.job.photographs import Photographs
from kmdist.job.pixels import decode_piece
from kmdist.job.progress import Message
from kmdist.job.work import Piece, Work
from kmdist.recipes.quantize.fidelity import Fidelity, fidelity_of, write_fidelity
from kmdist.recipes.quantize.kernels.histogram import ColorCounter, Colors
from kmdist.recipes.quantize.kernels.label_table import ColorLabels
from kmdist.recipes.quantize.shared import Group, attributes_of, write_arrays
from kmdist.recipes.quantize.wanted import Wanted
from kmdist.recipes.quantize.weights import WeighedPixels, weighed
from kmdist.store import RunWriter

NAMED = 10
"""Images of which warnings are said one by one."""


def quantize_each(job: Job, workload: Photographs, wanted: Wanted) -> dict[int, dict[str, Any]]:
    """Fit the wanted palettes to every image on its own and label it.

    Returns
    -------
    dict : attributes of the run, by the number of colours asked for.
    """
    prefixes = {k: wanted.prefix(k) for k in wanted.ks}

    def tiled(blocks: list[Work], name: str) -> Fits:
        return Group(job, blocks, name=name).quantize(wanted, prefixes, at_image=True)

    fits = EachImage("quantize", quantize_image, tiled, wanted).run(job, workload.blocks)
    attributes = {}
    for k in wanted.ks:
        of_k = [fit[k] for fit in fits.values()]
        fidelity = {name: Fidelity(*fit[k]["fidelity"]) for name, fit in fits.items()}
        figures = write_fidelity(job.writer, wanted.prefix(k), fidelity)
        _say_warnings(job, {name: fit[k]["warning"] for name, fit in fits.items()})
        markers = [fit["unclustered"] for fit in of_k if fit["unclustered"] is not None]
        marker, shown = max(markers, default=None), wanted.transparency.record()
        attributes[k] = {**summary(of_k), **shown, **figures, "unclustered": marker}
    return attributes


def _say_warnings(job: Job, warnings: Mapping[str, str | None]) -> None:
    """Say what is to be said of single images, of the first few by name."""
    said = [f"{name}: {warning}" for name, warning in warnings.items() if warning]
    for text in said[:NAMED]:
        job.watch(Message(text, warning=True))
    if len(said) > NAMED:
        job.watch(Message(f"… and {quantity(len(said) - NAMED, 'more image')}", warning=True))


def quantize_image(piece: Piece, wanted: Wanted, writer: RunWriter) -> Fits:
    """Fit the wanted palettes to one image, label and write it.

    Raises
    ------
    ImageError : it cannot be read, or has no pixel that can be clustered.
    """
    pixels = weighed(decode_piece(piece, wanted.transparency.convert))
    with ColorCounter() as counter:
        counter.add(pixels.rgb, pixels.unclustered)
        colors = counter.colors()
    if not len(colors):
        raise ImageError("transparent", "every pixel is transparent; none can be clustered")
    results = {}
    weighted = Colors.empty()
    if isinstance(pixels, WeighedPixels):
        weighted = Colors.weighted(pixels.rgb, pixels.weights)
    for k, fit in wanted.fit_all(colors, weighted).items():
        with ColorLabels.borrowed(colors, fit.labels) as label_of:
            labels = label_of(pixels.rgb)
        fidelity = fidelity_of(piece, pixels.rgb, labels, fit.palette, pixels.unclustered)
        attributes = {**attributes_of(fit), "fidelity": fidelity}
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
