"""What a fit looks like after an iteration: the one type that drivers hand to their callers."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class State:
    """The state of a k-means fit after one iteration, enough to show, checkpoint and resume.

    Parameters
    ----------
    centroids : (k, d) floating point, in the space that is clustered.
    counts : (k,) int64, or float64 where the rows are weighted: what was assigned to each
        centroid in this iteration.
    inertia : Σ w‖x − c‖² over the assignment of this iteration; exact for the returned
        centroids once `stop_reason` is set, otherwise as the iteration gave it.
    iteration : iterations done so far; 0 before the first.
    stop_reason : ``'converged'`` (no label changed), ``'tolerance'``, ``'max_iter'``, or None
        while the fit goes on.
    shift : Σ‖new − old‖² over the centroids in this iteration.
    n_repaired : empty clusters that were given a new centre in this iteration.
    """

    centroids: np.ndarray
    counts: np.ndarray
    inertia: float
    iteration: int
    stop_reason: str | None = None
    shift: float = float("inf")
    n_repaired: int = 0
