"""One set of clusters an image: read, fit, label and write in one task a block."""

from kmdist.engine.passes import ThreadPool
from kmdist.engine.rows import Rows, rows_of_array
from kmdist.errors import ImageError
from kmdist.filters.regions import join_small_regions
from kmdist.job.each_image import Fits
from kmdist.job.work import Piece
from kmdist.recipes.segment.labels import grid_sample, grid_step, label_pixels
from kmdist.recipes.segment.model import Scaling
from kmdist.recipes.segment.results import write_fit
from kmdist.recipes.segment.rows import channels_of, read_valid
from kmdist.recipes.segment.wanted import Wanted, fit_here
from kmdist.store import RunWriter


def segment_image(piece: Piece, wanted: Wanted, writer: RunWriter) -> Fits:
    """Fit the wanted clusters to one image, label and write it.

    Raises
    ------
    ImageError : it cannot be read, or has no pixel with data.
    """
    source = piece.source
    values, valid = read_valid(piece)
    there = values[valid]
    if not len(there):
        raise ImageError("no_data", "none of its pixels has data")
    channels, pool = channels_of([source]), ThreadPool(1)

    def rows_of(scaling: Scaling) -> Rows:
        return rows_of_array(scaling.rows(there), None, pool)[0]

    try:
        scaling = wanted.scaling(rows_of, channels)
        fits = wanted.fit_all(rows_of(scaling), scaling, channels.names, fit_here)
    finally:
        pool.close()
    sample = grid_sample(piece, values, valid, grid_step(valid.size, values.shape[2]))
    results = {}
    for k, fit in fits.items():
        picture, totals = label_pixels(values, valid, fit.model)
        if wanted.min_region:
            join_small_regions(picture, valid, wanted.min_region, source.planes)
        prefix = wanted.prefix(k)
        group = writer.image_group(source.name, prefix)
        attributes = write_fit(writer, group, fit, totals, sample)
        marker = writer.write_labels(
            source.name,
            picture,
            k=fit.model.k,
            unclustered=None if valid.all() else ~valid,
            palette=fit.model.palette,
            source=source.path,
            prefix=prefix,
            attributes=attributes,
            grid=source.grid,
        )
        results[k] = {**attributes, "unclustered": marker}
    return results
