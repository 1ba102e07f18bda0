"""
Choosing k
==========

:func:`kmdist.select_k` fits several k with shared passes over the rows, scores each and
recommends one.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import make_blobs

import kmdist

X, _ = make_blobs(5000, centers=5, cluster_std=0.8, random_state=1)
found = kmdist.select_k(X, range(2, 11), random_state=0)
print(f"k = {found.k}: {found.reason}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
ks = [one.k for one in found.table]
left.plot(ks, [one.inertia for one in found.table], "o-")
left.axvline(found.k, linestyle="--", color="gray")
left.set_ylabel("inertia")
right.plot(ks, [one.silhouette for one in found.table], "o-")
right.axvline(found.k, linestyle="--", color="gray")
right.set_ylabel("silhouette")
for axes in (left, right):
    axes.set_xlabel("k")
