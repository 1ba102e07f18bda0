"""
Clusters of clusters
====================

:class:`kmdist.BisectingKMeans` splits the cluster of most inertia again and again: a tree, whose
first levels are stable. :func:`kmdist.merge_clusters` goes the other way, from many centroids to
fewer.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import make_blobs

import kmdist

X, _ = make_blobs(4000, centers=9, cluster_std=0.6, random_state=7)
split = kmdist.BisectingKMeans(9, random_state=0).fit(X)
fine = kmdist.KMeans(30, random_state=0).fit(X)
counts = [int((fine.labels_ == i).sum()) for i in range(30)]
merged = kmdist.merge_clusters(fine.cluster_centers_, counts, 9)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.scatter(*X.T, c=split.labels_, s=3, cmap="tab10")
left.set_title("split from one")
right.scatter(*X.T, c=merged.labels[fine.labels_], s=3, cmap="tab10")
right.set_title("joined from 30")
