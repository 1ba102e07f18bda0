"""What a report of a quantize run shows: quality against the number of colours."""

from collections.abc import Sequence

import numpy as np

from kmdist.job.exhibits import Curves, Exhibit
from kmdist.store import Run


def quality_by_k(run: Run) -> Sequence[Exhibit]:
    """PSNR of the collection against k, from the inertia in sRGB; in other spaces, inertia."""
    if not run.runs:
        return ()
    ks, runs = list(run.runs), list(run.runs.values())
    inertia = np.array([float(one.inertia or 0.0) for one in runs])
    title = "Quality against k"
    if any(one.attributes.get("space", "rgb") != "rgb" for one in runs) or not inertia.all():
        return (Curves(title, "k", ks, {"inertia": inertia.tolist()}),)
    pixels = np.array([np.sum(one.counts) if one.counts is not None else 1 for one in runs])
    psnr = 10 * np.log10(255**2 * 3 * pixels / inertia)
    note = "PSNR of all pixels together, with centroids before they are rounded to 8 bits"
    return (Curves(title, "k", ks, {"PSNR in dB": psnr.tolist()}, note=note),)
