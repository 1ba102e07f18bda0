"""The arrays of a fit, and what a record says of it."""

from typing import Any

import numpy as np

from kmdist.recipes.segment.labels import QUANTILES, Totals, quantiles
from kmdist.recipes.segment.wanted import Fitted
from kmdist.store import RunWriter


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
