"""Merge many small clusters into few that need not be round, through the rows they share.

Each row is tied to its nearest *landmarks* (centroids of many small clusters) with weights that
fall with distance. Two landmarks are alike as far as rows are tied to both: with Z the rows ×
landmarks matrix of weights, the affinity is ZᵀZ, a sum over blocks of rows. Its leading
eigenvectors group the landmarks, and each row takes the group most of its weight is in. This is
landmark-based spectral clustering (Chen, Cai, AAAI 2011), with the landmarks grouped instead of
the rows. Several sets of landmarks, each clustered from another seed, may be used together: what
one set cuts through, another joins.

Per block: `attach`, then `affinity`; merged by `merge_affinities`; then `group_landmarks`, once;
then `vote` per block. Cost: n · p · d to attach n rows to p landmarks, linear in n as p has a
limit (`landmark_count`); the affinity has at most n · (s·r)² and at most p² entries.
"""

from kmdist.estimators.affinity import group_by_affinity
from kmdist.recipes.digits.landmarks.groups import group_landmarks
from kmdist.recipes.digits.landmarks.ties import (
    Attachment,
    Landmarks,
    affinity,
    attach,
    landmark_count,
    merge_affinities,
    nearest_landmarks,
    vote,
    weight_scale,
)

__all__ = [
    "Attachment",
    "Landmarks",
    "affinity",
    "attach",
    "group_by_affinity",
    "group_landmarks",
    "landmark_count",
    "merge_affinities",
    "nearest_landmarks",
    "vote",
    "weight_scale",
]
