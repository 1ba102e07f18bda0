"""Centroids in the form that a pass with bounds reads, for whole rows or for their projections."""

from typing import NamedTuple

import numpy as np

from kmdist.engine.kernels.frame import Frame, make_panel
from kmdist.engine.kernels.settling import UP, Exact, make_exact
from kmdist.engine.kernels.subspace import Subspace, project


class Guide(NamedTuple):
    """Centroids in the form the pass reads, for whole rows or for their projections.

    Parameters
    ----------
    scores : (vectors, p + 1, lanes) float32, of `kmdist.engine.kernels.frame.Panel`.
    local : (k, p) float32.
    rest : (k,) float32, no less than what of each centroid is not in the subspace; (0,) for whole
        rows.
    gamma, longest : relative error of a score, and length of the longest of `local`.
    blur : bound on the error of a distance between the values as given.
    centroids : (k, d) float64, as given.
    exact : for distances from whole rows.
    """

    scores: np.ndarray
    local: np.ndarray
    rest: np.ndarray
    gamma: float
    longest: float
    blur: np.float32
    centroids: np.ndarray
    exact: Exact


def make_guide(centroids: np.ndarray, frame: Frame, subspace: Subspace | None = None) -> Guide:
    """The form of centroids (k, d) that `assign_bounded` takes."""
    whole = np.ascontiguousarray(centroids, dtype=np.float64)
    exact = make_exact(whole, frame)
    if subspace is None:
        panel = make_panel(whole, frame)
        points, rest, blur = exact.local, np.empty(0, np.float32), exact.blunt
    else:
        points = project(whole, subspace, frame)
        panel = make_panel(points, frame._replace(shift=np.zeros(points.shape[1]), scale=1.0))
        blur = np.float32(subspace.blur * (frame.max_norm + panel.max_norm)) + exact.blunt
        rest = (points[:, -1] + blur) * UP
    return Guide(panel.scores, points, rest, panel.gamma, panel.max_norm, blur, whole, exact)
