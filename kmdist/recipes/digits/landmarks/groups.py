"""Landmarks grouped by the leading eigenvectors of their affinity."""

from typing import Any

import numpy as np

from kmdist.estimators.affinity import group_by_affinity
from kmdist.recipes.digits.landmarks.ties import Landmarks, nearest_landmarks


def group_landmarks(landmarks: Landmarks, affinities: Any, k: int) -> np.ndarray:
    """Group landmarks by their affinity; one without rows follows the nearest that has some.

    Parameters
    ----------
    affinities : (p, p), of all rows.
    k : number of groups.

    Returns
    -------
    (p,) int64, 0 … k − 1

    Raises
    ------
    ValueError : fewer landmarks with rows than groups.
    """
    stacked = np.concatenate(landmarks.sets).astype(np.float32)
    labels = group_by_affinity(affinities, k, stacked)
    unused = np.flatnonzero(labels < 0)
    if unused.size:
        used = np.flatnonzero(labels >= 0)
        _, nearest = nearest_landmarks(stacked[unused], np.ascontiguousarray(stacked[used]), 1)
        labels[unused] = labels[used][nearest[:, 0]]
    return labels
