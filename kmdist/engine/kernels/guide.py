"""Centroids in the form that a pass with bounds reads, for whole rows or for their projections."""

from typing import NamedTuple

import numpy as np

from kmdist.engine.kernels.frame import BLUR, PAD, Frame, make_panel
from kmdist.engine.kernels.subspace import Subspace, project

UP = np.float32(1.0 + 2.0**-20)
DOWN = np.float32(1.0 - 2.0**-20)
"""Make up for rounding where bounds are computed in float32."""


class Exact(NamedTuple):
    """What distances from whole rows are computed with, in float32.

    Parameters
    ----------
    local : (k, d) float32, centroids in the frame.
    stretch : a distance is at most this times the one computed, plus `blunt`.
    blunt : float32, in the frame's scale.
    """

    local: np.ndarray
    stretch: np.float32
    blunt: np.float32


def make_exact(centroids: np.ndarray, frame: Frame) -> Exact:
    """Centroids (k, d) as distances from rows in the frame need them."""
    local = (np.asarray(centroids, np.float64) - frame.shift) * frame.scale
    longest = float(np.sqrt((local * local).sum(axis=1).max()))
    stretch = np.float32(1.0 + (local.shape[1] + 16) * 2.0**-24) * UP
    # Rounding of rows and centroids, and of the sum of their differences; and underflow.
    blunt = 2.0**-22 * (frame.max_norm + longest) + BLUR
    return Exact(local.astype(np.float32), stretch, np.float32(blunt))


class Guide(NamedTuple):
    """Centroids in the form the pass reads, for whole rows or for their projections.

    Parameters
    ----------
    scores : (vectors, p + 1, lanes) float32, of `kmdist.engine.kernels.frame.Panel`.
    local : (k, p) float32.
    gamma, longest : relative error of a score, and length of the longest of `local`.
    blur : bound on the error of a distance between the values as given.
    centroids : (k, d) float64, as given.
    exact : for distances from whole rows.
    """

    scores: np.ndarray
    local: np.ndarray
    gamma: float
    longest: float
    blur: np.float32
    centroids: np.ndarray
    exact: Exact


def make_guide(centroids: np.ndarray, frame: Frame) -> Guide:
    """The form of centroids (k, d) that `kmdist.engine.kernels.bounds.assign_bounded` takes."""
    whole = np.ascontiguousarray(centroids, dtype=np.float64)
    exact, panel = make_exact(whole, frame), make_panel(whole, frame)
    return Guide(panel.scores, exact.local, panel.gamma, panel.max_norm, exact.blunt, whole, exact)


def make_projected_guide(
    centroids: np.ndarray, frame: Frame, subspace: Subspace, slots: np.ndarray
) -> Guide:
    """The form that `kmdist.engine.kernels.projected.assign_projected` takes.

    Parameters
    ----------
    centroids : (k, d) floating point.
    frame, subspace : those of the projections.
    slots : (multiple of 16,) int32, which centroid each lane of the panel is for; −1: none.
    """
    whole = np.ascontiguousarray(centroids, dtype=np.float64)
    exact, points = make_exact(whole, frame), project(whole, subspace, frame)
    unmoved = frame._replace(shift=np.zeros(points.shape[1]), scale=1.0)
    panel = make_panel(points[slots], unmoved)
    panel.scores[:, 0][slots.reshape(-1, 16) < 0] = PAD
    blur = np.float32(subspace.blur * (frame.max_norm + panel.max_norm)) + exact.blunt
    return Guide(panel.scores, points, panel.gamma, panel.max_norm, blur, whole, exact)
