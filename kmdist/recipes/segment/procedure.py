"""What a segment job does: count pixels with data, fit centroids to all of them, label.

Passes over the files: one to count and measure, those that find a scale, one for rows that are kept
or, where they do not fit the workers, one that draws a weighted sample; one to label. See
`kmdist.recipes.segment.steps`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.engine.fits import cluster_order
from kmdist.engine.passes import Pool, ThreadPool
from kmdist.engine.rows import Rows, rows_of_array
from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.filters.regions import join_small_regions
from kmdist.images import Found, Rejection
from kmdist.images.finding.find import listed_inputs
from kmdist.images.finding.formats import zarr_metadata
from kmdist.job.each_image import EachImage, Fits, summary
from kmdist.job.fitting import fit_centroids
from kmdist.job.job import Job, NoUsableImageError
from kmdist.job.label_maps import KeptLabels, Layer, label_items, open_sink, write_kept
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photographs import Photographs, model_record, open_photographs
from kmdist.job.progress import Message, Watcher
from kmdist.job.recipe import Inputs, Results
from kmdist.job.work import Piece, Work
from kmdist.recipes.segment import geo
from kmdist.recipes.segment.bands import gather_by
from kmdist.recipes.segment.labels import (
    QUANTILES,
    Totals,
    grid_sample,
    grid_step,
    label_all,
    label_pixels,
    quantiles,
)
from kmdist.recipes.segment.model import Scaling, SegmentModel
from kmdist.recipes.segment.options import SegmentOptions
from kmdist.recipes.segment.rasters import Asked, ProbeRaster, Raster
from kmdist.recipes.segment.rows import (
    channels_of,
    count_pixels,
    keep_rows,
    read_valid,
    rows_under,
)
from kmdist.recipes.segment.steps import outline, predict_steps
from kmdist.recipes.segment.wanted import Fitted, Wanted, fit_here, fit_sampled
from kmdist.store import Run, RunWriter, unclustered_value

PICTURE_BYTES = 4
"""A pixel of a photograph, of which a block has as many as ``--block-mpx`` says: of larger pixels
it has as many fewer, so that the default fits workers of 1.5 GiB whatever the channels."""
SUFFIXES = frozenset({".npy", ".npz"}) | geo.SUFFIXES
"""Of files that are read besides images."""


def open_rasters(
    inputs: Inputs, asked: Asked, options: JobOptions, pool: Pool, watch: Watcher
) -> Photographs:
    """Find files of any channels, and leave out those whose channels are not those of the first.

    Raises
    ------
    UsageError : an input does not exist.
    """
    listed = listed_inputs(inputs)
    expanded = [one for given in listed for one in _responses_of(given)]
    opened = open_photographs(
        expanded,
        options,
        pool,
        watch,
        ProbeRaster(asked),
        suffixes=SUFFIXES,
        gather=gather_by(asked.bands),
    )
    rasters = [source for source in opened.sources if isinstance(source, Raster)]
    if not rasters:
        return opened
    names = rasters[0].names
    rejected = [
        Rejection(
            one.name,
            "channels",
            f"channels {', '.join(one.names[:20])}; those of {rasters[0].name} are "
            f"{', '.join(names[:20])}",
        )
        for one in rasters
        if one.names != names
    ]
    pixel_bytes = max(one.channels * np.dtype(one.dtype).itemsize for one in rasters)
    block_mpx = options.block_mpx * PICTURE_BYTES / max(PICTURE_BYTES, pixel_bytes)
    left = opened.without({one.image for one in rejected}, block_mpx)
    return replace(left, rejected=[*left.rejected, *rejected])


def _responses_of(given: str | Path | Found) -> list[str | Path | Found]:
    """The kept responses of a run of kmdist; anything else as it is."""
    if isinstance(given, Found) or not Path(given).is_dir():
        return [given]
    if "kmdist" not in zarr_metadata(Path(given)).get("attributes", {}):
        return [given]
    found = sorted(Path(given).glob("images/*/responses"))
    if not found:
        raise UsageError(
            f"{given} is a run of kmdist without filter responses: make it with kmdist texture "
            "--keep-responses"
        )
    return [Found(_image_name(one.parent), str(one)) for one in found]


def _image_name(group: Path) -> str:
    record = zarr_metadata(group).get("attributes", {}).get("kmdist", {})
    return str(record.get("name", group.name)) if isinstance(record, Mapping) else group.name


@dataclass(frozen=True)
class SegmentFit:
    """Cluster the pixels of images, all together or each on its own: a `Procedure`."""

    inputs: Inputs
    options: SegmentOptions
    wanted: Wanted
    recipe: str = "segment"

    @property
    def asked(self) -> Asked:
        """How files are read."""
        o = self.options
        return Asked(
            o.channels,
            o.nodata_values,
            o.channel_axis,
            o.z,
            o.t,
            o.bands,
            o.coordinates > 0,
            o.strict,
            o.volume,
        )

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Photographs:
        """Find and probe the files."""
        opened = open_rasters(self.inputs, self.asked, options, pool, watch)
        if opened.sources:
            first = opened.sources[0]
            assert isinstance(first, Raster)
            names = ", ".join(first.names[:12]) + (" …" if len(first.names) > 12 else "")
            watch(Message(f"{first.axes.how}; {len(first.names)} clustered: {names}"))
        return opened

    def parameters(self, workload: Photographs, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        o, init = self.options, self.wanted.fit.init
        return {
            **self.asked.record(),
            "k": list(o.ks),
            **({"choices": list(o.choices)} if o.choices else {}),
            "scale": o.scale,
            "weight": dict(o.weights),
            "components": o.components,
            "coordinates": o.coordinates,
            "min_region": o.min_region,
            "init": init if isinstance(init, str) else np.asarray(init).tolist(),
            "n_init": o.n_init,
            "max_iter": o.max_iter,
            "tol": o.tol,
            "seed": o.seed,
            "block_mpx": o.block_mpx,
            "max_pixels": o.max_pixels,
            **({} if o.shared else {"per_image": True}),
            **({"fit_only": True} if o.fit_only else {}),
        }

    def outline(self, workload: Photographs, options: JobOptions, *, keep: bool) -> Outline:
        """Passes, what is kept and results."""
        o = self.options
        return outline(workload, self.wanted, shared=o.shared, label=not o.fit_only, keep=keep)

    def run(self, job: Job, workload: Photographs) -> Results:
        """Count, scale, fit every k, label."""
        if self.options.shared:
            group = Group(job, workload.blocks, self.wanted)
            return Results(group.run(label=not self.options.fit_only))

        def tiled(blocks: list[Work], name: str) -> Fits:
            return Group(job, blocks, self.wanted, name).run(at_image=True)

        each = EachImage("segment", segment_image, tiled, self.wanted)
        fits = each.run(job, workload.blocks).values()
        by_k = {}
        for k in self.wanted.ks:
            of_k = [fit[k] for fit in fits]
            markers = [fit["unclustered"] for fit in of_k if fit["unclustered"] is not None]
            names = of_k[0]["channels"]
            marker = max(markers, default=None)
            by_k[k] = {**summary(of_k), "channels": names, "unclustered": marker}
        return Results(by_k)


@dataclass(frozen=True)
class Group:
    """Images that are clustered together.

    Parameters
    ----------
    name : tells the passes of one group from those of another.
    """

    job: Job
    blocks: Sequence[Work]
    wanted: Wanted
    name: str = ""

    def run(self, *, label: bool = True, at_image: bool = False) -> dict[int, dict[str, Any]]:
        """Count, scale, fit every k, label; what the run's record says, by k.

        Parameters
        ----------
        at_image : the arrays lie in the image's group.

        Raises
        ------
        UsageError : more clusters than pixels with data are asked for.
        NoUsableImageError : no image can be used.
        """
        job, wanted = self.job, self.wanted
        sources = [piece.source for work in self.blocks for piece in work.pieces]
        channels = channels_of(sources)
        measured = None if job.keep and wanted.features.plain else channels.plain
        items, counted = count_pixels(job, self.blocks, self.name, dtype=measured)
        n_rows = sum(n for name, n in counted.valid.items() if name not in job.rejected)
        if max(wanted.ks) > n_rows:
            raise UsageError(
                f"k is {max(wanted.ks)}; {n_rows:,} pixels with data make at most as many"
            )
        scaling = wanted.scaling(rows_under(job, items, counted), channels)
        if job.keep:
            items, rows = keep_rows(job, items, counted, scaling, self.name)
        else:
            with job.timed("rows"):
                rows = rows_under(job, items, counted)(scaling)
        fit = partial(_fit_kept, job, self.name) if job.keep else partial(_fit_timed, job)
        fits = wanted.fit_all(rows, scaling, channels.names, fit)
        del rows
        return self._labelled(items, fits, frozenset(counted.marked), label, at_image)

    def _labelled(
        self,
        items: Sequence[Work],
        fits: Mapping[int, Fitted],
        marked: frozenset[str],
        label: bool,
        at_image: bool,
    ) -> dict[int, dict[str, Any]]:
        job, marked = self.job, marked - set(self.job.rejected)
        models = [fit.model for fit in fits.values()]
        blocks = label_items(items, job.rejected)
        keep = KeptLabels(tuple(model.k for model in models), job.writer) if label else None
        found = label_all(job, blocks, models, keep, group=self.name)
        first = self.blocks[0].pieces[0].source.name
        if at_image and first in job.rejected:
            raise KmdistError(f"{first}: {job.rejected[first].reason}")
        results, layers, orders = {}, [], []
        for (k, fit), totals in zip(fits.items(), found.totals, strict=True):
            for said in (fit.warning, (fit.selection or {}).get("reason")):
                if said:
                    job.watch(Message(str(said), warning=said == fit.warning))
            orders.append(cluster_order(totals.counts, fit.model.centroids))
            sorted_fit, total = fit.reordered(orders[-1]), totals.reordered(orders[-1])
            prefix, model = self.wanted.prefix(k), sorted_fit.model
            key = job.writer.image_group(first, prefix) if at_image else prefix
            attributes = write_fit(job.writer, key, sorted_fit, total, found.sample)
            layers.append(Layer(prefix, model.k, model.palette, attributes if at_image else {}))
            marker = unclustered_value(model.k, bool(marked))
            results[k] = {**attributes, "unclustered": marker}
        if label:
            write_kept(job, blocks, layers, marked, orders, self.name, self.wanted.min_region)
        return results


def _fit_kept(job: Job, group: str, rows: Any, k: int, options: Any) -> Any:
    return fit_centroids(job, rows, k, options, f"fit-{k}{group}")


def _fit_timed(job: Job, rows: Any, k: int, options: Any) -> Any:
    with job.timed("fit"):
        return fit_sampled(rows, k, options)


@dataclass(frozen=True)
class SegmentLabel:
    """Label files with the clusters of a run: a `kmdist.job.recipe.Procedure`."""

    inputs: Inputs
    model: Run
    learnt: SegmentModel
    recipe: str = "segment"

    @property
    def asked(self) -> Asked:
        """How files are read: as the model's were."""
        return Asked.of_record(self.model.parameters)

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Photographs:
        """Find and probe the files.

        Raises
        ------
        UsageError : another number of channels than the model has.
        """
        opened = open_rasters(self.inputs, self.asked, options, pool, watch)
        n_channels = self.learnt.centroids.shape[1]
        for source in opened.sources[:1]:
            if source.channels != n_channels:
                raise UsageError(
                    f"{source.name} has {source.channels} channels; the run has {n_channels}"
                )
        return opened

    def parameters(self, workload: Photographs, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result, and how files are read for the next prediction."""
        return {
            **self.asked.record(),
            "k": [self.learnt.k],
            "model": model_record(self.model),
            "block_mpx": options.block_mpx,
            "max_pixels": options.max_pixels,
        }

    def outline(self, workload: Photographs, options: JobOptions, *, keep: bool) -> Outline:
        """Two passes: count, label."""
        steps = predict_steps(workload.blocks, self.learnt)
        return Outline(steps, result_bytes=workload.label_bytes(1))

    def run(self, job: Job, workload: Photographs) -> Results:
        """Label all images."""
        items, counted = count_pixels(job, workload.blocks)
        marked = frozenset(counted.marked) - set(job.rejected)
        blocks, layer = (
            label_items(items, job.rejected),
            Layer("", self.learnt.k, self.learnt.palette),
        )
        sink = open_sink(job, blocks, [layer], marked)
        found = label_all(job, blocks, [self.learnt], sink, counted="it was counted")
        (totals,) = found.totals
        if not totals.counts.any():
            raise NoUsableImageError("no pixel can be labelled", job.rejected.values())
        history = np.array([[totals.total_inertia, 0.0, 0.0]])
        fit = Fitted(self.learnt.k, self.learnt, history, 0, "predicted")
        attributes = write_fit(job.writer, "", fit, totals, found.sample)
        marker = unclustered_value(self.learnt.k, bool(marked))
        return Results({0: {**attributes, "unclustered": marker}})


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


def write_fit(
    writer: RunWriter, key: str, fit: Fitted, totals: Totals, sample: np.ndarray | None
) -> dict[str, Any]:
    """Write the arrays of one k below a group of the run; what the record says of it.

    Arrays beside those that every run has: ``channel_mean`` and ``channel_sd`` (cluster, channel)
    of the pixels of each cluster, before small regions were joined, and ``channel_quantiles``
    (cluster, quantile, channel) of those on a grid of about a million values.
    """
    base, model = f"{key}/" if key else "", fit.model
    channels = ("cluster", "channel")
    mean, sd = totals.mean_and_sd()
    writer.write_array(f"{base}centroids", model.centroids, channels)
    writer.write_array(f"{base}palette", model.palette, channels)
    writer.write_array(f"{base}counts", totals.counts, ("cluster",))
    writer.write_array(f"{base}history", fit.history, ("iteration", "quantity"))
    writer.write_array(f"{base}channel_mean", mean, channels)
    writer.write_array(f"{base}channel_sd", sd, channels)
    writer.write_array(
        f"{base}channel_quantiles", quantiles(sample, model), ("cluster", "quantile", "channel")
    )
    return {
        "k": model.k,
        "space": "channels",
        "inertia": totals.total_inertia,
        "n_iter": fit.n_iter,
        "stop_reason": fit.stop_reason,
        "warning": fit.warning,
        "selection": fit.selection,
        "quantiles": list(QUANTILES),
        **model.record(),
    }
