"""Nearest centroids of rows in memory."""

import numpy as np

from kmdist.engine.kernels.assign import assign
from kmdist.engine.kernels.frame import make_frame
from kmdist.engine.kernels.moments import Moments, moments
from kmdist.engine.rows import require_unmasked, unit_rows


def predict_rows(rows: np.ndarray, centroids: np.ndarray, metric: str = "euclidean") -> np.ndarray:
    """Nearest centroid of each row.

    Parameters
    ----------
    rows : (n, d) real numbers.
    centroids : (k, d) floating point.
    metric : ``'euclidean'``, ``'cosine'`` (rows are divided by their lengths) or
        ``'manhattan'``.

    Returns
    -------
    (n,) int32 : ties go to the lowest index.

    Raises
    ------
    ValueError : a value is NaN or infinite; says where.
    """
    require_unmasked(rows, "X")
    labels = np.empty(len(rows), np.int32)
    if len(rows):
        rows = unit_rows(rows) if metric == "cosine" else rows
        m = require_finite(rows)
        if metric == "manhattan":
            from kmdist.engine.kernels.manhattan import assign_manhattan

            return assign_manhattan(rows, centroids, labels)[0]
        assign(rows, None, centroids, make_frame(m), labels, summed=False)
    return labels


def require_finite(rows: np.ndarray) -> Moments:
    m = moments(rows)
    if m.bad is not None:
        kind = "NaN" if np.isnan(m.bad[3]) else "infinity"
        raise ValueError(f"Input X contains {kind}: row {m.bad[1]:,}, column {m.bad[2]}")
    return m
