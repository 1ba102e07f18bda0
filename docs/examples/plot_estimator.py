"""
k-means as an estimator
=======================

:class:`kmdist.KMeans` is scikit-learn's ``KMeans`` for rows in memory, memory maps and Dask
arrays. From the same explicit centres, both come to the same result.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs

import kmdist

X, _ = make_blobs(3000, centers=6, cluster_std=0.7, random_state=4)
start = X[:6]
ours = kmdist.KMeans(6, init=start).fit(X)
theirs = KMeans(6, init=start, n_init=1).fit(X)
print(f"inertia {ours.inertia_:.3f} and {theirs.inertia_:.3f}")
print("same labels:", np.array_equal(ours.labels_, theirs.labels_))

figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
axes.scatter(*X.T, c=ours.labels_, s=4, cmap="viridis")
axes.scatter(*ours.cluster_centers_.T, c="red", marker="x")
