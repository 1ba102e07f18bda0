"""What a segment job does: count pixels with data, fit centroids to all of them, label.

Passes over the files: one to count, one (robust: two) for the statistics of a scale, one for rows
that are kept or, where they do not fit the workers, two that draw a weighted sample; one to label.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kmdist.engine.coreset import fit_coreset
from kmdist.engine.fits import FitOptions, cluster_order
from kmdist.engine.lloyd import Options
from kmdist.engine.passes import Pool
from kmdist.engine.rows import Rows
from kmdist.engine.state import State
from kmdist.errors import UsageError, quantity
from kmdist.images import Found, Rejection
from kmdist.images.finding.formats import zarr_metadata
from kmdist.job.endings import NoUsableImageError
from kmdist.job.fitting import fit_centroids
from kmdist.job.job import Job
from kmdist.job.labelling import model_record
from kmdist.job.memory import DECODE_BYTES, PROCESS_BYTES, Projection, Slots
from kmdist.job.options import JobOptions
from kmdist.job.photographs import Photographs, open_photographs
from kmdist.job.progress import Message, Watcher
from kmdist.job.recipe import Inputs, Outline, Results
from kmdist.recipes.segment.labels import Totals, label_all
from kmdist.recipes.segment.model import Scaling, SegmentModel, cluster_colors
from kmdist.recipes.segment.options import SegmentOptions
from kmdist.recipes.segment.rasters import Asked, ProbeRaster, Raster
from kmdist.recipes.segment.rows import (
    count_pixels,
    find_scaling,
    keeps_rows,
    make_rows,
    row_dtype,
)
from kmdist.store import Run

METHODS = ("k-means++", "k-means||", "random")


def open_rasters(
    inputs: Inputs, asked: Asked, options: JobOptions, pool: Pool, watch: Watcher
) -> Photographs:
    """Find files of any channels, and leave out those whose channels are not those of the first.

    Raises
    ------
    UsageError : an input does not exist.
    """
    listed = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    expanded = [one for given in listed for one in _responses_of(given)]
    opened = open_photographs(expanded, options, pool, watch, ProbeRaster(asked))
    rasters = [source for source in opened.sources if isinstance(source, Raster)]
    if not rasters:
        return opened
    names = rasters[0].names
    others = [one for one in rasters if one.names != names]
    if not others:
        return opened
    rejected = [
        Rejection(
            one.name,
            "channels",
            f"channels {', '.join(one.names[:20])}; those of {rasters[0].name} are "
            f"{', '.join(names[:20])}",
        )
        for one in others
    ]
    left = {one.name for one in others}
    blocks = [work.without(left) for work in opened.blocks]
    return replace(
        opened,
        sources=[one for one in rasters if one.name not in left],
        blocks=[work for work in blocks if work.pieces],
        rejected=[*opened.rejected, *rejected],
    )


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


def raster_projection(
    workload: Photographs, slots: Slots, dtype: np.dtype, *, keep: bool
) -> Projection:
    """Projected peak memory: blocks being read, rows and labels of them, kept rows."""
    n_channels = workload.sources[0].channels
    block = max(work.pixels for work in workload.blocks)
    stored = max(np.dtype(source.dtype).itemsize for source in workload.sources)
    each = n_channels * (2 * stored + 2 * dtype.itemsize + 8) + DECODE_BYTES + 16
    parts = [
        ("processes", PROCESS_BYTES * slots.processes),
        ("blocks", slots.threads * block * each),
    ]
    if keep:
        parts.append(("kept rows", workload.pixels * (n_channels * dtype.itemsize + 20)))
    total = sum(size for _, size in parts)
    return Projection(parts, total, slots.memory_bytes, keep)


@dataclass(frozen=True)
class SegmentFit:
    """Cluster the pixels of all images together: a `kmdist.job.recipe.Procedure`."""

    inputs: Inputs
    options: SegmentOptions
    recipe: str = "segment"

    @property
    def asked(self) -> Asked:
        """How files are read."""
        o = self.options
        return Asked(o.channels, o.nodata_values, o.channel_axis, o.z, o.t)

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
        o = self.options
        init = o.init if isinstance(o.init, str) else np.asarray(o.init).tolist()
        return {
            "k": list(o.ks),
            "channels": list(o.channels),
            "scale": o.scale,
            "nodata": list(o.nodata_values),
            "channel_axis": o.channel_axis,
            "z": o.z,
            "t": o.t,
            "init": init,
            "n_init": o.n_init,
            "max_iter": o.max_iter,
            "tol": o.tol,
            "seed": o.seed,
            "block_mpx": o.block_mpx,
            "max_pixels": o.max_pixels,
            **({"fit_only": True} if o.fit_only else {}),
        }

    def outline(self, workload: Photographs, slots: Slots, options: JobOptions) -> Outline:
        """Passes, tasks, memory and results."""
        scaled = self.options.scale != "none"
        dtype = row_dtype(workload, scaled=scaled)
        needed = workload.pixels * workload.sources[0].channels * dtype.itemsize
        keep = options.keep_pixels == "always" or (
            options.keep_pixels == "auto" and needed <= 0.5 * slots.memory_bytes
        )
        passes = 3 + scaled + (self.options.scale == "robust") + (not keep)
        memory = raster_projection(workload, slots, dtype, keep=keep)
        results = workload.label_bytes(len(self.options.ks))
        return Outline(passes, passes * len(workload.blocks), memory, result_bytes=results)

    def run(self, job: Job, workload: Photographs) -> Results:
        """Count, scale, fit every k, label."""
        items, counted = count_pixels(job, workload)
        n_rows = sum(n for name, n in counted.valid.items() if name not in job.rejected)
        ks = self.options.ks
        if max(ks) > n_rows:
            raise UsageError(f"k is {max(ks)}; {n_rows:,} pixels with data make at most as many")
        names = tuple(workload.sources[0].names)  # type: ignore[attr-defined]
        plain = row_dtype(workload, scaled=False)
        scaling = find_scaling(
            job, items, self.options.scale, row_dtype(workload, scaled=True), plain
        )
        keep = keeps_rows(job, n_rows, len(names), scaling.dtype)
        job.require(raster_projection(workload, job.pool, scaling.dtype, keep=keep))
        items, rows = make_rows(job, items, scaling, keep=keep)
        fits = {k: self._fit(job, rows, scaling, k, keep=keep) for k in ks}
        models = [
            (
                f"k{k}" if len(ks) > 1 else "",
                SegmentModel(
                    scaling.restored(state.centroids),
                    cluster_colors(len(state.centroids)),
                    scaling,
                    names,
                ),
            )
            for k, (state, _) in fits.items()
        ]
        del rows
        marked = frozenset(counted.marked) - set(job.rejected)
        write = not self.options.fit_only
        totals = label_all(job, items, models, marked, write=write)
        results = {}
        for (k, (state, history)), (prefix, model), total in zip(
            fits.items(), models, totals, strict=True
        ):
            if model.k < k:
                text = f"{quantity(k, 'cluster')} asked for; there are {model.k} different pixels"
                job.watch(Message(text, warning=True))
            results[k] = write_fit(
                job,
                prefix,
                model,
                total,
                history,
                state.iteration,
                state.stop_reason or "max_iter",
            )
        return Results(results)

    def _fit(
        self, job: Job, rows: Rows, scaling: Scaling, k: int, *, keep: bool
    ) -> tuple[State, np.ndarray]:
        """Centroids of scaled rows, by count, descending; and the history of the fit."""
        o, init = self.options, self._init(scaling, k, rows)
        if keep:
            fit = FitOptions(init, o.n_init, o.max_iter, o.tol, o.seed)
            state, history = fit_centroids(job, rows, k, fit, f"fit-{k}")
        else:
            with job.timed("fit"):
                lloyd = Options(max_iter=o.max_iter, tol=o.tol)
                state = fit_coreset(rows, k, init, lloyd, o.seed, o.n_init)
            history = np.array([[state.inertia, state.shift, float(state.n_repaired)]])
        order = cluster_order(state.counts, state.centroids)
        order = order[state.counts[order] > 0]
        return replace(state, centroids=state.centroids[order], counts=state.counts[order]), history

    def _init(self, scaling: Scaling, k: int, rows: Rows) -> Any:
        """The name of a method, or scaled first centres."""
        given: Any = self.options.init
        if isinstance(given, str) and given in METHODS:
            return given
        if isinstance(given, str):
            try:
                given = np.load(given, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"init {given!r}: neither {', '.join(METHODS)} nor a .npy file: {error}"
                ) from error
        centers = np.asarray(given, np.float64)
        if centers.shape != (k, rows.n_features) or not np.isfinite(centers).all():
            raise UsageError(
                f"init has shape {centers.shape}; ({k}, {rows.n_features}) finite numbers are "
                "needed"
            )
        if scaling.offset is None or scaling.factor is None:
            return centers
        return (centers - scaling.offset) / scaling.factor


def write_fit(
    job: Job,
    prefix: str,
    model: SegmentModel,
    totals: Totals,
    history: np.ndarray,
    n_iter: int,
    stop_reason: str,
) -> dict[str, Any]:
    """The arrays of one k; what the run's record says of it."""
    base = f"{prefix}/" if prefix else ""
    channels, writer = ("cluster", "channel"), job.writer
    mean, sd = totals.mean_and_sd()
    writer.write_array(f"{base}centroids", model.centroids, channels)
    writer.write_array(f"{base}palette", model.palette, channels)
    writer.write_array(f"{base}counts", totals.counts, ("cluster",))
    writer.write_array(f"{base}history", history, ("iteration", "quantity"))
    writer.write_array(f"{base}channel_mean", mean, channels)
    writer.write_array(f"{base}channel_sd", sd, channels)
    return {
        "k": model.k,
        "space": "channels",
        "inertia": totals.total_inertia,
        "n_iter": n_iter,
        "stop_reason": stop_reason,
        **model.record(),
    }


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
        given = self.model.parameters
        return Asked(
            tuple(given.get("channels") or ()),
            tuple(given.get("nodata") or ()),
            given.get("channel_axis"),
            given.get("z"),
            given.get("t"),
        )

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
        asked = self.asked
        return {
            "k": [self.learnt.k],
            "model": model_record(self.model),
            "channels": list(asked.channels),
            "nodata": list(asked.nodata),
            "channel_axis": asked.channel_axis,
            "z": asked.z,
            "t": asked.t,
            "block_mpx": options.block_mpx,
            "max_pixels": options.max_pixels,
        }

    def outline(self, workload: Photographs, slots: Slots, options: JobOptions) -> Outline:
        """Two passes: count, label."""
        blocks = len(workload.blocks)
        memory = raster_projection(workload, slots, self.learnt.scaling.dtype, keep=False)
        return Outline(2, 2 * blocks, memory, result_bytes=workload.label_bytes(1))

    def run(self, job: Job, workload: Photographs) -> Results:
        """Label all images."""
        job.require(raster_projection(workload, job.pool, self.learnt.scaling.dtype, keep=False))
        items, counted = count_pixels(job, workload)
        marked = frozenset(counted.marked) - set(job.rejected)
        (totals,) = label_all(job, items, [("", self.learnt)], marked, counted="it was counted")
        if not totals.counts.any():
            raise NoUsableImageError("no pixel can be labelled", job.rejected.values())
        history = np.array([[totals.total_inertia, 0.0, 0.0]])
        return Results({0: write_fit(job, "", self.learnt, totals, history, 0, "predicted")})
