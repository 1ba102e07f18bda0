"""What a segment job does: count pixels with data, fit centroids to all of them, label.

Passes over the files: one to count and measure, those that find a scale, one for rows that are kept
or, where they do not fit the workers, one that draws a weighted sample; one to label. See
`kmdist.recipes.segment.steps`.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.engine.fits import cluster_order
from kmdist.engine.passes import Pool, ThreadPool
from kmdist.engine.rows import Rows, rows_of_array
from kmdist.errors import ImageError, UsageError
from kmdist.filters.regions import join_small_regions
from kmdist.images import Found, Piece, Rejection
from kmdist.images.finding.find import listed_inputs
from kmdist.images.finding.formats import zarr_metadata
from kmdist.job.image_fits import (
    Arrays,
    FitResult,
    FittedImage,
    SharedFit,
    fit_each,
    record_of_images,
    write_predicted,
)
from kmdist.job.job import Job
from kmdist.job.label_maps import Layer, label_items, open_sink
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photographs import Photographs, model_record, open_photographs
from kmdist.job.progress import Message, Watcher
from kmdist.job.recipe import Inputs, Results
from kmdist.job.resumable_fit import fit_centroids
from kmdist.job.work import Work
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
from kmdist.recipes.segment.model import Scaling, SegmentModel, with_nan
from kmdist.recipes.segment.options import SegmentOptions
from kmdist.recipes.segment.rasters import NODATA_NAMES, Asked, ProbeRaster, Raster, require_numbers
from kmdist.recipes.segment.rows import (
    channels_of,
    count_pixels,
    keep_rows,
    read_valid,
    rows_under,
    with_data,
)
from kmdist.recipes.segment.steps import outline, predict_steps
from kmdist.recipes.segment.wanted import Fitted, Wanted, fit_here, fit_sampled
from kmdist.store import Run, RunWriter, unclustered_value

SPACE, CHANNELS = "channels", ("cluster", "channel")
"""Of centroids, as runs name it; and their dimensions."""
SUFFIXES = frozenset({".npy", ".npz"}) | geo.SUFFIXES
"""Of files that are read besides images."""


CHUNK = 1024
"""Side of the stored chunks."""


@contextmanager
def stored(inputs: Any) -> Iterator[Any]:
    """Inputs as paths; an array is written to a temporary Zarr array first.

    Raises
    ------
    UsageError : an array of no values or of other than numbers, or an xarray dataset.
    """
    if not hasattr(inputs, "dtype") or not hasattr(inputs, "shape"):
        if hasattr(inputs, "data_vars"):
            raise UsageError("a Dataset: give it as an array of named channels, data.to_array('c')")
        yield inputs
        return
    with tempfile.TemporaryDirectory(prefix="kmdist-") as folder:
        path = Path(folder) / "array.zarr"
        _store(inputs, path)
        yield str(path)


def _store(array: Any, path: Path) -> None:
    import zarr

    if not all(array.shape):
        raise UsageError(f"an array of shape {array.shape} holds nothing to cluster")
    dtype = np.dtype(array.dtype)
    try:
        require_numbers(dtype)
    except ImageError as error:
        raise UsageError(f"an array with {error.reason}") from error
    names = [str(name) for name in getattr(array, "dims", ())] or None
    attributes: dict[str, Any] = {
        name: np.asarray(array.attrs[name]).tolist()
        for name in NODATA_NAMES
        if name in getattr(array, "attrs", {})
    }
    coordinate = next((n for n in names or () if n in ("c", "channel", "band", "bands")), None)
    if coordinate is not None and coordinate in getattr(array, "coords", {}):
        attributes["filters"] = [str(one) for one in np.asarray(array.coords[coordinate])]
    data = getattr(array, "data", array) if names else array
    if isinstance(getattr(data, "_meta", data), np.ma.MaskedArray):
        dtype = np.result_type(dtype, np.float16)  # which holds its values, and NaN
    target = zarr.create_array(
        path,
        shape=data.shape,
        dtype=dtype,
        chunks=tuple(min(CHUNK, size) for size in data.shape),
        dimension_names=names,
        attributes=attributes,
    )
    if not hasattr(data, "dask"):
        target[...] = with_nan(data)
        return
    for place in np.ndindex(*data.numblocks):
        starts = [sum(data.chunks[axis][:i]) for axis, i in enumerate(place)]
        sizes = [data.chunks[axis][i] for axis, i in enumerate(place)]
        window = tuple(slice(a, a + n) for a, n in zip(starts, sizes, strict=True))
        target[window] = with_nan(data.blocks[place].compute(scheduler="threads"))


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
    left = opened.without({one.image for one in rejected}, options, pixel_bytes)
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
        """Find and probe the files; a UsageError for what their channels do not allow."""
        opened = open_rasters(self.inputs, self.asked, options, pool, watch)
        if opened.sources:
            first = opened.sources[0]
            assert isinstance(first, Raster)
            names = ", ".join(first.names[:12]) + (" …" if len(first.names) > 12 else "")
            watch(Message(f"{first.axes.how}; {len(first.names)} clustered: {names}"))
            self.wanted.check(first.names)
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
            **o.record("components", "coordinates", "min_region"),
            "init": init if isinstance(init, str) else np.asarray(init).tolist(),
            **o.fitting,
            **({} if o.shared else {"per_image": True}),
            **({"fit_only": True} if o.fit_only else {}),
        }

    def outline(self, workload: Photographs, options: JobOptions, *, keep: bool) -> Outline:
        """Passes, what is kept and results."""
        o = self.options
        return outline(workload, self.wanted, shared=o.shared, label=not o.fit_only, keep=keep)

    def run(self, job: Job, workload: Photographs) -> Results:
        """Count, scale, fit every k, label."""
        blocks, wanted = workload.blocks, self.wanted
        if self.options.shared:
            label = not self.options.fit_only
            return Results(SegmentGroup(job, wanted, blocks, label=label).run())
        fits = fit_each(job, "segment", segment_image, SegmentGroup, wanted, blocks)
        (first, *_) = fits[wanted.ks[0]].values()
        channels = first["channels"]
        return Results({k: record_of_images(of, channels=channels) for k, of in fits.items()})


class SegmentGroup(SharedFit):
    """Images whose pixels are clustered together."""

    wanted: Wanted

    def run(self) -> dict[int, dict[str, Any]]:
        """Count, scale, fit every k, label.

        Raises
        ------
        UsageError : more clusters than pixels with data are asked for.
        NoUsableImageError : no image can be used.
        """
        job, wanted = self.job, self.wanted
        sources = [piece.source for work in self.work for piece in work.pieces]
        channels = channels_of(sources)
        measured = None if job.keep and wanted.features.plain else channels.plain
        items, counted = count_pixels(job, self.work, self.name, dtype=measured)
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
        return self._labelled(items, fits, frozenset(counted.marked))

    def _labelled(
        self, items: Sequence[Work], fitted: Mapping[int, Fitted], marked: frozenset[str]
    ) -> dict[int, dict[str, Any]]:
        models = [fit.model for fit in fitted.values()]
        blocks = label_items(items, self.job.rejected)
        keep = self.kept_labels([model.k for model in models])
        found = label_all(self.job, blocks, models, keep, group=self.name)
        fits, orders = {}, []
        for (k, fit), totals in zip(fitted.items(), found.totals, strict=True):
            orders.append(cluster_order(totals.counts, fit.model.centroids))
            ordered = fit.reordered(orders[-1]), totals.reordered(orders[-1])
            fits[k] = fit_of(*ordered, found.sample)
        return self.write_kept(fits, orders, blocks, marked)


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
            **options.reading,
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
        record = write_predicted(
            job,
            {
                "centroids": (self.learnt.centroids, CHANNELS),
                **channel_statistics(totals, found.sample, self.learnt),
            },
            self.learnt.palette,
            (totals.counts, totals.total_inertia),
            space=SPACE,
            quantiles=list(QUANTILES),
            **self.learnt.record(),
            unclustered=unclustered_value(self.learnt.k, bool(marked)),
        )
        return Results({0: record})


def segment_image(piece: Piece, wanted: Wanted, _: RunWriter) -> FittedImage:
    """Fit the wanted clusters to one image and label it.

    Raises
    ------
    ImageError : it cannot be read, or has no pixel with data.
    """
    source = piece.source
    values, valid = read_valid(piece)
    there = with_data(values, valid)
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
    missing = None if valid.all() else ~valid
    for k, fit in fits.items():
        picture, totals = label_pixels(values, valid, fit.model)
        if wanted.min_region:
            join_small_regions(picture, valid, wanted.min_region, source.planes)
        yield k, fit_of(fit, totals, sample), picture, missing


def fit_of(fit: Fitted, totals: Totals, sample: np.ndarray | None) -> FitResult:
    """Clusters that were labelled, as a run holds them.

    Arrays beside those that every run has: `channel_statistics`.
    """
    model = fit.model
    return FitResult(
        {"centroids": (model.centroids, CHANNELS), **channel_statistics(totals, sample, model)},
        model.palette,
        totals.counts,
        fit.history,
        SPACE,
        totals.total_inertia,
        fit.n_iter,
        fit.stop_reason,
        fit.warning,
        fit.selection,
        {"quantiles": list(QUANTILES), **model.record()},
    )


def channel_statistics(totals: Totals, sample: np.ndarray | None, model: SegmentModel) -> Arrays:
    """Arrays ``channel_mean`` and ``channel_sd`` (cluster, channel) of the pixels of each cluster,
    before small regions were joined, and ``channel_quantiles`` (cluster, quantile, channel) of
    those on a grid of about a million values."""
    mean, sd = totals.mean_and_sd()
    return {
        "channel_mean": (mean, CHANNELS),
        "channel_sd": (sd, CHANNELS),
        "channel_quantiles": (quantiles(sample, model), ("cluster", "quantile", "channel")),
    }
